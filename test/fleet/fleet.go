// Package fleet makes releases as a large cluster has them, for tests and benchmarks: 50 in each namespace, some dozens
// of charts, different names and times. It also exposes them as other exporters do, as a baseline for measurements.
package fleet

import (
	"compress/gzip"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Of returns the first n releases of the fleet, each at one of its first revisions.
func Of(n int) []*release.Release {
	all := make([]*release.Release, n)
	for i := range all {
		all[i] = Member(i, 1+i%7)
	}
	return all
}

// Member returns release i of the fleet at a revision.
func Member(i, revision int) *release.Release {
	charts := []string{
		"nginx", "postgresql", "redis", "checkout-service", "billing", "kafka", "gateway", "ingress-nginx", "cert-manager",
		"prometheus", "grafana", "loki", "payments-api", "frontend", "worker", "search", "mailer", "session-store",
	}
	chart := i % 61
	created := time.Unix(1_790_000_000+int64(i*37%5_000_000)+int64(revision)*86_400, 0)
	status := release.Deployed
	if i%50 == 7 {
		status = release.Failed
	}
	return &release.Release{
		Key:      release.Key{Namespace: fmt.Sprintf("team-%03d-%s", i/50, []string{"prod", "staging", "dev"}[i/50%3]), Name: fmt.Sprintf("%s-%d", charts[chart%len(charts)], i%50)},
		Newest:   &release.Revision{Number: revision, Status: status, Created: release.TimeOf(created), Modified: release.TimeOf(created) + release.Time(i%90)},
		Deployed: revision, Stored: 1,
		Payload: &release.Payload{
			Bytes: 9_000 + i*7919%90_000,
			Head: release.Head{LastDeployed: created.Add(-time.Second), Chart: release.Chart{
				Name: charts[chart%len(charts)], Version: fmt.Sprintf("%d.%d.%d", chart%9, (chart+revision)%20, i%4), AppVersion: fmt.Sprintf("%d.%d", chart%5, revision),
			}},
		},
	}
}

// Baseline exposes releases the way most exporters do: a GaugeVec for each family, and promhttp. Set must not be called
// concurrently.
type Baseline struct {
	registry     *prometheus.Registry
	info, status *prometheus.GaugeVec
	plain        []plainGauge             // those with the labels name and namespace alone
	shown        map[release.Key][]string // label values of the info series
}

type plainGauge struct {
	vec   *prometheus.GaugeVec
	value func(*release.Release) float64
}

// plainFamilies returns the families whose only labels are name and namespace, with the value of a release.
func plainFamilies() map[string]func(*release.Release) float64 {
	return map[string]func(*release.Release) float64{
		"helm_release_created_timestamp_seconds":  func(r *release.Release) float64 { return float64(r.Newest.Created) },
		"helm_release_modified_timestamp_seconds": func(r *release.Release) float64 { return float64(r.Newest.Modified) },
		"helm_release_deployed_revision":          func(r *release.Release) float64 { return float64(r.Deployed) },
		"helm_release_payload_bytes":              func(r *release.Release) float64 { return float64(r.Payload.Bytes) },
		"helm_release_revision":                   func(r *release.Release) float64 { return float64(r.Newest.Number) },
		"helm_release_stored_revisions":           func(r *release.Release) float64 { return float64(r.Stored) },
		"helm_release_updated":                    func(r *release.Release) float64 { return float64(r.Payload.Head.LastDeployed.Unix()) },
	}
}

// NewBaseline returns a baseline with helm_release_info, helm_release_status and the given other families.
func NewBaseline(families ...string) *Baseline {
	b := &Baseline{
		registry: prometheus.NewRegistry(),
		shown:    make(map[release.Key][]string),
	}
	vec := func(name string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: "Help."}, labels)
		b.registry.MustRegister(v)
		return v
	}
	b.info = vec("helm_release_info", "app_version", "chart", "chart_version", "name", "namespace", "revision")
	b.status = vec("helm_release_status", "name", "namespace", "status")
	values := plainFamilies()
	for _, family := range families {
		b.plain = append(b.plain, plainGauge{vec(family, "name", "namespace"), values[family]})
	}
	return b
}

// Set adds or replaces a release, whose payload must be known.
func (b *Baseline) Set(r *release.Release) {
	if before, ok := b.shown[r.Key]; ok {
		b.info.DeleteLabelValues(before...)
	}
	c := r.Payload.Head.Chart
	labels := []string{c.AppVersion, c.Name, c.Version, r.Name, r.Namespace, strconv.Itoa(r.Newest.Number)}
	b.info.WithLabelValues(labels...).Set(1)
	b.shown[r.Key] = labels
	for _, s := range []release.Status{release.Deployed, release.Failed, release.PendingInstall, release.PendingRollback, release.PendingUpgrade} {
		value := 0.0
		if r.Newest.Status == s {
			value = 1
		}
		b.status.WithLabelValues(r.Name, r.Namespace, string(s)).Set(value)
	}
	for _, g := range b.plain {
		g.vec.WithLabelValues(r.Name, r.Namespace).Set(g.value(r))
	}
}

// Handler serves scrapes.
func (b *Baseline) Handler() http.Handler {
	return promhttp.HandlerFor(b.registry, promhttp.HandlerOpts{})
}

// GaugeVecs returns the handler of a baseline with all families that shows the given releases.
func GaugeVecs(all []*release.Release) http.Handler {
	b := NewBaseline(slices.Collect(maps.Keys(plainFamilies()))...)
	for _, r := range all {
		b.Set(r)
	}
	return b.Handler()
}

// ReadyLines exposes releases the way the best exporters do: lines are ready, and every scrape compresses all of them.
type ReadyLines struct {
	lines   []byte
	writers sync.Pool
}

// NewReadyLines serves a text.
func NewReadyLines(text []byte) *ReadyLines {
	return &ReadyLines{lines: text, writers: sync.Pool{New: func() any { return gzip.NewWriter(nil) }}}
}

// ServeHTTP answers with the text, compressed if the client accepts only gzip.
func (l *ReadyLines) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Header.Get("Accept-Encoding") != "gzip" {
		_, _ = w.Write(l.lines)
		return
	}
	z := l.writers.Get().(*gzip.Writer)
	defer l.writers.Put(z)
	z.Reset(w)
	_, _ = z.Write(l.lines)
	_ = z.Close()
}
