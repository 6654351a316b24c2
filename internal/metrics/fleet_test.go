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

// fetch asks a handler and returns the size of its answer.
func fetch(h http.Handler, encoding string) int {
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if encoding != "" {
		req.Header.Set("Accept-Encoding", encoding)
	}
	w := &sink{header: http.Header{}}
	h.ServeHTTP(w, req)
	return w.size
}

var _ io.Writer = (*sink)(nil)

// text returns what a handler answers without compression.
func text(h http.Handler) []byte {
	return bytes.Clone(scrape(h, nil).Body.Bytes())
}
