// Package web serves the exporter over HTTP: scrapes, the status page and the same as JSON, probes and
// profiles.
package web

import (
	"context"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/klauspost/compress/gzhttp"
	"github.com/mdlayher/vsock"
	toolkit "github.com/prometheus/exporter-toolkit/web"
)

const (
	// readTimeout is how long a request may take to come in, and maxHeader how large it may be, in bytes.
	readTimeout = 10 * time.Second
	maxHeader   = 32 << 10
	idleTimeout = 2 * time.Minute
	// writeTimeout is how long a client may take to read its response; one that stalls would otherwise hold its
	// snapshot of a scrape forever.
	writeTimeout = time.Minute
	// drainTimeout bounds how long requests in flight may take to finish after the server is told to stop.
	drainTimeout = 10 * time.Second
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

// Server serves metrics for Prometheus, probes for the kubelet, and pages for people, each at an address of its own. It
// listens from the start, and serves when run.
type Server struct {
	listeners []listener
	log       *slog.Logger
}

// listener is an open address, and what is served there.
type listener struct {
	net.Listener
	serves  string
	handler http.Handler
	flags   *toolkit.FlagConfig // with TLS and basic auth, nil for plain HTTP
}

// Listen opens the addresses, so that a busy port is an error before anything starts. It fails if the config
// file is invalid, too.
func Listen(cfg Config) (_ *Server, err error) {
	if file := *cfg.Listen.WebConfigFile; file != "" {
		if err := toolkit.Validate(file); err != nil {
			return nil, fmt.Errorf("--web.config.file=%s: %w", file, err)
		}
	}
	scraped, err := metricsRoutes(cfg)
	if err != nil {
		return nil, err
	}
	shown, err := pagesRoutes(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{log: cfg.Logger}
	defer func() {
		if err != nil {
			for _, l := range s.listeners {
				_ = l.Close() // nothing was written through it
			}
		}
	}()
	open := func(flag, address string, l listener) error {
		if l.Listener, err = listenAt(address); err != nil {
			return fmt.Errorf("--%s=%s: %w", flag, address, err)
		}
		s.listeners = append(s.listeners, l)
		return nil
	}
	sockets, err := systemdSockets(cfg.Listen)
	if err != nil {
		return nil, err
	}
	metrics := listener{serves: "metrics", handler: scraped, flags: cfg.Listen}
	for _, socket := range sockets {
		metrics.Listener = socket
		s.listeners = append(s.listeners, metrics)
	}
	if sockets == nil {
		for _, address := range *cfg.Listen.WebListenAddresses {
			if err := open("web.listen-address", address, metrics); err != nil {
				return nil, err
			}
		}
	}
	if err := open("health.listen-address", cfg.Health, listener{serves: "probes", handler: healthRoutes(cfg)}); err != nil {
		return nil, err
	}
	if cfg.Pages == "" {
		return s, nil
	}
	if err := open("pages.listen-address", cfg.Pages, listener{serves: "pages", handler: shown}); err != nil {
		return nil, err
	}
	if isOpen(s.listeners[len(s.listeners)-1].Addr()) {
		cfg.Logger.Warn("Who reaches the address of the pages sees the releases of all tenants; put a proxy before it that authenticates", "address", cfg.Pages)
	}
	return s, nil
}

// isOpen reports whether others than this machine can reach an address, unless something else prevents it.
func isOpen(address net.Addr) bool {
	at, ok := address.(*net.TCPAddr)
	return !ok || !at.IP.IsLoopback()
}

// systemdSockets returns the sockets that systemd has passed, nil if none are asked for.
func systemdSockets(flags *toolkit.FlagConfig) ([]net.Listener, error) {
	if flags.WebSystemdSocket == nil || !*flags.WebSystemdSocket {
		return nil, nil
	}
	all, err := activation.Listeners() // with nil for what is not a stream
	if err == nil && (len(all) == 0 || slices.Contains(all, nil)) {
		err = errors.New("systemd has passed no socket, or one that is not a stream")
	}
	if err != nil {
		return nil, fmt.Errorf("--web.systemd-socket: %w", err)
	}
	return all, nil
}

func listenAt(address string) (net.Listener, error) {
	virtual, ok := strings.CutPrefix(address, "vsock://")
	if !ok {
		return net.Listen("tcp", address)
	}
	_, text, err := net.SplitHostPort(virtual)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("port: %w", err)
	}
	return vsock.Listen(uint32(port), nil)
}

// Run serves until the context ends, then lets requests in flight finish. If an address fails, it stops all of
// them. It is called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, l := range s.listeners {
		running.Go(func() {
			if err := s.serve(ctx, l); err != nil {
				cancel(fmt.Errorf("serve %s: %w", l.Addr(), err))
			}
		})
	}
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// serve serves one address. The toolkit sets up TLS and basic auth in the http.Server while it serves, so that
// each address needs its own.
func (s *Server) serve(ctx context.Context, l listener) error {
	server := &http.Server{
		Handler:        l.handler,
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		drained <- server.Shutdown(limited)
	})
	var err error
	if l.flags != nil {
		err = toolkit.Serve(l, server, l.flags, s.log)
	} else {
		s.log.Info("Serving", "what", l.serves, "address", l.Addr())
		err = server.Serve(l)
	}
	if stop() { // the context has not ended
		return err
	}
	if err := <-drained; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
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
	compressed, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false))
	if err != nil {
		return nil, fmt.Errorf("compression: %w", err)
	}
	mux := http.NewServeMux()
	for pattern, handler := range map[string]http.HandlerFunc{
		"GET /{$}":                                p.serveOverview,
		"GET /releases/{namespace}/{name}":        p.serveRelease,
		"GET /api/v1/releases":                    p.apiList,
		"GET /api/v1/releases/{namespace}/{name}": p.apiGet,
		"/api/":              apiNotFound,
		"GET /assets/{name}": asset,
	} {
		mux.Handle(pattern, withSecurityHeaders(compressed(handler)))
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
