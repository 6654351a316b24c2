package e2e_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/docs"
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
}

// stage is an exporter to which faults happen, and the world that it has to expose.
type stage struct {
	*world
	exporter *exporter
	start    func()      // starts it
	relay    serverRelay // between the exporter and the API server, or the proxy
	proxy    *proxy      // between the relay and the API server at times
	leads    string      // where the relay leads to: the URL of either
}

// TestFaults causes faults while an exporter runs, and changes records meanwhile. Within some seconds of the end of a
// fault /metrics and the JSON must be what the records say, without a restart. It is not parallel because it kills the
// API server of all tests.
func TestFaults(t *testing.T) {
	var table strings.Builder
	for _, group := range faultGroups {
		t.Run(group.name, func(t *testing.T) {
			s := group.stage(t)
			for _, f := range group.faults {
				t.Run(f.what, func(t *testing.T) {
					if f.long && *faultTimes == 1 {
						t.Skip("it takes long; run make chaos")
					}
					var told, healed []time.Duration
					for n := range *faultTimes {
						after, took := s.suffer(t, f, longer(n))
						told, healed = append(told, after), append(healed, took)
					}
					table.WriteString(faultRow(group.name, f, told, healed))
				})
			}
		})
	}
	if *faultsReport != "" && !t.Failed() {
		docs.Check(t, true, docs.Part{File: *faultsReport, Name: "faults", Text: "| where | what goes wrong | times | seen meanwhile | right again: median | longest |\n|---|---|---:|---|---:|---:|\n" + table.String()})
	}
}

// longer is for how long a fault is held the nth time, after its sign was seen: every other time for longer than all
// delays between attempts.
func longer(n int) time.Duration { return time.Duration(n%2) * 15 * time.Second }

// suffer causes a fault once. It returns how long it took until its sign was seen, and how long after the end of the
// fault the exporter was right.
func (s *stage) suffer(t *testing.T, f fault, hold time.Duration) (told, healed time.Duration) {
	t.Helper()
	began := time.Now()
	end := f.begin(t, s)
	for range 3 {
		if !f.still {
			s.operate(t)
		}
	}
	if f.sign.seen != nil {
		eventually(t, noticedWithin, func() error { return f.sign.seen(s) })
		told = time.Since(began)
	}
	select {
	case <-time.After(hold):
	case <-t.Context().Done():
	}
	end()
	s.operate(t) // What happens as soon as it is over has to be seen, too.
	return told, s.agrees(t, s.exporter, healedWithin)
}

func faultRow(group string, f fault, told, healed []time.Duration) string {
	seen := f.sign.text
	if seen != "" {
		seen = fmt.Sprintf("`%s` after %s", seen, short(slices.Max(told)))
	}
	slices.Sort(healed)
	return fmt.Sprintf("| %s | %s | %d | %s | %s | %s |\n", group, f.what, len(healed), seen, short(healed[len(healed)/2]), short(healed[len(healed)-1]))
}

// short writes a duration for a table.
func short(d time.Duration) string {
	if d < 995*time.Millisecond {
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
