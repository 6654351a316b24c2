package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/docs"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

var limitedReleases = flag.Int("limited-releases", 1000, "how many releases the exporter has in TestMemoryLimit")

const (
	// drainedWithin is how long requests in flight may take after SIGTERM.
	drainedWithin = 10 * time.Second
	// terminated is how many releases the exporter has in TestTermination.
	terminated = 2000
	// endsWithin is how long the exporter may take to end after SIGTERM when no request is in flight.
	endsWithin = 3 * time.Second
)

// exporterFaults happen to the exporter itself.
var exporterFaults = []fault{
	{
		what: "killed, and started again",
		begin: func(_ *testing.T, s *stage) func() {
			s.exporter.Kill()
			return s.start
		},
	},
	{
		what: "killed ten times while it starts, at random moments", long: true,
		begin: func(t *testing.T, s *stage) func() {
			s.exporter.Kill()
			kubeconfig := shared.kubeconfig(t, s.relay.access())
			for range 10 {
				p := expect.Value(process.Start(exporterCommand(kubeconfig)))(t)
				select {
				case <-time.After(rand.N(startsWithin)):
				case <-p.Done():
					t.Error(p.Failure())
				}
				p.Kill()
			}
			return s.start
		},
	},
	{
		what: "no file descriptors left, and the connection to the API server lost",
		sign: sign{"log", func(s *stage) error {
			return s.exporter.says("level=ERROR", "Accept error", "too many open files")()
		}},
		begin: withoutDescriptors,
	},
}

// startsWithin is about the time from the start of the exporter until it is ready.
const startsWithin = 600 * time.Millisecond

// withoutDescriptors limits the exporter to few file descriptors, and takes all of them by connections on which nothing
// is asked. None is left for the API server.
func withoutDescriptors(t *testing.T, s *stage) func() {
	t.Helper()
	s.exporter.stop(t)
	command := exporterCommand(shared.kubeconfig(t, s.relay.access()))
	s.exporter = startCommand(t, exec.Command("sh", append([]string{"-c", `ulimit -n 32; exec "$@"`, "sh"}, command.Args...)...))
	s.exporter.awaitReady(t)
	s.exporter.client.CloseIdleConnections()
	s.relay.Off()
	var idle []net.Conn
	for range 64 { // The kernel accepts those that the exporter cannot.
		idle = append(idle, expect.Value(net.Dial("tcp", strings.TrimPrefix(s.exporter.metrics, "http://")))(t))
	}
	eventually(t, patience, s.exporter.says("level=ERROR", "Accept error", "too many open files"))
	s.relay.on(t)
	return func() {
		for _, conn := range idle {
			expect.NoError(t, conn.Close())
		}
		s.exporter.alive(t)
	}
}

// fill creates many releases in a new namespace, whose charts say of themselves what has the given number of letters. It
// returns the series of all of them, and deletes them after the test: exporters of other tests have them, too.
func fill(t *testing.T, releases, letters int) (namespace string, want series) {
	t.Helper()
	namespace = newNamespace(t, "many")
	long := strings.Repeat("1", letters)
	text := expect.Value(payload.Encode(payload.Release{
		Info:  &payload.Info{LastDeployed: payload.Time{Time: time.Unix(1767323045, 0)}},
		Chart: &payload.Chart{Metadata: &payload.Metadata{Name: long, Version: long, AppVersion: long}},
	}))(t)
	want = make(series)
	var mu sync.Mutex
	var writing sync.WaitGroup
	numbers := make(chan int)
	for range 16 {
		writing.Go(func() {
			for n := range numbers {
				s, err := shared.client.CoreV1().Secrets(namespace).
					Create(t.Context(), cluster.Secret(fmt.Sprintf("app-%d", n), 1, "deployed", text), metav1.CreateOptions{})
				if err != nil {
					t.Error(err)
					continue
				}
				x := describe(s, 1)
				x.chart, x.updated = &payload.Metadata{Name: long, Version: long, AppVersion: long}, 1767323045
				mu.Lock()
				view{}.add(want, x)
				mu.Unlock()
			}
		})
	}
	for n := range releases {
		numbers <- n
	}
	close(numbers)
	writing.Wait()
	t.Cleanup(func() {
		all := metav1.ListOptions{}
		if err := shared.client.CoreV1().Secrets(namespace).DeleteCollection(context.Background(), metav1.DeleteOptions{}, all); err != nil {
			t.Error(err)
		}
	})
	return namespace, want
}

