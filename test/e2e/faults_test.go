package e2e_test

import (
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/docs"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

var (
	faultTimes   = flag.Int("fault-times", 1, "how often TestFaults causes each fault; with more than 1, also those that take long, and each is held for longer every other time")
	faultCycles  = flag.Int("cycles", 10, "how many quick faults TestFaults causes in random order, before and after which it compares what the exporter holds")
	faultsReport = flag.String("faults-report", "", "the file into which TestFaults writes its tables")
)

// fault is something that goes wrong for a time, while an exporter runs.
type fault struct {
	what string // what goes wrong, for the table
	// begin causes the fault, and returns what ends it. Both may replace the exporter of the stage.
	begin func(t *testing.T, s *stage) (end func())
	// sign is what a user can see meanwhile; the fault lasts until it is seen. It is the zero sign if there is none.
	sign  sign
	still bool // no record can be written meanwhile
	quick bool // one of the cycles
	long  bool // takes too long for make test
}

// sign is how the exporter says that something is wrong.
type sign struct {
	text string // for the table
	seen func(s *stage) error
}

// faultGroup is a part of the table, whose faults happen to one exporter, one after the other.
type faultGroup struct {
	name   string
	stage  func(t *testing.T) *stage
	faults []fault
}

var faultGroups = []faultGroup{
	{"API server and network", newServerStage, serverFaults},
	{"API server without WatchList, and its etcd", newOldStage, oldFaults},
	{"API server without cache", newUncachedStage, uncachedFaults},
	{"credentials", newCredentialsStage, credentialFaults},
	{"credentials, lists not streamed", newPlainListStage, listFaults},
	{"exporter", newServerStage, exporterFaults},
}

// stage is an exporter to which faults happen, and the world that it has to expose.
type stage struct {
	*world
	exporter    *exporter
	start       func()       // starts it
	relay       serverRelay  // between the exporter and the API server, or the proxy
	proxy       *proxy       // between the relay and the API server at times
	leads       string       // where the relay leads to: the URL of either
	etcd        serverRelay  // between the API server and etcd
	since       time.Time    // when the fault began
	credentials *credentials // of the exporter; nil for the administrator's
}

// TestFaults causes faults while an exporter runs, and changes records meanwhile. Within some seconds of the end of a
// fault /metrics and the JSON must be what the records say, without a restart. It is not parallel because it kills the
// API server of all tests.
func TestFaults(t *testing.T) {
	report := &faultReport{}
	for _, group := range faultGroups {
		if *faultTimes == 1 && !slices.ContainsFunc(group.faults, func(f fault) bool { return !f.long }) {
			continue
		}
		t.Run(group.name, func(t *testing.T) {
			s := group.stage(t)
			for _, f := range group.faults {
				if f.long && *faultTimes == 1 {
					continue
				}
				t.Run(f.what, func(t *testing.T) {
					var told, healed []time.Duration
					for n := range *faultTimes {
						after, took := s.suffer(t, f, longer(n))
						told, healed = append(told, after), append(healed, took)
					}
					report.add(group.name, f, told, healed)
				})
			}
			s.cycles(t, group.faults, report)
		})
	}
	if *faultsReport != "" && !t.Failed() {
		docs.Check(t, true, docs.Part{File: *faultsReport, Name: "faults", Text: report.faults()},
			docs.Part{File: *faultsReport, Name: "growth", Text: report.growth.String()})
	}
}

// longer is for how long a fault is held the nth time, after its sign was seen: every other time for longer than the
// longest delay between two attempts.
func longer(n int) time.Duration { return time.Duration(n%2) * 5 * time.Second }

// suffer causes a fault once. It returns how long it took until its sign was seen, and how long after the end of the
// fault the exporter was right.
func (s *stage) suffer(t *testing.T, f fault, hold time.Duration) (told, healed time.Duration) {
	t.Helper()
	s.since = time.Now()
	end := sync.OnceFunc(f.begin(t, s))
	t.Cleanup(end) // also if the test fails: other tests have the same API server
	if f.sign.seen != nil {
		eventually(t, noticedWithin, func() error { return f.sign.seen(s) })
		told = time.Since(s.since)
	}
	for range 3 {
		if !f.still {
			s.operate(t)
		}
	}
	select {
	case <-time.After(hold):
	case <-t.Context().Done():
	}
	end()
	s.operate(t) // What happens as soon as it is over has to be seen, too.
	return told, s.agrees(t, s.exporter, healedWithin)
}

// cycles causes quick faults in random order. The exporter must not hold more after them than after the first ones.
func (s *stage) cycles(t *testing.T, faults []fault, report *faultReport) {
	t.Helper()
	faults = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !f.quick })
	if len(faults) == 0 || *faultCycles == 0 {
		return
	}
	run := func(cycles int) {
		for n := range cycles {
			f := faults[s.IntN(len(faults))]
			t.Run(fmt.Sprintf("cycle %d of %d: %s", n+1, cycles, f.what), func(t *testing.T) { s.suffer(t, f, 0) })
		}
	}
	warm := *faultCycles / 4 // After some dozens the heap does not grow any more: see docs/faults.md.
	run(warm)
	before := s.holds(t)
	run(*faultCycles)
	var after []float64
	eventually(t, patience, func() error { // Connections that are not used any more are open for a while.
		after = s.holds(t)
		for i, h := range holdings {
			if after[i] > before[i]+h.allowed {
				return fmt.Errorf("%s: %v after %d more faults, %v before them", h.what, after[i], *faultCycles, before[i])
			}
		}
		return nil
	})
	t.Logf("%v after %d faults, %v after %d more", before, warm, after, *faultCycles)
	fmt.Fprintf(&report.growth, "| | after %d faults | after %d more | at most |\n|---|---:|---:|---:|\n", warm, *faultCycles)
	for i, h := range holdings {
		fmt.Fprintf(&report.growth, "| %s | %.1f | %.1f | + %v |\n", h.what, before[i], after[i], h.allowed)
	}
}

