package main

import (
	"bytes"
	"context"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

func TestParseBenchmarks(t *testing.T) {
	const text = `goos: linux
BenchmarkDecode/34KB-2         	   11530	    20 ns/op	     34172 payload-bytes	      88 B/op	       3 allocs/op
BenchmarkDecode/34KB-2         	   11530	    90 ns/op	     34172 payload-bytes	      88 B/op	       3 allocs/op
BenchmarkDecode/34KB-2         	   11530	    10 ns/op	     34172 payload-bytes	      88 B/op	       3 allocs/op
BenchmarkDecode/470KB-2        	   10000	    50 ns/op	    470172 payload-bytes	      99 B/op	       3 allocs/op
BenchmarkUnmarshal/34KB-2      	     300	    2.5e3 ns/op	    1000 B/op	     700 allocs/op
BenchmarkUnmarshal/470KB-2     	      10	    80000 ns/op	    2000 B/op	     700 allocs/op
PASS
`
	got := expect.Value(parseBenchmarks(text))(t)
	want := decoding{
		Small: comparison{Head: 20, Unmarshal: 2500, HeadBytes: 88, UnmarshalBytes: 1000},
		Large: comparison{Head: 50, Unmarshal: 80000, HeadBytes: 99, UnmarshalBytes: 2000},
	}
	expect.Equal(t, "the results differ", want, got)
	if _, err := parseBenchmarks(strings.ReplaceAll(text, "Unmarshal/470KB", "Other")); err == nil {
		t.Error("a benchmark that did not run is no error")
	}
}

func TestQuantile(t *testing.T) {
	var values []time.Duration
	for i := range 200 {
		values = append(values, time.Duration(200-i))
	}
	for share, want := range map[float64]time.Duration{0.5: 100, 0.99: 198, 1: 200, 0.001: 1} {
		if got := quantile(values, share); got != want {
			t.Errorf("quantile %v is %d, want %d", share, got, want)
		}
	}
	if got := quantile(values[:1], 0.99); got != 200 {
		t.Errorf("the quantile of one value is %d, want that value", got)
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		unit  unit
		value float64
		want  string
	}{
		{inBytes, 88, "88 B"},
		{inBytes, 413_500, "414 kB"},
		{inBytes, 37_250_000, "37.2 MB"},
		{inSeconds, 1.234, "1.23 s"},
		{inSeconds, 3, "3 s"},
		{inSeconds, 0.1, "100 ms"},
		{inSeconds, 0.0000523, "52.3 µs"},
		{inSeconds, 0, "0 s"},
		{inTimes, 254.4, "254×"},
		{inNumbers, 13018, "13018"},
		{inBytes, -1_500_000, "-1.50 MB"},
		{inNumbers, -0.3, "0"},
	} {
		if got := c.unit.format(c.value); got != c.want {
			t.Errorf("%v %s is written %q, want %q", c.value, c.unit, got, c.want)
		}
	}
}

func TestMissedFiguresAreMarked(t *testing.T) {
	r := report{Targets: []row{
		amount("fast enough", inSeconds, 0.05).within(0.1),
		amount("too slow", inSeconds, 0.2).within(0.1).beside(4),
	}}
	for _, want := range []string{"1 of 2 figures MISSED", "| too slow | 200 ms | ≤ 100 ms | MISSED | 4 s |  |"} {
		if !strings.Contains(r.markdown(), want) {
			t.Errorf("%q is missing in\n%s", want, r.markdown())
		}
	}
}

func TestRevisionsDifferInTheirHeads(t *testing.T) {
	records := expect.Value(history(config{revisions: 3, namespaces: 50, templates: 30}, 7, 1, 4))(t)
	seen := make(map[string]bool)
	for i, r := range records {
		want := "superseded"
		if i == 2 {
			want = "deployed"
		}
		if r.Labels["version"] != strconv.Itoa(i+1) || r.Labels["status"] != want {
			t.Errorf("record %d has the labels %v; want revision %d, %s", i, r.Labels, i+1, want)
		}
		full := expect.Value(payload.Decode(r.Data[cluster.PayloadKey]))(t)
		head := expect.Value(new(decode.Decoder).Head(bytes.NewReader(r.Data[cluster.PayloadKey])))(t)
		if head.Chart.Version != full.Chart.Metadata.Version || !head.LastDeployed.Equal(full.Info.LastDeployed.Time) {
			t.Errorf("revision %d: the head says %s of %s, the whole %s of %s", i+1,
				head.Chart.Version, head.LastDeployed, full.Chart.Metadata.Version, full.Info.LastDeployed)
		}
		seen[head.Chart.Version] = true
	}
	if len(records) != 3 || len(seen) != 3 {
		t.Errorf("%d records have %d chart versions, want 3 of 3 revisions", len(records), len(seen))
	}
}

// TestFloods is the short form of make flood and make soak.
func TestFloods(t *testing.T) {
	t.Parallel()
	expect.NoError(t, process.Missing("cluster", "helm-state-metrics"))
	cfg := config{
		exporter: process.Path("helm-state-metrics"), releases: 100, namespaces: 20, templates: 1,
		times: 200, others: 200, lasts: 2 * time.Second, soak: 3 * time.Second,
	}
	for name, do := range map[string]func(context.Context, config, io.Writer, io.Writer) error{"flood": measureFloods, "soak": soak} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect.NoError(t, do(t.Context(), cfg, t.Output(), t.Output()))
		})
	}
}

