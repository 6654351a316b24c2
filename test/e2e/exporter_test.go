package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// exporter is a running process of the program under test.
type exporter struct {
	*process.Process
	url    string // without a slash at its end
	client *http.Client
}

// startExporter starts the exporter on a free port and returns when it listens. The exporter is stopped at the end of
// the test, where any exit status but 0 is a failure.
func startExporter(t *testing.T, kubeconfig string, flags ...string) *exporter {
	t.Helper()
	e := runExporter(t, exec.Command(process.Path("helm-state-metrics"),
		append([]string{"--kubeconfig=" + kubeconfig, "--web.listen-address=127.0.0.1:0"}, flags...)...))
	t.Cleanup(func() { e.stop(t) })
	return e
}

// listening is the line of the log that contains the address.
var listening = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

// runExporter runs a command that starts the exporter, and returns when the exporter listens.
func runExporter(t *testing.T, cmd *exec.Cmd) *exporter {
	t.Helper()
	p, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	match, err := p.AwaitLine(ctx, listening)
	if err != nil {
		p.Kill()
		t.Fatalf("%v\n%s", err, p.Output())
	}
	return &exporter{Process: p, url: "http://" + match[1], client: &http.Client{Timeout: patience}}
}

// alive fails the test if the process has ended.
func (e *exporter) alive(t *testing.T) {
	t.Helper()
	if e.Ended() {
		t.Fatal(e.Failure())
	}
}

// stop asks the exporter to end, which it has to do in time and with exit status 0.
func (e *exporter) stop(t *testing.T) {
	t.Helper()
	if err := e.Stop(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("the log of the exporter:\n%s", e.Output())
	}
}

// get returns the status and the body of an answer.
func (e *exporter) get(path string) (status int, body string, err error) {
	resp, err := e.client.Get(e.url + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// answers returns a check that a page is answered with a status and contains all parts.
func (e *exporter) answers(path string, status int, parts ...string) func() error {
	return func() error {
		got, body, err := e.get(path)
		if err != nil {
			return err
		}
		if got != status {
			return fmt.Errorf("%s answers %d, want %d: %s", path, got, status, lines(body + "\n")[0])
		}
		for _, part := range parts {
			if !strings.Contains(body, part) {
				return fmt.Errorf("%s answers %q, which should contain %q", path, body, part)
			}
		}
		return nil
	}
}

// awaitReady returns when the exporter is ready.
func (e *exporter) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, patience, e.answers("/readyz", http.StatusOK))
}

// says returns a check that one line of the log contains all parts.
func (e *exporter) says(parts ...string) func() error {
	return func() error {
	line:
		for _, line := range lines(e.Output()) {
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue line
				}
			}
			return nil
		}
		return fmt.Errorf("no line of the log contains all of %q", parts)
	}
}
