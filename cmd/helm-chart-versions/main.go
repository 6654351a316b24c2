// Command helm-chart-versions shows which Helm releases run an older version of their chart than the latest. It scrapes
// helm-state-metrics and asks chart repositories, and has no right in Kubernetes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
	"github.com/helm-state-metrics/helm-state-metrics/internal/cli"
	"github.com/helm-state-metrics/helm-state-metrics/internal/serve"
	"github.com/helm-state-metrics/helm-state-metrics/internal/versions"
)

const name = "helm-chart-versions"

func main() { cli.Main(name, start) }

// start runs the program until the context ends, or once.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, err := parseFlags(args, stdout)
	if err != nil || cfg == nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // which would end the process otherwise
	defer signal.Stop(hup)
	cfg.log.Writer = stderr
	logger := promslog.New(&cfg.log)
	tracker, err := newTracker(cfg, logger)
	if err != nil {
		return err
	}
	if _, err := memlimit.Set(memlimit.WithRatio(0.9)); err != nil {
		logger.Debug("There is no memory limit", "err", err)
	}
	if cfg.once {
		return once(ctx, tracker, cfg.output, stdout)
	}
	server, err := listen(cfg, tracker, prometheus.NewPedanticRegistry(), logger)
	if err != nil {
		return err
	}
	logger.Info("Starting "+name, "version", version.Info())
	var group run.Group
	group.Add(cli.Actor(ctx, tracker.Run))
	group.Add(cli.Actor(ctx, server.Run))
	group.Add(cli.Actor(ctx, func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hup:
				tracker.Reload()
			}
		}
	}))
	return group.Run()
}

func newTracker(cfg *config, logger *slog.Logger) (*versions.Tracker, error) {
	client := commonconfig.HTTPClientConfig{TLSConfig: commonconfig.TLSConfig{CAFile: cfg.caFile}}
	if cfg.tokenFile != "" {
		client.Authorization = &commonconfig.Authorization{Type: "Bearer", CredentialsFile: cfg.tokenFile}
	}
	var err error
	t := cfg.tracker
	if t.Client, err = commonconfig.NewClientFromConfig(client, "exporter"); err != nil {
		return nil, fmt.Errorf("client for the exporter: %w", err)
	}
	options := chartrepo.Options{UserAgent: name + "/" + version.Version, DockerConfig: cfg.dockerConfig}
	t.Open = func(c chartrepo.Config) versions.Asker { return chartrepo.New(c, options) }
	t.Logger = logger
	return versions.New(t)
}

// listen opens the addresses.
func listen(cfg *config, tracker *versions.Tracker, registry *prometheus.Registry, logger *slog.Logger) (*serve.Server, error) {
	if err := errors.Join(
		registry.Register(tracker.Collector()), registry.Register(collectors.NewGoCollector()),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})), registry.Register(versioncollector.NewCollector("helm_chart_versions")),
	); err != nil {
		return nil, err
	}
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelError)})
	shown, err := tracker.Routes(version.Version, serve.LimitScrapes(metrics))
	if err != nil {
		return nil, err
	}
	probes := http.NewServeMux()
	probes.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	probes.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := tracker.WhyNotReady(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return serve.Listen(cfg.listen, shown, logger, serve.Plain{Flag: "health.listen-address", Address: cfg.health, Serves: "probes", Handler: probes})
}
