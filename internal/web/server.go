// Package web serves the exporter over HTTP: scrapes, the status page and the
// same as JSON, probes and profiles.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/klauspost/compress/gzhttp"
	toolkit "github.com/prometheus/exporter-toolkit/web"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// writeTimeout is how long a client may take to read its answer; one that
	// stalls would otherwise hold its snapshot of a scrape for ever.
	writeTimeout = time.Minute
	// drainTimeout bounds how long requests in flight may take to finish once
	// the server is told to stop.
	drainTimeout = 10 * time.Second
)

// Config says what to serve, and where.
type Config struct {
	// Addresses to listen on, such as ":8080".
	Addresses []string
	// ConfigFile is an exporter-toolkit file for TLS and basic auth, empty for
	// plain HTTP.
	ConfigFile string
	// Metrics serves /metrics.
	Metrics http.Handler
	// Ready returns what /readyz waits for, nil if nothing.
	Ready func() error
	// Releases are what the status page and the API show.
	Releases Source
	// ReadsPayloads says whether payloads are read at all.
	ReadsPayloads bool
	// Version is the exporter's own.
	Version string
	// PProf adds /debug/pprof/.
	PProf  bool
	Logger *slog.Logger
}

// Server is an HTTP server that listens from the start, and serves once run.
type Server struct {
	cfg       Config
	listeners []net.Listener
	routes    http.Handler
}

// Listen opens the addresses, so that a busy port is an error at once.
func Listen(cfg Config) (*Server, error) {
	if cfg.ConfigFile != "" {
		if err := toolkit.Validate(cfg.ConfigFile); err != nil {
			return nil, fmt.Errorf("web config file %s: %w", cfg.ConfigFile, err)
		}
	}
	routes, err := routes(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, routes: routes}
	for _, address := range cfg.Addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("web listen address: %w", err)
		}
		s.listeners = append(s.listeners, l)
	}
	return s, nil
}

// Run serves until the context ends, then lets requests in flight finish. If
// one of the addresses fails, it stops all. It is called once.
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

// serve answers on one address. The toolkit sets up a server for TLS and basic
// auth when it serves, so each address has its own.
func (s *Server) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.routes,
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		drained <- server.Shutdown(limited)
	})
	err := toolkit.Serve(l, server, &toolkit.FlagConfig{WebConfigFile: &s.cfg.ConfigFile}, s.cfg.Logger)
	if stop() { // not told to stop: serving failed
		return err
	}
	if err := <-drained; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Addresses returns where the server listens, in the order of the config.
func (s *Server) Addresses() []net.Addr {
	addresses := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		addresses[i] = l.Addr()
	}
	return addresses
}

func (s *Server) close() {
	for _, l := range s.listeners {
		_ = l.Close() // nothing was written through it
	}
}

func routes(cfg Config) (http.Handler, error) {
	pages, err := newPages(cfg)
	if err != nil {
		return nil, err
	}
	// Like a scrape: every browser and most programs take gzip.
	compressed, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false))
	if err != nil {
		return nil, fmt.Errorf("compression: %w", err)
	}
	mux := http.NewServeMux()
	for pattern, handler := range map[string]http.HandlerFunc{
		"GET /{$}":                                pages.overview,
		"GET /releases/{namespace}/{name}":        pages.release,
		"GET /api/v1/releases":                    pages.apiList,
		"GET /api/v1/releases/{namespace}/{name}": pages.apiGet,
		"/api/":              apiElse,
		"GET /assets/{name}": asset,
	} {
		mux.Handle(pattern, guarded(compressed(handler)))
	}
	mux.Handle("GET /metrics", cfg.Metrics)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := cfg.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
		for _, problem := range cfg.Releases.Problems() {
			_, _ = fmt.Fprintln(w, problem)
		}
	})
	if cfg.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux, nil
}
