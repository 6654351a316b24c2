package metrics_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// filled is a store with a fleet in it, ready to be scraped.
func filled(all []*release.Release) (*metrics.Store, []metrics.Family) {
	families, err := metrics.Families(metrics.Options{})
	if err != nil {
		panic(err)
	}
	store := metrics.NewStore(families, true)
	for _, r := range all {
		store.Set(r)
	}
	store.Synced()
	return store, families
}

// sink is a response writer that counts and forgets.
type sink struct {
	header http.Header
	size   int
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}
func (s *sink) Write(p []byte) (int, error) {
	s.size += len(p)
	return len(p), nil
}

// fetch asks a handler as Prometheus does and returns the size of its answer.
func fetch(h http.Handler, encoding string) int { return newAsker(encoding).ask(h) }

// asker asks the same again and again without costs of its own.
type asker struct {
	req  *http.Request
	sink sink
}

func newAsker(encoding string) *asker {
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
	if encoding != "" {
		req.Header.Set("Accept-Encoding", encoding)
	}
	return &asker{req: req, sink: sink{header: http.Header{}}}
}

func (a *asker) ask(h http.Handler) int {
	clear(a.sink.header)
	a.sink.size = 0
	h.ServeHTTP(&a.sink, a.req)
	return a.sink.size
}

var _ io.Writer = (*sink)(nil)

// text returns what a handler answers without compression.
func text(h http.Handler) []byte {
	return bytes.Clone(scrape(h, nil).Body.Bytes())
}
