package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is what is printed, and written as JSON.
type report struct {
	Machine   machine `json:"machine"`
	Releases  int     `json:"releases"`
	Revisions int     `json:"revisions"`
	Payload   int64   `json:"mean_payload_bytes"`
	Targets   []row   `json:"targets"`
	Details   []row   `json:"details"`
}

func newReport(cfg config, f findings) (report, error) {
	m, err := describeMachine()
	return report{
		Machine: m, Releases: cfg.releases, Revisions: cfg.revisions,
		Payload: f.filled.bytes / int64(f.filled.records),
		Targets: targets(cfg, f), Details: details(f),
	}, err
}

// publish prints the report, and writes it to files if the flags say so.
func (r report) publish(cfg config, stdout io.Writer) error {
	document, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, r.markdown()); err != nil || cfg.out == "" {
		return err
	}
	return errors.Join(
		os.WriteFile(cfg.out+".json", append(document, '\n'), 0o644),
		os.WriteFile(cfg.out+".md", []byte(r.markdown()), 0o644),
	)
}

// publish writes a report to standard output, and to a file if the flags say so. It returns the error that the report
// is about.
func publish(cfg config, stdout io.Writer, report func(machine) string, missed error) error {
	m, err := describeMachine()
	if err != nil {
		return err
	}
	text := report(m)
	if _, err := io.WriteString(stdout, text); err != nil {
		return err
	}
	if cfg.out != "" {
		err = os.WriteFile(cfg.out+".md", []byte(text), 0o644)
	}
	return errors.Join(err, missed)
}

func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Figures at scale\n\n")
	fmt.Fprintf(&b, "Written by `make scale` (`test/scale`) on %s. Do not edit.\n\n", r.Machine.Date)
	fmt.Fprintf(&b, "%s\nMachine: %s, which also ran the API server, etcd and Helm.\n\n", r.title(), r.Machine)
	b.WriteString("The baseline, where there is one, works the way exporters did before: one informer holds every record in " +
		"full, and every\npayload is decoded. The API server is a real one. " + r.summary() + "\n\n")
	b.WriteString("| figure | measured | limit | | baseline | remark |\n|---|---:|---:|---|---:|---|\n")
	for _, row := range r.Targets {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", row.Figure, row.measured(), row.Limit, row.verdict(), row.baseline(), row.Note)
	}
	b.WriteString("\nWhat else was seen on the way:\n\n| figure | measured | baseline | remark |\n|---|---:|---:|---|\n")
	for _, row := range r.Details {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", row.Figure, row.measured(), row.baseline(), row.Note)
	}
	return b.String()
}

func (r report) title() string {
	return fmt.Sprintf("%d releases × %d revisions, mean payload %s.", r.Releases, r.Revisions, inBytes.format(float64(r.Payload)))
}

func (r report) summary() string {
	missed, set := 0, 0
	for _, row := range r.Targets {
		if row.Met == nil {
			continue
		}
		if set++; !*row.Met {
			missed++
		}
	}
	if missed > 0 {
		return fmt.Sprintf("%d of %d figures MISSED their limits.", missed, set)
	}
	return fmt.Sprintf("All %d figures meet their limits.", set)
}

func (r row) measured() string { return r.Unit.format(r.Measured) }

func (r row) baseline() string {
	if r.Baseline == nil {
		return ""
	}
	return r.Unit.format(*r.Baseline)
}

func (r row) verdict() string {
	switch {
	case r.Met == nil:
		return ""
	case *r.Met:
		return "ok"
	}
	return "MISSED"
}

// row is one line of the report.
type row struct {
	Figure   string   `json:"figure"`
	Unit     unit     `json:"unit"`
	Measured float64  `json:"measured"`
	Limit    string   `json:"limit,omitempty"`    // that it has to meet, if there is one
	Met      *bool    `json:"met,omitempty"`      // whether it does, if there is a limit
	Baseline *float64 `json:"baseline,omitempty"` // the baseline's figure, if it was measured too
	Note     string   `json:"note,omitempty"`
}

// limits are those for a cluster of one size.
type limits struct {
	complete float64 // seconds until every release is in a scrape
	ready    float64 // seconds until ready
	cpu      float64 // seconds of CPU until then
	rss      float64 // bytes of resident memory at the most
	share    float64 // of the baseline's bytes, for the initial list; 0 for no limit
}

