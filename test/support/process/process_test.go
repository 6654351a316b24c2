package process_test

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

func start(t *testing.T, script string) *process.Process {
	t.Helper()
	p := expect.Value(process.Start(exec.Command("sh", "-c", script)))(t)
	t.Cleanup(p.Kill)
	return p
}

func TestAwaitLine(t *testing.T) {
	port := regexp.MustCompile(`^port=(\d+)\n`)
	match, err := start(t, "printf 'x port=1\nport='; printf '23\n'; exec sleep 60").AwaitLine(t.Context(), port)
	if err != nil || match[1] != "23" {
		t.Errorf("AwaitLine returns %q, %v, want the group 23", match, err)
	}
	if _, err := start(t, "echo no such thing >&2; exit 3").AwaitLine(t.Context(), port); err == nil ||
		!strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("a process that ends gives the error %v, want its exit status and its last line", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := start(t, "exec sleep 60").AwaitLine(ctx, port); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the deadline the error is %v", err)
	}
}

func TestAwait(t *testing.T) {
	no := func() error { return errors.New("not yet") }
	if err := start(t, "exit 4").Await(t.Context(), time.Millisecond, no); err == nil || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("a process that ends gives the error %v, want its exit status", err)
	}
	if err := start(t, "exec sleep 60").Await(t.Context(), time.Millisecond, func() error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestStop(t *testing.T) {
	started := regexp.MustCompile("started")
	for script, want := range map[string]string{
		"trap 'exit 0' TERM; echo started; while :; do sleep 0.01; done": "",
		"trap 'exit 5' TERM; echo started; while :; do sleep 0.01; done": "exit status 5",
		"echo started; exec sleep 60":                                    "signal: terminated",
	} {
		p := start(t, script)
		expect.Value(p.AwaitLine(t.Context(), started))(t)
		if err := p.Stop(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("Stop returns %v, want %q", err, want)
		}
		if err := p.Stop(); err != nil {
			t.Errorf("Stop of an ended process returns %v", err)
		}
	}
}
