package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// followFiles makes the clients of a config use a token and an authority as soon as their files have changed. By
// itself, client-go goes on for up to 50 seconds with a token that the API server rejects, and for up to five
// minutes with an authority that has not signed its certificate.
func followFiles(cfg *rest.Config, log *slog.Logger) {
	if file := cfg.CAFile; file != "" && len(cfg.CAData) == 0 {
		// Below all others: it replaces what it wraps.
		cfg.WrapTransport = transport.Wrappers(func(base http.RoundTripper) http.RoundTripper {
			if transportBelow(base) == nil {
				return base
			}
			return &authority{base: base, file: file, log: log, transport: base, read: time.Now()}
		}, cfg.WrapTransport)
	}
	if file := cfg.BearerTokenFile; file != "" {
		// A token that is rejected is read again for the next request.
		cfg.Wrap(transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(file)))
		cfg.BearerToken, cfg.BearerTokenFile = "", ""
	}
}

// transportBelow returns the transport that others wrap, nil if it is none of net/http.
func transportBelow(rt http.RoundTripper) *http.Transport {
	for {
		switch t := rt.(type) {
		case *http.Transport:
			return t
		case utilnet.RoundTripperWrapper:
			rt = t.WrappedRoundTripper()
		default:
			return nil
		}
	}
}

// rereadAfter is for how long an authority is used at most before its file is read again.
const rereadAfter = time.Minute

// authority sends requests to servers whose certificates are signed by the authority in a file.
type authority struct {
	// base is of client-go, which stops to rotate client certificates when it is garbage.
	base http.RoundTripper
	file string
	log  *slog.Logger

	mu        sync.Mutex
	transport http.RoundTripper // guarded by mu; base until the authority changes
	read      time.Time         // guarded by mu; when the file was read, zero if it is to be read again
	failure   string            // guarded by mu; why it could not be read, or empty
}

// RoundTrip implements http.RoundTripper.
func (a *authority) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.current().RoundTrip(req)
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		a.mu.Lock()
		a.read = time.Time{}
		a.mu.Unlock()
	}
	return resp, err
}

// WrappedRoundTripper implements net.RoundTripperWrapper of apimachinery.
func (a *authority) WrappedRoundTripper() http.RoundTripper {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.transport
}

// current returns the transport for a request, a new one if the authority has changed. Requests in flight keep their
// connections.
func (a *authority) current() http.RoundTripper {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.read) < rereadAfter {
		return a.transport
	}
	a.read = time.Now()
	pool, err := readAuthority(a.file)
	if err != nil {
		if err.Error() != a.failure {
			a.log.Error("Cannot read the certificate authority of the API server again", "err", err)
			a.failure = err.Error()
		}
		return a.transport
	}
	a.failure = ""
	if old := transportBelow(a.transport); !pool.Equal(old.TLSClientConfig.RootCAs) {
		a.log.Info("The certificate authority of the API server has changed", "file", a.file)
		renewed := transportBelow(a.base).Clone()
		renewed.TLSNextProto = nil // it would share the connections of HTTP/2
		renewed.TLSClientConfig.RootCAs = pool
		a.transport = utilnet.SetTransportDefaults(renewed)
		old.CloseIdleConnections()
	}
	return a.transport
}

func readAuthority(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return pool, nil
}
