// Command load puts the exposition engine under load, in one process without a cluster: first a real Prometheus scrapes
// it and a baseline while releases change, then many scrapers at once do during many changes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
)

type options struct {
	releases, scrapers, changes int
	watched, stressed           time.Duration
	out                         string
}

func main() {
	var o options
	flag.IntVar(&o.releases, "releases", 10_000, "how many releases to expose")
	flag.IntVar(&o.scrapers, "scrapers", 8, "how many scrapers there are at once")
	flag.IntVar(&o.changes, "changes", 1_000, "changes per second while they do")
	flag.DurationVar(&o.watched, "watched", 2*time.Minute, "how long Prometheus scrapes")
	flag.DurationVar(&o.stressed, "stressed", time.Minute, "how long the scrapers do")
	flag.StringVar(&o.out, "out", "", "file to write the report to, besides standard output")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, stdout io.Writer) error {
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
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(store.Collectors()...)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &engine{store: store, handler: metrics.NewHandler(store, registry), releases: n}, nil
}

// churn upgrades so many releases per second, chosen at random, until the context ends. It returns how many it has
// upgraded.
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
