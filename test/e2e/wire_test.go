package e2e_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

// TestWire checks the bytes between the exporter and the API server. Requests for many objects must ask for metadata
// alone, in protobuf, selected by the server. Only the answer to a GET of one object may contain a payload.
func TestWire(t *testing.T) {
	t.Parallel()
	const (
		all      = "labelSelector=owner=helm"
		ofType   = "&fieldSelector=type=helm.sh/release.v1"
		listed   = "&limit=500&resourceVersion=0"
		followed = "&allowWatchBookmarks=true&resourceVersion=N&watch=true"
		streamed = "&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true"
		v1, v2   = "secrets/sh.helm.release.v1.app.v1?resourceVersion=N", "secrets/sh.helm.release.v1.app.v2?resourceVersion=N"
	)
	for name, test := range map[string]struct {
		meddle meddler
		want   []string
	}{
		"the list is the beginning of the watch": {nil, []string{
			"secrets?" + all + ofType + streamed, "configmaps?" + all + streamed, v2, v1,
		}},
		"a server that is too old to stream a list is asked for a plain one": {
			refuses(streamsList),
			[]string{
				"secrets?" + all + ofType + streamed, "secrets?" + all + ofType + listed, "secrets?" + all + ofType + followed,
				"configmaps?" + all + streamed, "configmaps?" + all + listed, "configmaps?" + all + followed,
				v2, v1,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := newNamespace(t, "wire")
			superseded := write(t, namespace, cluster.Secret("app", 1, "superseded", validPayload()))
			newest := write(t, namespace, cluster.Secret("app", 2, "deployed", validPayload()))
			p := newProxy(t, test.meddle)
			e := startExporter(t, shared.kubeconfig(t, p.access()),
				"--namespaces="+namespace, "--storage=secrets,configmaps")
			eventually(t, patience, e.shows(shown(newest, "valid", 2), namespace))
			deleteRecord("app", 2)(t, newHelm(t, "helm4", namespace, "secret"))
			eventually(t, patience, e.shows(shown(superseded, "valid"), namespace))

			base := "/api/v1/namespaces/" + namespace + "/"
			eventually(t, patience, func() error { // One of the watches may begin late.
				var got []string
				for _, x := range p.exchanges() {
					got = append(got, strings.TrimPrefix(x.about(), base))
				}
				return expect.Same("requests differ", inOrder(test.want), inOrder(got))
			})
			for _, x := range p.exchanges() {
				x.check(t)
			}
		})
	}
}

// inOrder sorts requests, and the parameters of each of them.
func inOrder(requests []string) []string {
	sorted := make([]string, 0, len(requests))
	for _, request := range requests {
		path, query, _ := strings.Cut(request, "?")
		sorted = append(sorted, path+"?"+strings.Join(slices.Sorted(strings.SplitSeq(query, "&")), "&"))
	}
	slices.Sort(sorted)
	return sorted
}

// about describes a request without the parameters that vary.
func (x *exchange) about() string {
	var parameters []string
	for key, values := range x.request.URL.Query() {
		value := strings.Join(values, "+")
		switch {
		case key == "timeout", key == "timeoutSeconds":
			continue
		case key == "resourceVersion" && value != "0" && value != "":
			value = "N"
		}
		parameters = append(parameters, key+"="+value)
	}
	return x.request.URL.Path + "?" + strings.Join(parameters, "&")
}

// check fails the test if more than metadata was requested or answered, except by a GET of one object.
func (x *exchange) check(t *testing.T) {
	t.Helper()
	single := strings.Contains(x.request.URL.Path, "/sh.helm.release.v1.")
	accept, protocol := "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,", "HTTP/2.0"
	switch {
	case single:
		accept, protocol = "application/vnd.kubernetes.protobuf", "HTTP/1.1"
	case x.request.URL.Query().Get("watch") == "true":
		accept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,"
	}
	accepted := strings.Join(x.request.Header.Values("Accept"), ",")
	if x.request.Method != http.MethodGet || !strings.HasPrefix(accepted, accept) || single && accepted != accept {
		t.Errorf("%s %s accepts %q, want %q first", x.request.Method, x.about(), accepted, accept)
	}
	if x.request.Proto != protocol {
		t.Errorf("%s is asked over %s, want %s", x.about(), x.request.Proto, protocol)
	}
	asked, got := strings.Join(x.request.Header.Values("Accept-Encoding"), ","), x.header.Get("Content-Encoding")
	if asked != "" || got != "" {
		t.Errorf("%s asks for encoding %q and gets %q, want none", x.about(), asked, got)
	}
	if x.status != http.StatusOK {
		return // The old server has refused it.
	}
	if got := x.header.Get("Content-Type"); !strings.HasPrefix(got, "application/vnd.kubernetes.protobuf") {
		t.Errorf("%s is answered by %q, want protobuf", x.about(), got)
	}
	// Only the list itself names a kind if it is empty.
	body := x.body.bytes()
	if contains := bytes.Contains(body, validPayload()); contains != single {
		t.Errorf("the answer to %s contains a payload: %t, want %t", x.about(), contains, single)
	}
	if !single && !bytes.Contains(body, []byte("PartialObjectMetadata")) && len(body) > 0 {
		t.Errorf("the answer to %s is not metadata", x.about())
	}
}

