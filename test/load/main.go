// Command load puts the exposition engine under load, in one process without a cluster: first a real Prometheus scrapes
// it and a baseline while releases change, then many scrapers at once do during many changes.
package main

import (
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/prometheus"
)

type options struct {
	releases, scrapers, changes int
	watched, stressed           time.Duration
	out                         string
}

func main() { process.Main("load", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.releases, "releases", 10_000, "how many releases to expose")
	flags.IntVar(&o.scrapers, "scrapers", 8, "how many scrapers there are at once")
	flags.IntVar(&o.changes, "changes", 1_000, "changes per second while they do")
	flags.DurationVar(&o.watched, "watched", 2*time.Minute, "how long Prometheus scrapes")
	flags.DurationVar(&o.stressed, "stressed", time.Minute, "how long the scrapers do")
	flags.StringVar(&o.out, "out", "", "file to write the report to, besides standard output")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has already reported the error.
	}
	engine, err := newEngine(o.releases)
	if err != nil {
		return err
	}
	var report strings.Builder
	fmt.Fprintf(&report, "# Load\n\n%d releases in one process on %d cores (%s), written by `make load`.\n", o.releases, runtime.NumCPU(), runtime.Version())
	watched, err := watch(ctx, o, engine)
	if err != nil {
		return fmt.Errorf("prometheus: %w", err)
	}
	report.WriteString(watched)
	stressed, err := stress(ctx, o, engine)
	if err != nil {
		return fmt.Errorf("scrapers: %w", err)
	}
	report.WriteString(stressed)
	if _, err := io.WriteString(stdout, report.String()); err != nil {
		return err
	}
	if o.out == "" {
		return nil
	}
	return os.WriteFile(o.out, []byte(report.String()), 0o644)
}

// engine is a store of releases that change, and the handler that exposes them.
type engine struct {
	store    *metrics.Store
	handler  http.Handler
	releases int
}

func newEngine(n int) (*engine, error) {
	families, err := metrics.Families(metrics.Options{})
	if err != nil {
		return nil, err
	}
	store := metrics.NewStore(families, true)
	for _, r := range fleet.Of(n) {
		store.Set(r)
	}
	store.Synced()
	registry := client.NewPedanticRegistry()
	registry.MustRegister(store.Collector())
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &engine{store: store, handler: metrics.NewHandler(store, registry), releases: n}, nil
}

// churn upgrades random releases, perSecond of them, until the context ends, and returns how many it has upgraded.
func (e *engine) churn(ctx context.Context, perSecond int) int {
	const ticks = 50 // per second
	ticker := time.NewTicker(time.Second / ticks)
	defer ticker.Stop()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return n
		case <-ticker.C:
			for range perSecond / ticks {
				n++
				e.store.Set(fleet.Member(rand.IntN(e.releases), n))
			}
		}
	}
}

// serve serves on a free port until the context ends, and returns the address.
func serve(ctx context.Context, h http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", h)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(l) }() // ends with the context
	return l.Addr().String(), nil
}

// get makes a request to an address and returns the body of the answer.
func get(ctx context.Context, address, encoding string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(errors.New(resp.Status), resp.Body.Close())
	}
	return resp.Body, nil
}

// churnWhileWatched is how many releases change per second while Prometheus scrapes: a busy day of a large cluster.
const churnWhileWatched = 50