// holdings are what an exporter must not gather, and by how much they may differ: payloads are read over up to four
// connections, which stay open for a while, and each needs two goroutines.
var holdings = []struct {
	what    string
	allowed float64
	of      func(s *stage, all series) float64
}{
	{"goroutines", 12, func(_ *stage, all series) float64 { return all["go_goroutines"] }},
	{"file descriptors", 6, func(_ *stage, all series) float64 { return all["process_open_fds"] }},
	{"connections to the API server", 4, func(s *stage, _ series) float64 { return float64(s.relay.Open()) }},
	{"MB on the heap, after a garbage collection", 2, func(_ *stage, all series) float64 { return all["go_memstats_heap_alloc_bytes"] / 1e6 }},
}

// holds returns what the exporter holds now.
func (s *stage) holds(t *testing.T) []float64 {
	t.Helper()
	expect.NoError(t, s.exporter.answers("/debug/pprof/heap?gc=1", http.StatusOK)())
	all := expect.Value(s.exporter.scrape())(t)
	var values []float64
	for _, h := range holdings {
		values = append(values, h.of(s, all))
	}
	return values
}

// faultReport collects the tables.
type faultReport struct {
	rows   strings.Builder
	all    []time.Duration
	growth strings.Builder
}

func (r *faultReport) add(group string, f fault, told, healed []time.Duration) {
	seen := ""
	if f.sign.text != "" {
		seen = fmt.Sprintf("`%s` after %s", f.sign.text, short(slices.Max(told)))
	}
	slices.Sort(healed)
	r.all = append(r.all, healed...)
	fmt.Fprintf(&r.rows, "| %s | %s | %d | %s | %s | %s |\n", group, f.what, len(healed), seen, short(healed[len(healed)/2]), short(healed[len(healed)-1]))
}

func (r *faultReport) faults() string {
	return fmt.Sprintf("%d faults; the longest took %s to heal.\n\n", len(r.all), short(slices.Max(r.all))) +
		"| where | what goes wrong | times | seen meanwhile | right again: median | longest |\n|---|---|---:|---|---:|---:|\n" + r.rows.String()
}

// short writes a duration for a table.
func short(d time.Duration) string {
	if d < 995*time.Millisecond {
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