// TestSelectors checks which objects are watched with the flags that change it.
func TestSelectors(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string][]string{
		"": {
			"/api/v1/secrets fields=type=helm.sh/release.v1 labels=owner=helm",
		},
		"--storage=configmaps --namespaces-denylist=not-there": {
			"/api/v1/configmaps fields=metadata.namespace!=not-there labels=owner=helm",
		},
		"--namespaces-denylist=not-there,nor-this --payload=never": {
			"/api/v1/secrets fields=metadata.namespace!=nor-this,metadata.namespace!=not-there,type=helm.sh/release.v1 labels=owner=helm",
		},
		"--namespaces=not-there,nor-this": {
			"/api/v1/namespaces/nor-this/secrets fields=type=helm.sh/release.v1 labels=owner=helm",
			"/api/v1/namespaces/not-there/secrets fields=type=helm.sh/release.v1 labels=owner=helm",
		},
	} {
		t.Run("flags "+flags, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, nil)
			e := startExporter(t, shared.kubeconfig(t, p.access()), strings.Fields(flags)...)
			e.awaitReady(t)
			eventually(t, patience, func() error { // A watch follows its list.
				return expect.Same("watches differ", want, p.watched())
			})
		})
	}
}

// watched describes all watches, in alphabetical order.
func (p *proxy) watched() []string {
	var watched []string
	for _, x := range p.exchanges() {
		if x.request.URL.Query().Get("watch") == "true" {
			selected := slices.Sorted(strings.SplitSeq(x.request.URL.Query().Get("fieldSelector"), ","))
			watched = append(watched, fmt.Sprintf("%s fields=%s labels=%s", x.request.URL.Path, strings.Join(selected, ","), x.request.URL.Query().Get("labelSelector")))
		}
	}
	slices.Sort(watched)
	return watched
}

// exchange is a request that passed the proxy, and its answer.
type exchange struct {
	request *http.Request
	status  int
	header  http.Header // of the answer
	body    *tee        // of the answer
}

// tee keeps what has been read of an answer so far. The answer to a watch goes on for long.
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

// proxy is between an exporter and the API server, with a certificate of its own. It records what passes, and can meddle
// with it.
type proxy struct {
	*httptest.Server

	mu      sync.Mutex
	passed  []exchange  // guarded by mu
	meddler meddler     // guarded by mu; nil if all requests are passed on
	pair    *tls.Config // guarded by mu; with another certificate than that of the server, nil for that
}

// meddler answers a request in place of the API server, or passes it on with a change.
type meddler func(w http.ResponseWriter, r *http.Request, pass http.Handler)

// refuses answers requests as a server does that does not support them.
func refuses(refused func(*http.Request) bool) meddler {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if !refused(r) {
			pass.ServeHTTP(w, r)
			return
		}
		writeStatus(w, metav1.Status{Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity})
	}
}

// streamsList reports whether a request is for a list that is the beginning of a watch.
func streamsList(r *http.Request) bool { return r.URL.Query().Has("sendInitialEvents") }

// writeStatus writes a failure as API servers do.
func writeStatus(w http.ResponseWriter, status metav1.Status) {
	status.TypeMeta, status.Status = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, metav1.StatusFailure
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status)
}

func newProxy(t *testing.T, meddle meddler) *proxy {
	t.Helper()
	backend := expect.Value(url.Parse(shared.config.Host))(t)
	p := &proxy{meddler: meddle}
	config := rest.AnonymousClientConfig(shared.config) // The exporter's token is passed on.
	config.DisableCompression = true
	transport := expect.Value(rest.TransportFor(config))(t)
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(backend) },
		Transport:     transport,
		FlushInterval: -1, // A watch is a stream.
		ModifyResponse: func(r *http.Response) error {
			body := &tee{ReadCloser: r.Body}
			r.Body = body
			p.record(r.Request, r.StatusCode, r.Header, body)
			return nil
		},
		ErrorLog: log.New(io.Discard, "", 0), // It would log that watches are cut off in the end.
	}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		meddle := p.meddler
		p.mu.Unlock()
		if meddle == nil {
			forward.ServeHTTP(w, r)
			return
		}
		passed := false
		meddle(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			passed = true
			forward.ServeHTTP(w, r)
		}))
		if !passed {
			p.record(r, 0, http.Header{}, &tee{})
		}
	}))
	p.EnableHTTP2 = true
	p.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.pair, nil
	}}
	p.StartTLS()
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

// meddle changes what is done to requests from now on, and returns what ends it.
func (p *proxy) meddle(with meddler) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meddler = with
	return func() { p.meddle(nil) }
}

func (p *proxy) record(r *http.Request, status int, answer http.Header, body *tee) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed = append(p.passed, exchange{r, status, answer, body})
}

func (p *proxy) exchanges() []exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]exchange(nil), p.passed...)
}

// access is the administrator's access through the proxy.
func (p *proxy) access() access {
	return access{
		server: p.URL,
		ca:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}),
	}
}
