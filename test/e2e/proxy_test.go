package e2e_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// exchange is a request that passed the proxy, and the head of its answer.
type exchange struct {
	method         string
	path           string
	protocol       string
	query          url.Values
	accept         string
	acceptEncoding string
	status         int
	contentType    string // of the answer
	encoding       string // of the answer
	body           *tee   // of the answer
}

// tee keeps what is read of an answer, which may go on for long.
type tee struct {
	io.ReadCloser
	mu   sync.Mutex
	read bytes.Buffer // guarded by mu
}

func (b *tee) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read.Write(p[:n])
	return n, err
}

func (b *tee) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.read.Bytes())
}

// proxy stands between an exporter and the API server, with a certificate of
// its own, and keeps a record of what passes.
type proxy struct {
	*httptest.Server
	// refuse tells which requests to refuse as a server would that does not
	// know what is asked for.
	refuse func(*http.Request) bool

	mu     sync.Mutex
	passed []exchange // guarded by mu
}

func newProxy(t *testing.T, refuse func(*http.Request) bool) *proxy {
	t.Helper()
	backend, err := url.Parse(shared.config.Host)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{refuse: refuse}
	config := rest.AnonymousClientConfig(shared.config) // the exporter's own token is passed on
	config.DisableCompression = true
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(backend) },
		Transport:     transport,
		FlushInterval: -1, // a watch is a stream
		ModifyResponse: func(r *http.Response) error {
			body := &tee{ReadCloser: r.Body}
			r.Body = body
			p.record(r.Request, r.StatusCode, r.Header, body)
			return nil
		},
		ErrorLog: log.New(io.Discard, "", 0), // that watches are cut off in the end
	}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.refuse(r) {
			p.record(r, http.StatusUnprocessableEntity, http.Header{}, &tee{})
			refusal := metav1.Status{
				TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
				Status:   metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity,
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = json.NewEncoder(w).Encode(refusal)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	p.EnableHTTP2 = true
	p.StartTLS()
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

// nothing is refused by a server that is up to date.
func nothing(*http.Request) bool { return false }

func (p *proxy) record(r *http.Request, status int, answer http.Header, body *tee) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed = append(p.passed, exchange{
		method:         r.Method,
		path:           r.URL.Path,
		protocol:       r.Proto,
		query:          r.URL.Query(),
		accept:         strings.Join(r.Header.Values("Accept"), ","),
		acceptEncoding: strings.Join(r.Header.Values("Accept-Encoding"), ","),
		status:         status,
		contentType:    answer.Get("Content-Type"),
		encoding:       answer.Get("Content-Encoding"),
		body:           body,
	})
}

// exchanges are those recorded so far.
func (p *proxy) exchanges() []exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]exchange(nil), p.passed...)
}

// access is the administrator's way through the proxy.
func (p *proxy) access() access {
	return access{
		server: p.URL,
		ca:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}),
	}
}