// watch lets Prometheus scrape the engine and the baseline, and reports what it measured.
func watch(ctx context.Context, o options, e *engine) (report string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	engineAddress, err := serve(ctx, e.handler)
	if err != nil {
		return "", err
	}
	baselineAddress, err := serve(ctx, fleet.GaugeVecs(fleet.Of(o.releases)))
	if err != nil {
		return "", err
	}
	body, err := get(ctx, engineAddress, "identity")
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return "", err
	}
	want := prometheus.Count(text, "")
	server, stop, err := startPrometheus(ctx, map[string]string{"engine": engineAddress, "baseline": baselineAddress})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	fmt.Fprintf(os.Stderr, "Prometheus scrapes for %s …\n", o.watched)
	limited, done := context.WithTimeout(ctx, o.watched)
	defer done()
	e.churn(limited, churnWhileWatched)
	if err := ctx.Err(); err != nil {
		return "", err
	}

	report = fmt.Sprintf("\n## Prometheus\n\nA real Prometheus scraped both every 5 s for %s, while %d releases a second got a new revision.\n\n", o.watched, churnWhileWatched)
	report += "| | engine | promhttp over GaugeVecs |\n|---|---|---|\n"
	window := fmt.Sprintf("[%ds]", int(o.watched.Seconds()))
	for _, row := range []struct{ name, query, format string }{
		{"scrapes", "count_over_time(up{job=%q}" + window + ")", "%.0f"},
		{"failed scrapes", "sum_over_time((1 - up{job=%q})" + window[:len(window)-1] + ":5s])", "%.0f"},
		{"samples per scrape, least", "min_over_time(scrape_samples_scraped{job=%q}" + window + ")", "%.0f"},
		{"samples per scrape, most", "max_over_time(scrape_samples_scraped{job=%q}" + window + ")", "%.0f"},
		{"scrape duration, median, s", "quantile_over_time(0.5, scrape_duration_seconds{job=%q}" + window + ")", "%.3f"},
		{"scrape duration, p99, s", "quantile_over_time(0.99, scrape_duration_seconds{job=%q}" + window + ")", "%.3f"},
	} {
		of := map[string]float64{}
		for _, job := range []string{"engine", "baseline"} {
			if of[job], err = query(server, fmt.Sprintf(row.query, job)); err != nil {
				return "", err
			}
		}
		report += fmt.Sprintf("| %s | "+row.format+" | "+row.format+" |\n", row.name, of["engine"], of["baseline"])
		switch got := of["engine"]; {
		case row.name == "failed scrapes" && got > 0:
			return "", fmt.Errorf("%.0f scrapes of the engine failed", got)
		case row.format == "%.0f" && row.name[:7] == "samples" && int(got) != want:
			return "", fmt.Errorf("%s: %.0f, want %d", row.name, got, want)
		}
	}
	return report, nil
}

// startPrometheus starts a server that scrapes the addresses of jobs every five seconds. stop also removes its data.
func startPrometheus(ctx context.Context, jobs map[string]string) (server *prometheus.Server, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "load-prometheus-")
	if err != nil {
		return nil, nil, err
	}
	config := "global: {scrape_interval: 5s, scrape_timeout: 5s}\nscrape_configs:\n"
	for job, address := range jobs {
		config += fmt.Sprintf("- {job_name: %s, honor_labels: true, static_configs: [{targets: [%q]}]}\n", job, address)
	}
	server, err = prometheus.Start(ctx, dir, config)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return server, func() error { return errors.Join(server.Stop(), os.RemoveAll(dir)) }, nil
}

// query returns the value of a query with one result.
func query(server *prometheus.Server, promQL string) (float64, error) {
	samples, err := server.Query(promQL)
	if err != nil {
		return 0, err
	}
	if len(samples) != 1 {
		return 0, fmt.Errorf("%s: %d results, want one", promQL, len(samples))
	}
	return samples[0].Value, nil
}

// stress lets many scrapers scrape as fast as they can while many releases change, and reports latencies and memory.
func stress(ctx context.Context, o options, e *engine) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	address, err := serve(ctx, e.handler)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "%d scrapers during %d changes per second for %s …\n", o.scrapers, o.changes, o.stressed)
	limited, done := context.WithTimeout(ctx, o.stressed)
	defer done()
	before := heapInUse()
	var (
		work      sync.WaitGroup
		mu        sync.Mutex
		latencies []time.Duration
		failures  []error
		changes   int
		peak      = before
	)
	work.Go(func() { changes = e.churn(limited, o.changes) })
	for range o.scrapers {
		work.Go(func() {
			for limited.Err() == nil {
				took, err := scrape(limited, address)
				mu.Lock()
				switch {
				case err == nil:
					latencies = append(latencies, took)
				case limited.Err() == nil:
					failures = append(failures, err)
				}
				peak = max(peak, heapInUse())
				mu.Unlock()
			}
		})
	}
	work.Wait()
	if err := errors.Join(failures...); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	slices.Sort(latencies)
	at := func(p float64) time.Duration {
		return latencies[int(p*float64(len(latencies)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf(`
## Many scrapers, many changes

%d scrapers asked one after the other without a pause for %s, on the same cores, and decompressed each answer up to its checksum, while %d
changes were made (%d per second wanted).

| | |
|---|---|
| scrapes | %d |
| errors | 0 |
| time to the last byte, median | %s |
| time to the last byte, p99 | %s |
| heap in use before, at most | %d MB, %d MB |
`, o.scrapers, o.stressed, changes, o.changes, len(latencies), at(0.5), at(0.99), before>>20, peak>>20), nil
}

// scrape returns how long it took to read a compressed answer up to its checksum.
func scrape(ctx context.Context, address string) (time.Duration, error) {
	start := time.Now()
	body, err := get(ctx, address, "gzip")
	if err != nil {
		return 0, err
	}
	defer body.Close()
	text, err := gzip.NewReader(body)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, text)
	return time.Since(start), err
}

func heapInUse() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse
}
