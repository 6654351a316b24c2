package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// exporter is a running process of the program under test.
type exporter struct {
	url    string // without a slash at its end
	client *http.Client
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended

	mu  sync.Mutex
	log strings.Builder // guarded by mu; all of stderr
}

// listening is the line that tells the port.
var listening = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

// startExporter starts the exporter on a port of its own and returns when it
// listens. It is stopped at the end of the test, where any exit status but 0
// is a failure.
func startExporter(t *testing.T, kubeconfig string, flags ...string) *exporter {
	t.Helper()
	e := &exporter{client: &http.Client{Timeout: patience}, done: make(chan struct{})}
	e.cmd = exec.Command(program("helm-state-metrics"),
		append([]string{"--kubeconfig=" + kubeconfig, "--web.listen-address=127.0.0.1:0"}, flags...)...)
	stderr, err := e.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	go e.follow(stderr, address)
	t.Cleanup(func() { e.stop(t) })
	select {
	case a := <-address:
		e.url = "http://" + a
	case <-e.done:
		t.Fatal("the exporter ended instead of listening")
	case <-time.After(patience):
		t.Fatal("the exporter does not listen")
	}
	return e
}

// follow collects the log until the process ends.
func (e *exporter) follow(stderr io.Reader, address chan<- string) {
	defer close(e.done)
	told := false
	reader := bufio.NewReader(stderr)
	for {
		line, err := reader.ReadString('\n')
		e.mu.Lock()
		e.log.WriteString(line)
		e.mu.Unlock()
		if err != nil {
			break
		}
		if match := listening.FindStringSubmatch(line); match != nil && !told {
			told = true
			address <- match[1]
		}
	}
	_ = e.cmd.Wait() // stop looks at the exit status
}

// logged returns all that was logged so far.
func (e *exporter) logged() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.String()
}

// alive fails the test if the process has ended.
func (e *exporter) alive(t *testing.T) {
	t.Helper()
	select {
	case <-e.done:
		t.Fatalf("the exporter has ended: %s", e.cmd.ProcessState)
	default:
	}
}

// stop asks the exporter to end, which it has to do in time and with status 0.
func (e *exporter) stop(t *testing.T) {
	t.Helper()
	select {
	case <-e.done: // whoever ended it has looked at how
	default:
		_ = e.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-e.done:
		case <-time.After(patience):
			_ = e.cmd.Process.Kill()
			<-e.done
			t.Error("the exporter did not end on SIGTERM")
		}
		if code := e.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the exporter ended with %s on SIGTERM, want status 0", e.cmd.ProcessState)
		}
	}
	if t.Failed() {
		t.Logf("the log of the exporter:\n%s", e.logged())
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

// answers is what a page is expected to answer, for eventually.
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

// awaitReady returns when the exporter says that it is ready.
func (e *exporter) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, patience, e.answers("/readyz", http.StatusOK))
}

// says is what the log is expected to contain, in one of its lines, for
// eventually.
func (e *exporter) says(parts ...string) func() error {
	return func() error {
	line:
		for _, line := range lines(e.logged()) {
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
