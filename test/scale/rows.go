package main

import (
	"fmt"
	"slices"
	"time"
)

// row is one line of the report.
type row struct {
	Figure   string   `json:"figure"`
	Unit     unit     `json:"unit"`
	Measured float64  `json:"measured"`
	Reach    string   `json:"reach,omitempty"`    // what it is to be
	Met      *bool    `json:"met,omitempty"`      // whether it is, if there is a reach
	Baseline *float64 `json:"baseline,omitempty"` // the baseline's figure, if it was measured too
	Note     string   `json:"note,omitempty"`
}

// reach is what is to be reached with a cluster of one size.
type reach struct {
	complete float64 // seconds until every release is in a scrape
	ready    float64 // seconds until ready
	cpu      float64 // seconds of CPU until then
	rss      float64 // bytes of resident memory at the most
	share    float64 // of the baseline's bytes, for the initial list; 0 for no limit
}

// reaches are those that are set, by releases and revisions.
var reaches = map[[2]int]reach{
	{1_000, 10}:  {complete: 1.2, cpu: 0.6, rss: 50e6, share: 1.0 / 90},
	{10_000, 10}: {complete: 9, cpu: 6, rss: 120e6},
	{100_000, 1}: {ready: 45, rss: 300e6},
}

const (
	maxPerRevision = 600
	maxPerWatch    = 100e3
)

// targets are the rows that have a reach.
func targets(cfg config, f findings) []row {
	reach, set := reaches[[2]int{cfg.releases, cfg.revisions}]
	// limit gives a row its reach, if one is set for this size.
	limit := func(r row, most float64) row {
		if !set || most == 0 {
			return r
		}
		return r.atMost(most, "≤ "+r.Unit.format(most))
	}
	bytes, base := float64(f.never.Received), float64(f.baseline.Received)
	list := amount("initial list and watch", inBytes, bytes)
	if base > 0 {
		list = list.beside(base).noted("received on the wire, TLS included, with --payload=never: 1/%.0f", base/bytes)
		if reach.share > 0 {
			list = list.atMost(base*reach.share, fmt.Sprintf("≤ 1/%.0f of the baseline (%s)", 1/reach.share, inBytes.format(base*reach.share)))
		}
	}
	rows := []row{
		list,
		limit(starting(f, "process start until every release is in a scrape", complete), reach.complete).beside(f.baseline.Complete.Seconds()),
		limit(starting(f, "process start until ready", ready), reach.ready).beside(f.baseline.Ready.Seconds()),
		limit(starting(f, "CPU until every release is in a scrape", cpu), reach.cpu).beside(f.baseline.CPU.Seconds()),
		limit(amount("peak RSS after the start and scrapes", inBytes, float64(f.steady.PeakRSS)), reach.rss).beside(float64(f.baselineSteady.PeakRSS)),
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

// details are the rows that explain the others.
func details(f findings) []row {
	return []row{
		starting(f, "process start until the initial list is in", list).beside(f.baseline.List.Seconds()),
		listing("with a streamed list, until it is in", f.whole),
		listing("with a plain list, until it is in", f.plain),
		amount("peak RSS after the start", inBytes, largestRSS(f.starts)).beside(float64(f.baseline.PeakRSS)),
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

func largestRSS(starts []startup) float64 {
	largest := int64(0)
	for _, s := range starts {
		largest = max(largest, s.PeakRSS)
	}
	return float64(largest)
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

func (r row) atMost(limit float64, words string) row  { return r.reach(r.Measured <= limit, words) }
func (r row) atLeast(limit float64, words string) row { return r.reach(r.Measured >= limit, words) }

func (r row) reach(met bool, words string) row {
	r.Met, r.Reach = &met, words
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
	return fmt.Sprintf("%.0f", v)
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
