// Package web serves the exporter over HTTP: scrapes, the status page and the same as JSON, probes and
// profiles.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
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
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// writeTimeout is how long a client may take to read its response; one that stalls would otherwise hold its
	// snapshot of a scrape forever.
	writeTimeout = time.Minute
	// drainTimeout bounds how long requests in flight may take to finish after the server is told to stop.
	drainTimeout = 10 * time.Second
)

// Config says what to serve, and where.
type Config struct {
	// Listen are the addresses, and the file for TLS and basic auth.
	Listen *toolkit.FlagConfig
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

// Server is an HTTP server that listens from the start, and serves when run.
type Server struct {
	cfg       Config
	handler   http.Handler
	listeners []net.Listener
}

// Listen opens the addresses, so that a busy port is an error before anything starts. It fails if the config
// file is invalid, too.
func Listen(cfg Config) (*Server, error) {
	if file := *cfg.Listen.WebConfigFile; file != "" {
		if err := toolkit.Validate(file); err != nil {
			return nil, fmt.Errorf("--web.config.file=%s: %w", file, err)
		}
	}
	handler, err := newHandler(cfg)
	if err != nil {
		return nil, err
	}
	listeners, err := listen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	return &Server{cfg, handler, listeners}, nil
}

// listen opens what toolkit.ListenAndServe would open, which serves at once.
func listen(flags *toolkit.FlagConfig) (all []net.Listener, err error) {
	if flags.WebSystemdSocket != nil && *flags.WebSystemdSocket {
		all, err = activation.Listeners() // with nil for what is not a stream
		if err == nil && (len(all) == 0 || slices.Contains(all, nil)) {
			err = errors.New("systemd has passed no socket, or one that is not a stream")
		}
		if err != nil {
			return nil, fmt.Errorf("--web.systemd-socket: %w", err)
		}
		return all, nil
	}
	for _, address := range *flags.WebListenAddresses {
		l, err := listenAt(address)
		if err != nil {
			for _, opened := range all {
				_ = opened.Close() // nothing was written through it
			}
			return nil, fmt.Errorf("--web.listen-address=%s: %w", address, err)
		}
		all = append(all, l)
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
func (s *Server) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.handler,
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
	err := toolkit.Serve(l, server, s.cfg.Listen, s.cfg.Logger)
	if stop() { // the context has not ended
		return err
	}
	if err := <-drained; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func newHandler(cfg Config) (http.Handler, error) {
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
		for _, problem := range problemTexts(cfg.Releases.Problems()) {
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
