// Package web serves the exporter over HTTP: scrapes, the status page and the same as JSON, probes and
// profiles.
package web

import (
	"fmt"
	"html"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"

	toolkit "github.com/prometheus/exporter-toolkit/web"

	"github.com/helm-state-metrics/helm-state-metrics/internal/serve"
)

// Config says what to serve, and where.
type Config struct {
	// Listen are the addresses of the metrics, and the file for TLS and basic auth.
	Listen *toolkit.FlagConfig
	// Health is the address of the probes, which are plain HTTP: the kubelet has neither password nor certificate.
	Health string
	// Pages is the address of the status page and the API; "" closes it.
	Pages string
	// PagesHosts are names by which the pages may be asked for, besides localhost and IP addresses.
	PagesHosts []string
	// Metrics serves /metrics.
	Metrics http.Handler
	// Ready returns what /readyz waits for, nil if nothing.
	Ready func() error
	// Releases are what the status page and the API show.
	Releases Source
	// ReadsPayloads says whether payloads are read at all.
	ReadsPayloads bool
	// Shard of TotalShards is what the exporter shows; TotalShards 0 means 1.
	Shard, TotalShards int
	// Version is the exporter's own.
	Version string
	// PProf adds /debug/pprof/ to the pages.
	PProf  bool
	Logger *slog.Logger
}

// Listen opens the addresses: of metrics for Prometheus, of probes for the kubelet, and of pages for people.
func Listen(cfg Config) (*serve.Server, error) {
	scraped, err := metricsRoutes(cfg)
	if err != nil {
		return nil, err
	}
	shown, err := pagesRoutes(cfg)
	if err != nil {
		return nil, err
	}
	plain := []serve.Plain{{Flag: "health.listen-address", Address: cfg.Health, Serves: "probes", Handler: healthRoutes(cfg)}}
	if cfg.Pages != "" {
		plain = append(plain, serve.Plain{Flag: "pages.listen-address", Address: cfg.Pages, Serves: "pages", Handler: shown})
	}
	s, err := serve.Listen(cfg.Listen, scraped, cfg.Logger, plain...)
	if err == nil && cfg.Pages != "" && isOpen(s.Addresses()[len(s.Addresses())-1]) {
		cfg.Logger.Warn("Who reaches the address of the pages sees the releases of all tenants; put a proxy before it that authenticates", "address", cfg.Pages)
	}
	return s, err
}

// isOpen reports whether others than this machine can reach an address, unless something else prevents it.
func isOpen(address net.Addr) bool {
	at, ok := address.(*net.TCPAddr)
	return !ok || !at.IP.IsLoopback()
}

// metricsRoutes are for Prometheus.
func metricsRoutes(cfg Config) (http.Handler, error) {
	landing, err := toolkit.NewLandingPage(toolkit.LandingConfig{
		Name: "helm-state-metrics", Description: "State of Helm releases for Prometheus", Version: cfg.Version, Profiling: "false",
		Links:     []toolkit.LandingLinks{{Address: "metrics", Text: "Metrics"}},
		ExtraHTML: aboutPages(cfg.Pages),
	})
	if err != nil {
		return nil, fmt.Errorf("landing page: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", landing)
	mux.Handle("GET /metrics", cfg.Metrics)
	return mux, nil
}

// aboutPages says where the pages are.
func aboutPages(address string) string {
	host, port, err := net.SplitHostPort(address)
	switch {
	case address == "":
		return "<p>The releases as a page and as JSON are switched off: --pages.listen-address is empty.</p>"
	case err == nil && (host == "127.0.0.1" || host == "localhost" || host == "::1"):
		return fmt.Sprintf("<p>The releases as a page and as JSON are on the loopback interface of this pod: "+
			"<code>kubectl -n NAMESPACE port-forward POD %[1]s</code>, then open <code>http://localhost:%[1]s/</code>.</p>", html.EscapeString(port))
	}
	return fmt.Sprintf("<p>The releases as a page and as JSON are at <code>%s</code> (--pages.listen-address).</p>", html.EscapeString(address))
}

// healthRoutes are for the kubelet.
func healthRoutes(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := cfg.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
		for _, problem := range problemTexts(cfg.Releases.Problems()) {
			_, _ = fmt.Fprintln(w, problem)
		}
	})
	return mux
}

// pagesRoutes are for people.
func pagesRoutes(cfg Config) (http.Handler, error) {
	p, err := newPages(cfg)
	if err != nil {
		return nil, err
	}
	mux, err := serve.Routes(map[string]http.HandlerFunc{
		"GET /{$}":                                p.serveOverview,
		"GET /releases/{namespace}/{name}":        p.serveRelease,
		"GET /api/v1/releases":                    p.apiList,
		"GET /api/v1/releases/{namespace}/{name}": p.apiGet,
		"/api/": apiNotFound,
	})
	if err != nil {
		return nil, err
	}
	if cfg.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return onlyHosts(cfg.PagesHosts, mux), nil
}

// onlyHosts refuses requests whose Host header has another name than localhost or one of the given ones. A web
// page that a person has open could otherwise make its own name resolve to 127.0.0.1, and read what is served
// there (DNS rebinding). An address cannot be made to resolve to another one.
func onlyHosts(names []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name := req.Host
		if host, _, err := net.SplitHostPort(name); err == nil {
			name = host
		}
		name = strings.ToLower(strings.Trim(name, "[]"))
		if _, err := netip.ParseAddr(name); err != nil && name != "localhost" && !slices.Contains(names, name) {
			http.Error(w, fmt.Sprintf("unknown host %q; use localhost or an IP address, or add the name to --pages.allowed-hosts", cut(name)), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, req)
	})
}
