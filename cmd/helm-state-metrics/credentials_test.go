package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

// rotating is an API server whose certificate and valid token change.
type rotating struct {
	*httptest.Server
	certificate atomic.Pointer[tls.Certificate]
	token       atomic.Pointer[string]
}

func newRotating(t *testing.T) *rotating {
	t.Helper()
	s := &rotating{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "Bearer "+*s.token.Load() {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*s.certificate.Load()}, NextProtos: []string{"h2"}}, nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// rotate gives the server a certificate of a new authority, which it returns. It is for connections that are opened later.
func (s *rotating) rotate(t *testing.T) (authority []byte) {
	t.Helper()
	certificate, key, err := cert.GenerateSelfSignedCertKey("server", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	expect.NoError(t, err)
	pair := expect.Value(tls.X509KeyPair(certificate, key))(t)
	s.certificate.Store(&pair)
	return certificate
}

// TestFollowFiles replaces the files of a token and an authority. Each has to be used by the request after the one that
// failed.
func TestFollowFiles(t *testing.T) {
	tokenFile, authorityFile := filepath.Join(t.TempDir(), "token"), filepath.Join(t.TempDir(), "ca.crt")
	write := func(file string, text []byte) { t.Helper(); expect.NoError(t, os.WriteFile(file, text, 0o600)) }
	s := newRotating(t)
	first, second := "first", "second"
	s.token.Store(&first)
	write(tokenFile, []byte(first))
	write(authorityFile, s.rotate(t))
	cfg := &rest.Config{BearerTokenFile: tokenFile, TLSClientConfig: rest.TLSClientConfig{CAFile: authorityFile}}
	var log bytes.Buffer
	followFiles(cfg, slog.New(slog.NewTextHandler(&log, nil)))
	client := expect.Value(rest.HTTPClientFor(cfg))(t)
	get := func(want string) {
		t.Helper()
		resp, err := client.Get(s.URL)
		got := fmt.Sprint(err)
		if err == nil {
			got = resp.Proto + " " + resp.Status
			expect.NoError(t, resp.Body.Close())
		}
		if !strings.Contains(got, want) {
			t.Fatalf("the answer is %q, want %q\n%s", got, want, &log)
		}
	}
	const ok = "HTTP/2.0 200"
	get(ok)
	s.token.Store(&second)
	get("401")
	write(tokenFile, []byte(second))
	get(ok)
	for range 2 {
		authority := s.rotate(t)
		utilnet.CloseIdleConnectionsFor(client.Transport)
		get("unknown authority")
		write(authorityFile, []byte("none"))
		get("unknown authority")
		get("unknown authority")
		write(authorityFile, authority)
		get(ok)
		get(ok)
	}
	if n := strings.Count(log.String(), "ca.crt has no certificate"); n != 2 {
		t.Errorf("the broken file is logged %d times, want once for each time that it broke:\n%s", n, &log)
	}
}
