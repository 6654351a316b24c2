// Command helm-state-metrics exposes the state of Helm releases to Prometheus.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/watch"
	"github.com/helm-state-metrics/helm-state-metrics/internal/web"
)

func main() {
	// Install the signal handler first.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second one ends the process at once
	if err := start(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		// Errors of YAML have several lines.
		fmt.Fprintln(os.Stderr, "helm-state-metrics:", strings.Join(strings.Fields(err.Error()), " "))
		os.Exit(1)
	}
}

// start runs the exporter until the context ends.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, err := parseFlags(args, stdout)
	if err != nil || cfg == nil {
		return err
	}
	cfg.log.Writer = stderr
	logger := promslog.New(&cfg.log)
	klog.SetSlogLogger(logger)
	if err := setPings(); err != nil {
		return err
	}
	cluster, err := kubeconfig(cfg.kubeconfig)
	if err != nil {
		return err
	}
	watcher, server, err := wire(cfg, cluster, prometheus.NewPedanticRegistry(), logger)
	if err != nil {
		return err
	}
	if _, err := memlimit.Set(memlimit.WithRatio(0.9)); err != nil {
		logger.Debug("No memory limit to adapt to", "err", err)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	logger.Info("Starting helm-state-metrics", "version", version.Info(), "server", cluster.Host,
		"storage", cfg.storages, "namespaces", cfg.namespaces, "payload", cfg.payload)

	var group run.Group
	group.Add(actor(ctx, watcher.Run))
	group.Add(actor(ctx, server.Run))
	return group.Run()
}

// setPings has client-go notice a connection whose packets are dropped within
// ten seconds: when nothing has been heard for five it asks, and gives up five
// later. Its own settings, which the environment alone can change, are 30 and 15.
func setPings() error {
	for _, name := range []string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS", "HTTP2_PING_TIMEOUT_SECONDS"} {
		if _, set := os.LookupEnv(name); set {
			continue
		}
		if err := os.Setenv(name, "5"); err != nil {
			return fmt.Errorf("set $%s: %w", name, err)
		}
	}
	return nil
}

// gcPercent is half of Go's default. Most of what is allocated is garbage at
// once: to collect it twice as often costs 7% of the CPU of a start, and saves a
// tenth of the memory and more.
const gcPercent = 50

// actor fits a function that runs until its context ends into a run group.
func actor(ctx context.Context, do func(context.Context) error) (execute func() error, interrupt func(error)) {
	ctx, cancel := context.WithCancel(ctx)
	return func() error { return do(ctx) }, func(error) { cancel() }
}

// wire builds the components and connects them. It starts nothing, but
// listens.
func wire(cfg *config, cluster *rest.Config, registry *prometheus.Registry, logger *slog.Logger) (*watch.Watcher, *web.Server, error) {
	families, err := metrics.Families(metrics.Options{
		AllStatuses:   cfg.allStatuses,
		ReleaseLabels: cfg.releaseLabels,
		Allow:         cfg.allow,
		Deny:          cfg.deny,
	})
	if err != nil {
		return nil, nil, err
	}
	fetches := cfg.fetches()
	if !metrics.NeedPayloads(families) {
		fetches = 0 // nothing would be exposed of them
	}
	store := metrics.NewStore(families, fetches > 0)
	for _, c := range []prometheus.Collector{
		store.Collector(),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("helm_state_metrics"),
	} {
		if err := registry.Register(c); err != nil {
			return nil, nil, fmt.Errorf("register telemetry: %w", err)
		}
	}
	meta, core, err := watch.Clients(cluster)
	if err != nil {
		return nil, nil, err
	}
	watcher := watch.New(watch.Config{
		Metadata:         meta,
		Core:             core,
		Storages:         cfg.storages,
		Namespaces:       cfg.namespaces,
		DeniedNamespaces: cfg.deniedNamespaces,
		ReleaseLabels:    cfg.releaseLabels,
		FetchConcurrency: fetches,
		Sink:             store,
		Registerer:       registry,
		Logger:           logger,
	})
	server, err := web.Listen(web.Config{
		Listen:        cfg.web,
		Metrics:       metrics.NewHandler(store, registry),
		Ready:         watcher.Ready,
		Releases:      watcher,
		ReadsPayloads: fetches > 0,
		Version:       version.Version,
		PProf:         cfg.pprof,
		Logger:        logger,
	})
	return watcher, server, err
}
