//go:build unix

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

// targets are the rows that have a reach.
func targets(f findings) []row {
	bytes, base := float64(f.never.Received), float64(f.baseline.Received)
	return []row{
		amount("initial list and watch", inBytes, bytes).
			atMost(base/900, fmt.Sprintf("≤ 1/900 of the baseline (%s)", inBytes.format(base/900))).
			beside(base).noted("received on the wire, TLS included, with --payload=never: 1/%.0f", base/bytes),
		starting(f, "process start until every release is in a scrape", complete).within(3).beside(f.baseline.Complete.Seconds()),
		starting(f, "CPU until then", cpu).within(1.5).beside(f.baseline.CPU.Seconds()),
		amount("peak RSS after the start and scrapes", inBytes, float64(f.steady.PeakRSS)).
			atMost(45e6, "≤ "+inBytes.format(45e6)).beside(float64(f.baselineSteady.PeakRSS)),
		duration("helm upgrade finished until visible, 99th percentile", f.upgrades.P99).within(0.1).
			noted("of %d upgrades, until the end of the scrape; median %s, longest %s; %d were in the first scrape",
				f.upgrades.Count, inSeconds.format(f.upgrades.Median.Seconds()), inSeconds.format(f.upgrades.Max.Seconds()), f.upgrades.AtOnce),
		speedup("full unmarshal ÷ decode, payload of "+largePayload, f.decoding.Large).atLeast(200, "≥ 200×"),
		amount("allocated by decode, payload of "+largePayload, inBytes, f.decoding.Large.HeadBytes).
			atMost(4096, "≤ 4 KiB").beside(f.decoding.Large.UnmarshalBytes),
		speedup("full unmarshal ÷ decode, payload of "+smallPayload, f.decoding.Small).atLeast(10, "≥ 10×"),
	}
}

// details are the rows that explain the others.
func details(f findings) []row {
	return []row{
		starting(f, "process start until the initial list is in", list).beside(f.baseline.List.Seconds()),
		starting(f, "process start until ready", ready).beside(f.baseline.Ready.Seconds()),
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
func (r row) beside(baseline float64) row          { r.Baseline = &baseline; return r }
func (r row) within(seconds float64) row           { return r.atMost(seconds, "≤ "+inSeconds.format(seconds)) }

func (r row) atMost(limit float64, words string) row  { return r.reach(r.Measured <= limit, words) }
func (r row) atLeast(limit float64, words string) row { return r.reach(r.Measured >= limit, words) }

func (r row) reach(met bool, words string) row {
	r.Met, r.Reach = &met, words
	return r
}
