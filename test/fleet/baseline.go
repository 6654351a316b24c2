package fleet

import (
	"compress/gzip"
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// GaugeVecs is how most exporters do it: a GaugeVec per family, promhttp in
// front.
func GaugeVecs(all []*release.Release) http.Handler {
	registry := prometheus.NewRegistry()
	vec := func(name string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: "Help."}, labels)
		registry.MustRegister(v)
		return v
	}
	info := vec("helm_release_info", "app_version", "chart", "chart_version", "name", "namespace", "revision")
	status := vec("helm_release_status", "name", "namespace", "status")
	plain := map[string]func(*release.Release) float64{
		"helm_release_created_timestamp_seconds":  func(r *release.Release) float64 { return float64(r.Newest.Created) },
		"helm_release_modified_timestamp_seconds": func(r *release.Release) float64 { return float64(r.Newest.Modified) },
		"helm_release_deployed_revision":          func(r *release.Release) float64 { return float64(r.Deployed) },
		"helm_release_payload_bytes":              func(r *release.Release) float64 { return float64(r.Payload.Bytes) },
		"helm_release_revision":                   func(r *release.Release) float64 { return float64(r.Newest.Number) },
		"helm_release_stored_revisions":           func(r *release.Release) float64 { return float64(r.Stored) },
		"helm_release_updated":                    func(r *release.Release) float64 { return float64(r.Payload.Head.LastDeployed.Unix()) },
	}
	vecs := make(map[string]*prometheus.GaugeVec)
	for name := range plain {
		vecs[name] = vec(name, "name", "namespace")
	}
	for _, r := range all {
		c := r.Payload.Head.Chart
		info.WithLabelValues(c.AppVersion, c.Name, c.Version, r.Name, r.Namespace, strconv.Itoa(r.Newest.Number)).Set(1)
		for _, s := range []release.Status{release.Deployed, release.Failed, release.PendingInstall, release.PendingRollback, release.PendingUpgrade} {
			value := 0.0
			if r.Newest.Status == s {
				value = 1
			}
			status.WithLabelValues(r.Name, r.Namespace, string(s)).Set(value)
		}
		for name, value := range plain {
			vecs[name].WithLabelValues(r.Name, r.Namespace).Set(value(r))
		}
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// ReadyLines is how the best of today's exporters do it: lines rendered when
// something changes, and gzip over all of them for every scrape.
type ReadyLines struct {
	lines []byte
	zips  sync.Pool
}

// NewReadyLines serves a text.
func NewReadyLines(text []byte) *ReadyLines {
	return &ReadyLines{lines: text, zips: sync.Pool{New: func() any { return gzip.NewWriter(nil) }}}
}

// ServeHTTP answers with the text, compressed if the client takes nothing but
// gzip.
func (l *ReadyLines) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Header.Get("Accept-Encoding") != "gzip" {
		_, _ = w.Write(l.lines)
		return
	}
	z := l.zips.Get().(*gzip.Writer)
	defer l.zips.Put(z)
	z.Reset(w)
	_, _ = z.Write(l.lines)
	_ = z.Close()
}
