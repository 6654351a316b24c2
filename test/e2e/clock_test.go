package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// newClockStage is that of an exporter whose clock is off by as many seconds as a file says. Go reads the clock of the
// kernel without a call that could be intercepted, so the exporter is built with another time.Now, which takes minutes.
func newClockStage(t *testing.T) *stage {
	t.Helper()
	s := newServerStage(t)
	s.setClock(t, 0)
	command := exporterCommand(shared.kubeconfig(t, s.relay.access()))
	command.Path, command.Env = buildWithClock(t), append(os.Environ(), "CLOCK="+s.clock())
	s.exporter.stop(t)
	s.exporter = startCommand(t, command)
	s.exporter.awaitReady(t)
	return s
}

func (s *stage) clock() string { return filepath.Join(shared.dir, "clock") }

// setClock sets by how many seconds the clock is off.
func (s *stage) setClock(t *testing.T, seconds int) {
	t.Helper()
	expect.NoError(t, os.WriteFile(s.clock(), fmt.Appendf(nil, "%d", seconds), 0o600))
}

// jump is added to the package time. It is the same each time, so that go build finds what it has built before.
const jump = `package time

import (
	"sync/atomic"
	"syscall"
)

// ahead is by how many seconds the clock is off. It is read in the background: timers call Now where no file can be read.
var ahead atomic.Int64

func jump() int64 { return ahead.Load() }

func init() {
	if name, _ := syscall.Getenv("CLOCK"); name != "" {
		go follow(name)
	}
}

func follow(name string) {
	for digits := make([]byte, 16); ; Sleep(10 * Millisecond) {
		file, err := open(name)
		if err != nil {
			continue
		}
		n, _ := read(file, digits)
		closefd(file)
		if seconds, err := atoi(digits[:n]); err == nil {
			ahead.Store(int64(seconds))
		}
	}
}
`

// buildWithClock builds the exporter with a clock that is off by the number in the file $CLOCK, and returns its path.
func buildWithClock(t *testing.T) string {
	t.Helper()
	root := strings.TrimSpace(string(expect.Value(exec.Command("go", "env", "GOROOT").Output())(t)))
	original := filepath.Join(root, "src", "time", "time.go")
	text := string(expect.Value(os.ReadFile(original))(t))
	const call = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(text, call) != 1 {
		t.Fatalf("%s is not as expected", original)
	}
	replaced := writeFile(t, "time.go", strings.Replace(text, call, call+"\tsec += jump()\n", 1))
	overlay := expect.Value(json.Marshal(map[string]any{"Replace": map[string]string{
		original: replaced, filepath.Join(filepath.Dir(original), "jump.go"): writeFile(t, "jump.go", jump),
	}}))(t)
	program := filepath.Join(t.TempDir(), "helm-state-metrics")
	build := exec.Command("go", "build", "-buildvcs=false", "-overlay="+writeFile(t, "overlay.json", string(overlay)), "-o", program,
		"./cmd/helm-state-metrics")
	build.Dir, build.Env = process.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	return program
}

// clockJumps is a fault that sets the clock, and breaks the connection to the API server.
func clockJumps(what string, seconds int, sign sign) fault {
	return fault{what: what, sign: sign, begin: func(t *testing.T, s *stage) func() {
		s.setClock(t, seconds)
		eventually(t, patience, func() error { return s.isAhead(seconds) })
		reset(t, s)
		return func() { s.setClock(t, 0) }
	}}
}

// isAhead asks the exporter for its time, which each response has, and returns an error unless it is off by so many seconds.
func (s *stage) isAhead(seconds int) error {
	resp, err := s.exporter.client.Get(s.exporter.url("/livez"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	now, err := http.ParseTime(resp.Header.Get("Date"))
	if err == nil && (time.Until(now)-time.Duration(seconds)*time.Second).Abs() > time.Minute {
		err = fmt.Errorf("it is %s", now)
	}
	return err
}

var clockFaults = []fault{
	clockJumps("an hour ahead, and the connection lost", 3600, sign{}),
	clockJumps("a day behind, when the certificate of the API server is not valid yet, and the connection lost", -24*3600,
		sign{"watch_up 0, log", func(s *stage) error {
			return errors.Join(watchDown.seen(s), s.exporter.says("level=ERROR", "not yet valid")())
		}}),
}

// TestClock sets the clock of the exporter. It is a part of make chaos.
func TestClock(t *testing.T) {
	if *faultTimes == 1 {
		t.Skip("it builds the standard library; run make chaos")
	}
	s, report := newClockStage(t), &faultReport{}
	for _, f := range clockFaults {
		var told, healed []time.Duration
		for n := range *faultTimes {
			after, took := s.suffer(t, f, longer(n))
			told, healed = append(told, after), append(healed, took)
		}
		report.add("clock of the exporter", f, told, healed)
	}
	writeReport(t, "clock", report.faults())
}
