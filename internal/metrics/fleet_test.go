package metrics_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// fleet makes releases as a large cluster has them: 50 to a namespace, some
// dozens of charts, names and times that differ.
func fleet(n int) []*release.Release {
	all := make([]*release.Release, n)
	for i := range all {
		all[i] = member(i, 1+i%7)
	}
	return all
}

// member is release i of a fleet at one of its revisions.
func member(i, revision int) *release.Release {
	chart := i % 61
	created := time.Unix(1_790_000_000+int64(i*37%5_000_000)+int64(revision)*86_400, 0)
	status := release.Deployed
	if i%50 == 7 {
		status = release.Failed
	}
	return &release.Release{
		Key:      release.Key{Namespace: fmt.Sprintf("team-%03d-%s", i/50, []string{"prod", "staging", "dev"}[i/50%3]), Name: fmt.Sprintf("%s-%d", charts[chart%len(charts)], i%50)},
		Newest:   &release.Revision{Number: revision, Status: status, Created: created, Modified: created.Add(time.Duration(i%90) * time.Second)},
		Deployed: revision, Tracked: 1,
		Payload: &release.Payload{
			Bytes: 9_000 + i*7919%90_000,
			Head: release.Head{LastDeployed: created.Add(-time.Second), Chart: release.Chart{
				Name: charts[chart%len(charts)], Version: fmt.Sprintf("%d.%d.%d", chart%9, (chart+revision)%20, i%4), AppVersion: fmt.Sprintf("%d.%d", chart%5, revision),
			}},
		},
	}
}

var charts = []string{
	"nginx", "postgresql", "redis", "checkout-service", "billing", "kafka", "gateway", "ingress-nginx", "cert-manager",
	"prometheus", "grafana", "loki", "payments-api", "frontend", "worker", "search", "mailer", "session-store",
}

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