// limitsBySize are the limits that are set, by releases and revisions.
var limitsBySize = map[[2]int]limits{
	{1_000, 10}:  {complete: 1.2, cpu: 0.6, rss: 50e6, share: 1.0 / 90},
	{10_000, 10}: {complete: 9, cpu: 6, rss: 120e6},
	{100_000, 1}: {ready: 45, rss: 300e6},
}

const (
	maxPerRevision = 600
	maxPerWatch    = 100e3
)

// targets are the rows that have a limit.
func targets(cfg config, f findings) []row {
	limits, set := limitsBySize[[2]int{cfg.releases, cfg.revisions}]
	// limit gives a row its limit, if one is set for this size.
	limit := func(r row, most float64) row {
		if !set || most == 0 {
			return r
		}
		return r.atMost(most, "≤ "+r.Unit.format(most))
	}
	bytes, base := float64(f.whole.Received), float64(f.baseline.Received)
	list := amount("initial list and watch", inBytes, bytes)
	if base > 0 {
		list = list.beside(base).noted("received on the wire, TLS included, with --payload=never: 1/%.0f", base/bytes)
		if limits.share > 0 {
			list = list.atMost(base*limits.share, fmt.Sprintf("≤ 1/%.0f of the baseline (%s)", 1/limits.share, inBytes.format(base*limits.share)))
		}
	}
	rows := []row{
		list,
		limit(starting(f, "process start until every release is in a scrape", complete), limits.complete).beside(f.baseline.Complete.Seconds()),
		limit(starting(f, "process start until ready", ready), limits.ready).beside(f.baseline.Ready.Seconds()),
		limit(starting(f, "CPU until every release is in a scrape", cpu), limits.cpu).beside(f.baseline.CPU.Seconds()),
		limit(amount("peak RSS after the start and scrapes", inBytes, float64(f.steady.PeakRSS)), limits.rss).beside(float64(f.baselineSteady.PeakRSS)),
	}
	if further := cfg.releases * (cfg.revisions - 1); further > 0 {
		per := float64(f.whole.PeakRSS-f.single.PeakRSS) / float64(further)
		rows = append(rows, amount("peak RSS per further stored revision", inBytes, per).atMost(maxPerRevision, "≤ "+inBytes.format(maxPerRevision)).
			noted("with --payload=never: %s with one revision of each release, %s with all", inBytes.format(float64(f.single.PeakRSS)), inBytes.format(float64(f.whole.PeakRSS))))
	}
	if further := manyNamespaces - cfg.namespaces; further > 0 {
		per := float64(f.many.PeakRSS-f.named.PeakRSS) / float64(further)
		rows = append(rows, amount("peak RSS per watch of a namespace", inBytes, per).atMost(maxPerWatch, "≤ "+inBytes.format(maxPerWatch)).
			noted("with --payload=never: %s for %d namespaces, %s for %d, the rest of them empty", inBytes.format(float64(f.named.PeakRSS)), cfg.namespaces,
				inBytes.format(float64(f.many.PeakRSS)), manyNamespaces))
	}
	return append(rows,
		duration("helm upgrade finished until visible, 99th percentile", f.upgrades.P99).within(0.1).
			noted("of %d upgrades, until the end of the scrape; median %s, longest %s; %d were in the first scrape",
				f.upgrades.Count, inSeconds.format(f.upgrades.Median.Seconds()), inSeconds.format(f.upgrades.Max.Seconds()), f.upgrades.AtOnce),
		speedup("full unmarshal ÷ decode, payload of "+largePayload, f.decoding.Large).atLeast(200, "≥ 200×"),
		amount("allocated by decode, payload of "+largePayload, inBytes, f.decoding.Large.HeadBytes).
			atMost(4096, "≤ 4 KiB").beside(f.decoding.Large.UnmarshalBytes),
		speedup("full unmarshal ÷ decode, payload of "+smallPayload, f.decoding.Small).atLeast(10, "≥ 10×"),
	)
}

