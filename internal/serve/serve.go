// Package serve is what the programs share of HTTP: they listen at several addresses, and show pages of one look.
package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
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

// Server serves at several addresses. It listens from the start, and serves when run.
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

// Plain is an address without TLS and authentication.
type Plain struct {
	// Flag has set the Address; errors name it.
	Flag, Address string
	// Serves names what is there, for the log.
	Serves  string
	Handler http.Handler
}

// Listen opens addresses, so that a busy port is an error before anything starts: those of the flags for the handler,
// then the plain ones. It fails if the web config file is invalid, too.
func Listen(flags *toolkit.FlagConfig, handler http.Handler, logger *slog.Logger, plain ...Plain) (_ *Server, err error) {
	if file := *flags.WebConfigFile; file != "" {
		if err := toolkit.Validate(file); err != nil {
			return nil, fmt.Errorf("--web.config.file=%s: %w", file, err)
		}
	}
	s := &Server{log: logger}
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
	sockets, err := systemdSockets(flags)
	if err != nil {
		return nil, err
	}
	guarded := listener{handler: handler, flags: flags}
	for _, socket := range sockets {
		guarded.Listener = socket
		s.listeners = append(s.listeners, guarded)
	}
	if sockets == nil {
		for _, address := range *flags.WebListenAddresses {
			if err := open("web.listen-address", address, guarded); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range plain {
		if err := open(p.Flag, p.Address, listener{serves: p.Serves, handler: p.Handler}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Addresses returns where the server listens, in the order of Listen.
func (s *Server) Addresses() []net.Addr {
	addresses := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		addresses[i] = l.Addr()
	}
	return addresses
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
		Handler: withoutBody(l.handler),
		// Its own handler of OPTIONS * reads bodies.
		DisableGeneralOptionsHandler: true,
		ConnState:                    newConnections(s.log).track,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
		ErrorLog:                     log.New(errorLog{s.log}, "", 0),
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		drained <- server.Shutdown(limited)
	})
	var err error
	if l.flags != nil {
		if *l.flags.WebConfigFile != "" {
			limitGuesses(server, l.handler)
		}
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

// errorLog writes what http.Server logs: failures of clients at debug level, others as errors.
type errorLog struct{ log *slog.Logger }

// Write implements io.Writer.
func (e errorLog) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	// While file descriptors are exhausted, the server tries to accept once a second.
	if bytes.HasPrefix(line, []byte("http: Accept error")) || bytes.HasPrefix(line, []byte("http: panic serving")) {
		level = slog.LevelError
	}
	e.log.Log(context.Background(), level, "HTTP server", "err", string(bytes.TrimSpace(line)))
	return len(line), nil
}

// withoutBody closes the connection after a request with a body, which no handler reads. Otherwise net/http reads it
// before and after it writes a response, for as long as readTimeout, and a scrape holds its place meanwhile.
func withoutBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // if it fails, readTimeout does it
		}
		next.ServeHTTP(w, req)
	})
}