// terminate sends SIGTERM. The exporter has to end in time
// and with exit status 0.
func (e *exporter) terminate(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	sent := time.Now()
	e.Signal(syscall.SIGTERM)
	return e.endsAfter(t, sent, within)
}

// endsAfter waits for the exporter to end after a signal, and returns how long it took.
func (e *exporter) endsAfter(t *testing.T, sent time.Time, within time.Duration) time.Duration {
	t.Helper()
	select {
	case <-e.Done():
	case <-time.After(process.StopTimeout):
		t.Fatalf("it has not ended %s after SIGTERM", process.StopTimeout)
	}
	took := time.Since(sent)
	if code := e.ExitCode(); code != 0 || took > within {
		t.Errorf("it ended with exit status %d after %s, want 0 within %s\n%s", code, took, within, e.Output())
	}
	return took
}

// TestTermination sends SIGTERM while the exporter is busy. What is asked of it must be answered, and nothing else may
// delay its end.
func TestTermination(t *testing.T) {
	t.Parallel()
	namespace, want := fill(t, terminated, 1000)
	start := func(t *testing.T) (*exporter, serverRelay) {
		r := newRelay(t)
		r.on(t)
		return startExporter(t, shared.kubeconfig(t, r.access()), "--namespaces="+namespace, "--fetch.concurrency=1"), r
	}
	var mu sync.Mutex
	took := make(map[string]time.Duration)
	for when, test := range map[string]func(*testing.T) time.Duration{
		"during a scrape, whose client gets all of it": func(t *testing.T) time.Duration {
			e, _ := start(t)
			e.awaitReady(t)
			body := e.beginScrape(t)
			sent := time.Now()
			e.Signal(syscall.SIGTERM)
			eventually(t, patience, e.refuses)
			e.alive(t)
			got := expect.Value(parse(string(expect.Value(io.ReadAll(body))(t))))(t)
			expect.Equal(t, "the answer differs", want, got.inNamespaces())
			return e.endsAfter(t, sent, drainedWithin)
		},
		"during a scrape, whose client reads nothing": func(t *testing.T) time.Duration {
			e, _ := start(t)
			e.awaitReady(t)
			e.beginScrape(t)
			return e.terminate(t, drainedWithin+endsWithin)
		},
		"during the initial list": func(t *testing.T) time.Duration {
			e, r := start(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			expect.NoError(t, e.Await(ctx, time.Millisecond, func() error { return atLeast(r.Received(), 32<<10) }))
			expect.NoError(t, r.Stall())
			expect.NoError(t, e.answers("/metrics", http.StatusServiceUnavailable, "initial list")())
			return e.terminate(t, endsWithin)
		},
		"while the API server does not answer": func(t *testing.T) time.Duration {
			r := newRelay(t)
			r.on(t)
			expect.NoError(t, r.Stall())
			e := startExporter(t, shared.kubeconfig(t, r.access()))
			eventually(t, patience, e.answers("/readyz", http.StatusServiceUnavailable))
			return e.terminate(t, endsWithin)
		},
		"during the reads of all payloads": func(t *testing.T) time.Duration {
			e, _ := start(t)
			e.awaitReads(t)
			return e.terminate(t, endsWithin)
		},
		"during the reads of all payloads, which are not answered": func(t *testing.T) time.Duration {
			e, r := start(t)
			e.awaitReads(t)
			expect.NoError(t, r.Stall())
			return e.terminate(t, endsWithin)
		},
		"at ten random moments of its start": func(t *testing.T) (longest time.Duration) {
			for range 10 {
				e, _ := start(t)
				select {
				case <-time.After(rand.N(startsWithin)):
				case <-e.Done():
				}
				longest = max(longest, e.terminate(t, endsWithin))
			}
			return longest
		},
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			after := test(t)
			mu.Lock()
			defer mu.Unlock()
			took[when] = after
		})
	}
	t.Cleanup(func() {
		table := "| SIGTERM | ended after |\n|---|---:|\n"
		for _, when := range slices.Sorted(maps.Keys(took)) {
			table += fmt.Sprintf("| %s | %s |\n", when, short(took[when]))
		}
		writeReport(t, "termination", table)
	})
}

