// Command helm-state-metrics exposes the state of Helm releases to Prometheus.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"slices"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/helm-state-metrics/helm-state-metrics/internal/auth"
	"github.com/helm-state-metrics/helm-state-metrics/internal/cli"
	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/serve"
	"github.com/helm-state-metrics/helm-state-metrics/internal/watch"
	"github.com/helm-state-metrics/helm-state-metrics/internal/web"
)

func main() {
	cli.Main("helm-state-metrics", start)
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
	// client-go notices a connection whose packets are lost within ten seconds: after five without a packet it
	// pings, and five later it gives up. Its defaults, which only the environment changes, are 30 and 15.
	for _, name := range []string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS", "HTTP2_PING_TIMEOUT_SECONDS"} {
		if os.Getenv(name) == "" {
			if err := os.Setenv(name, "5"); err != nil {
				return fmt.Errorf("set $%s: %w", name, err)
			}
		}
	}
	cluster, err := kubeconfig(cfg.kubeconfig)
	if err != nil {
		return err
	}
	followFiles(cluster, logger)
	watcher, server, err := wire(cfg, cluster, prometheus.NewPedanticRegistry(), logger)
	if err != nil {
		return err
	}
	if _, err := memlimit.Set(memlimit.WithRatio(0.9)); err != nil {
		logger.Debug("There is no memory limit", "err", err)
	}
	if os.Getenv("GOGC") == "" {
		// Half of Go's default costs 7% of the CPU of a start, and saves a tenth of the memory and more.
		debug.SetGCPercent(50)
	}
	logger.Info("Starting helm-state-metrics", "version", version.Info(), "server", cluster.Host,
		"storage", cfg.watch.Storages, "namespaces", cfg.watch.Namespaces, "payload", cfg.payload)

	var group run.Group
	group.Add(cli.Actor(ctx, watcher.Run))
	group.Add(cli.Actor(ctx, server.Run))
	return group.Run()
}

// wire builds the components and connects them. It starts nothing, but listens.
func wire(cfg *config, cluster *rest.Config, registry *prometheus.Registry, logger *slog.Logger) (*watch.Watcher, *serve.Server, error) {
	families, err := metrics.Families(cfg.metrics)
	if err != nil {
		return nil, nil, err
	}
	w := cfg.watch
	if !metrics.NeedPayloads(families) {
		w.FetchConcurrency = 0 // nothing would be exposed of them
	}
	store := metrics.NewStore(families, w.FetchConcurrency > 0)
	registry.MustRegister(store.Collector(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("helm_state_metrics"))
	w.Sink, w.Registerer, w.Logger = store, registry, logger
	if w.Metadata, w.Core, err = watch.Clients(cluster); err != nil {
		return nil, nil, err
	}
	watcher := watch.New(w)

	s := cfg.web
	s.Metrics, s.Ready, s.Releases = limitScrapes(metrics.NewHandler(store, registry)), watcher.Ready, watcher
	if cfg.authFilter {
		filter := auth.Config{Audiences: cfg.audiences, Registerer: registry, Logger: logger}
		if filter.TokenReviews, filter.SubjectAccessReviews, err = auth.Clients(cluster); err != nil {
			return nil, nil, err
		}
		if err := checkWebConfig(*s.Listen.WebConfigFile, logger); err != nil {
			return nil, nil, err
		}
		s.Metrics = auth.New(filter).Wrap(s.Metrics)
	}
	s.ReadsPayloads, s.Version, s.Logger = w.FetchConcurrency > 0, version.Version, logger
	s.Shard, s.TotalShards = w.Shard, w.TotalShards
	server, err := web.Listen(s)
	return watcher, server, err
}

// limitScrapes limits scrapes of everything, and apart from them those of single namespaces: tenants must not keep the
// platform out.
func limitScrapes(h http.Handler) http.Handler {
	all, some := serve.LimitScrapes(h), serve.LimitScrapes(h)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if len(req.URL.Query()["namespace"]) > 0 {
			some.ServeHTTP(w, req)
		} else {
			all.ServeHTTP(w, req)
		}
	})
}

// checkWebConfig returns an error if a web config file does not go with --auth-filter. The exporter-toolkit checks
// the file itself.
func checkWebConfig(file string, logger *slog.Logger) error {
	var cfg struct {
		TLS   map[string]any `json:"tls_server_config"`
		Users map[string]any `json:"basic_auth_users"`
	}
	if file != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(text, &cfg)
		}
		if err != nil {
			return fmt.Errorf("--web.config.file=%s: %w", file, err)
		}
	}
	if len(cfg.Users) > 0 {
		return fmt.Errorf("--web.config.file=%s has basic_auth_users, which exclude --auth-filter: both need the header Authorization", file)
	}
	if len(cfg.TLS) == 0 {
		logger.Warn("Tokens for --auth-filter come over plain HTTP; set --web.config.file with a certificate")
	}
	return nil
}

// kubeconfig finds the cluster by the usual rules: the given file, then $KUBECONFIG, then ~/.kube/config, then
// the cluster that this process runs in.
func kubeconfig(path string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	// client-go takes a missing file of $KUBECONFIG for an empty one, and would use whatever cluster the other
	// rules find.
	env := os.Getenv(clientcmd.RecommendedConfigPathEnvVar)
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	if path == "" && env != "" && !slices.ContainsFunc(rules.Precedence, exists) {
		return nil, fmt.Errorf("kubeconfig: no file of $%s=%s exists", clientcmd.RecommendedConfigPathEnvVar, env)
	}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("kubeconfig: no cluster found; name one by --kubeconfig, $KUBECONFIG or ~/.kube/config, or run inside it")
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	cfg.UserAgent = "helm-state-metrics/" + version.Version
	cfg.Wrap(func(base http.RoundTripper) http.RoundTripper { return direct{base} })
	return cfg, nil
}

// direct fails on redirects, which an API server has no use for. client-go follows them, and sends its token, or the
// one that it asks about, to any host, over plain HTTP, too.
type direct struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := d.base.RoundTrip(req)
	if err == nil && resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "" {
		_ = resp.Body.Close() // it has nothing of interest
		return nil, fmt.Errorf("the API server redirects to another address (%d), which is not followed", resp.StatusCode)
	}
	return resp, err
}

// WrappedRoundTripper implements net.RoundTripperWrapper of apimachinery.
func (d direct) WrappedRoundTripper() http.RoundTripper { return d.base }