func TestALeakIsSeen(t *testing.T) {
	var samples []sample
	for n := range 300 {
		at := time.Duration(n) * 5 * time.Second
		noise := float64(n*7919%100)*1e4 - 5e5
		samples = append(samples, sample{at: at, rss: 60e6 + 8e3*at.Seconds() + noise, goroutines: 50 + float64(n%3)})
	}
	leak := fit(samples, func(s sample) float64 { return s.rss })
	if math.Abs(leak.perSecond-8e3) > 100 || math.Abs(leak.growth-11.96e6) > 2e5 || leak.uncertain > 100 {
		t.Errorf("8 kB a second are seen as %+v", leak)
	}
	leak.name, leak.unit, leak.most = "resident memory", inBytes, 6e6
	steady := fit(samples, func(s sample) float64 { return s.goroutines })
	steady.name, steady.most = "goroutines", 5
	if err := grown([]trend{leak, steady}); err == nil || strings.Contains(err.Error(), "goroutines") || !strings.Contains(err.Error(), "resident memory") {
		t.Errorf("got %v, want an error about the memory alone", err)
	}
	if err := grown([]trend{{name: "nothing measured", growth: math.NaN(), most: 1}}); err == nil {
		t.Error("a soak without samples is no error")
	}
}

func TestAFloodIsJudged(t *testing.T) {
	fine := flood{newest: 3, gets: 3, right: time.Second, scrapes: []time.Duration{1}, pages: []time.Duration{1}, still: true}
	for what, exceed := range map[string]func(*flood){
		"":            func(*flood) {},
		"right after": func(f *flood) { f.right = 6 * time.Second },
		"GETs":        func(f *flood) { f.gets++ },
		"peak RSS":    func(f *flood) { f.rss = 1e9 },
		"watch":       func(f *flood) { f.events = 1 },
		"bytes":       func(f *flood) { f.received = 2000 },
		"scrape, p99": func(f *flood) { f.scrapes[0] = 3 * time.Second },
		"longest":     func(f *flood) { f.slow, f.scrapes[0] = true, 6*time.Second },
		"page":        func(f *flood) { f.pages[0] = 3 * time.Second },
	} {
		one := fine
		one.scrapes, one.pages = slices.Clone(fine.scrapes), slices.Clone(fine.pages)
		exceed(&one)
		one.judge()
		if got := strings.Join(one.missed, "; "); (what == "") != (got == "") || !strings.HasPrefix(got, what) || len(one.missed) > 1 {
			t.Errorf("missed is %q, want %q", got, what)
		}
	}
}