func atLeast(got, want int64) error {
	if got < want {
		return fmt.Errorf("%d so far, want at least %d", got, want)
	}
	return nil
}

// awaitReads waits until some payloads have been read, but by far not all.
func (e *exporter) awaitReads(t *testing.T) {
	t.Helper()
	const pending = "helm_state_metrics_payloads_pending"
	var left float64
	eventually(t, patience, func() error {
		_, body, err := e.getAt(e.metrics + "/metrics?name[]=" + pending)
		if err != nil {
			return err
		}
		all, err := parse(body)
		if left = all[pending]; err != nil || left == 0 || left == terminated {
			return errors.Join(fmt.Errorf("%v payloads are pending", left), err)
		}
		return nil
	})
	if left < terminated/10 {
		t.Fatalf("only %v payloads are pending", left)
	}
}

// refuses returns nil when the exporter does not listen any more.
func (e *exporter) refuses() error {
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.metrics, "http://"))
	if err == nil {
		return errors.Join(errors.New("it still accepts connections"), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return nil
}

// beginScrape asks for /metrics and returns when the answer has begun. The rest of it does not fit into the buffers of the
// connection.
func (e *exporter) beginScrape(t *testing.T) (body io.Reader) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	resp, err := client.Get(e.metrics + "/metrics")
	expect.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.Body
}

// tooLow is a memory limit of which Go uses more than half for itself.
const tooLow = 4 << 20

// TestMemoryLimit runs the exporter with far less memory than it needs. Garbage is then collected all the time, for which
// Go takes at most half of the CPU: the exporter is slower, but right.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	namespace, want := fill(t, *limitedReleases, 10)
	table := "| releases | `GOMEMLIMIT` | ready after | CPU until 5 scrapes later | RSS |\n|---:|---:|---:|---:|---:|\n"
	for _, limit := range []string{"off", fmt.Sprint(tooLow)} {
		command := exporterCommand(shared.kubeconfig(t, access{}), "--namespaces="+namespace)
		command.Env = append(os.Environ(), "GOMEMLIMIT="+limit)
		e := startCommand(t, command)
		eventually(t, 4*patience, e.answers("/readyz", http.StatusOK))
		ready := time.Since(e.Began)
		for range 5 {
			expect.NoError(t, e.shows(want, namespace)())
		}
		all := expect.Value(e.scrape())(t)
		if used := all["go_memstats_heap_inuse_bytes"]; limit != "off" && (all["go_gc_gomemlimit_bytes"] != tooLow || used < tooLow) {
			t.Errorf("the limit is %v, and %v bytes are used", all["go_gc_gomemlimit_bytes"], used)
		}
		table += fmt.Sprintf("| %d | %s | %s | %.1f s | %.0f MB |\n", *limitedReleases, limit, short(ready), all["process_cpu_seconds_total"],
			all["process_resident_memory_bytes"]/1e6)
	}
	writeReport(t, "memory", table)
}

// writeReport logs a table, and writes it into the file of the flag -faults-report.
func writeReport(t *testing.T, name, table string) {
	t.Helper()
	t.Log("\n" + table)
	if *faultsReport != "" && !t.Failed() {
		docs.Check(t, true, docs.Part{File: *faultsReport, Name: name, Text: table})
	}
}