func details(f findings) []row {
	return []row{
		starting(f, "process start until the initial list is in", list).beside(f.baseline.List.Seconds()),
		listing("with a streamed list, until it is in", f.whole),
		listing("with a plain list, until it is in", f.plain),
		amount("peak RSS after the start", inBytes, float64(slices.MaxFunc(f.starts, func(a, b startup) int { return cmp.Compare(a.PeakRSS, b.PeakRSS) }).PeakRSS)).beside(float64(f.baseline.PeakRSS)),
		amount("peak RSS after the upgrades", inBytes, float64(f.upgrades.PeakRSS)),
		amount("received until ready, payloads included", inBytes, float64(f.lazy.Received)).beside(float64(f.baseline.Received)),
		amount("sent until ready, payloads included", inBytes, float64(f.lazy.Sent)).beside(float64(f.baseline.Sent)),
		amount("payload GETs of the start", inNumbers, float64(f.steady.Fetches)),
		amount("series in a scrape", inNumbers, float64(f.steady.Series)).beside(float64(f.baselineSteady.Series)),
		amount("text of a scrape", inBytes, float64(f.steady.Text)).beside(float64(f.baselineSteady.Text)),
		amount("the same compressed", inBytes, float64(f.steady.Wire)).beside(float64(f.baselineSteady.Wire)),
		duration("time of a compressed scrape", f.steady.Took).beside(f.baselineSteady.Took.Seconds()),
		duration("CPU of a compressed scrape", f.steady.CPU).beside(f.baselineSteady.CPU.Seconds()),
		duration("time of a scrape during the upgrades, median", f.upgrades.Scrape),
		duration("helm upgrade itself, median", f.upgrades.HelmTook),
	}
}

func complete(s startup) time.Duration { return s.Complete }
func cpu(s startup) time.Duration      { return s.CPU }
func list(s startup) time.Duration     { return s.List }
func ready(s startup) time.Duration    { return s.Ready }

// listing is what a start with --payload=never took.
func listing(figure string, s startup) row {
	return duration(figure, s.List).noted("with --payload=never: %s of CPU, peak RSS %s, received %s",
		inSeconds.format(s.CPU.Seconds()), inBytes.format(float64(s.PeakRSS)), inBytes.format(float64(s.Received)))
}

// starting is the median of a figure of the starts.
func starting(f findings, figure string, of func(startup) time.Duration) row {
	var all []time.Duration
	for _, s := range f.starts {
		all = append(all, of(s))
	}
	return duration(figure, quantile(all, 0.5)).noted("median of %d starts, %s to %s", len(all),
		inSeconds.format(slices.Min(all).Seconds()), inSeconds.format(slices.Max(all).Seconds()))
}

func amount(figure string, u unit, measured float64) row {
	return row{Figure: figure, Unit: u, Measured: measured}
}

func duration(figure string, measured time.Duration) row {
	return amount(figure, inSeconds, measured.Seconds())
}

func speedup(figure string, c comparison) row {
	return amount(figure, inTimes, c.ratio()).
		noted("%s against %s", inSeconds.format(c.Unmarshal/1e9), inSeconds.format(c.Head/1e9))
}

func (r row) noted(format string, args ...any) row { r.Note = fmt.Sprintf(format, args...); return r }

// beside adds the baseline's figure, 0 if that was not measured.
func (r row) beside(baseline float64) row {
	if baseline > 0 {
		r.Baseline = &baseline
	}
	return r
}

func (r row) within(seconds float64) row { return r.atMost(seconds, "≤ "+inSeconds.format(seconds)) }

func (r row) atMost(limit float64, text string) row  { return r.limited(r.Measured <= limit, text) }
func (r row) atLeast(limit float64, text string) row { return r.limited(r.Measured >= limit, text) }

func (r row) limited(met bool, text string) row {
	r.Met, r.Limit = &met, text
	return r
}

// unit says what the numbers of a row count.
type unit string

const (
	inBytes   unit = "bytes"
	inSeconds unit = "seconds"
	inTimes   unit = "times"
	inNumbers unit = ""
)

// format writes a number for people, with three digits or so.
func (u unit) format(v float64) string {
	if v < 0 && u != inNumbers {
		return "-" + u.format(-v)
	}
	switch u {
	case inBytes:
		return scaled(v, 1000, "B", "kB", "MB", "GB")
	case inSeconds:
		if v == 0 {
			return "0 s"
		}
		return scaled(v*1e9, 1000, "ns", "µs", "ms", "s")
	case inTimes:
		return fmt.Sprintf("%.0f×", v)
	}
	return strconv.Itoa(int(math.Round(v)))
}

// scaled picks the first unit that leaves less than its size, or the last one.
func scaled(v, size float64, units ...string) string {
	for len(units) > 1 && v >= size {
		v /= size
		units = units[1:]
	}
	digits := 0
	if v < 10 && v != float64(int(v)) {
		digits = 2
	} else if v < 100 && v != float64(int(v)) {
		digits = 1
	}
	return fmt.Sprintf("%.*f %s", digits, v, units[0])
}
