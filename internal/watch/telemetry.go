package watch

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// telemetry is the watcher's own metrics. Every series of a closed label set exists from the start, at 0.
type telemetry struct {
	events       *prometheus.CounterVec
	watchErrors  *prometheus.CounterVec
	watchUp      *prometheus.GaugeVec
	lastEvent    *prometheus.GaugeVec
	dropped      *prometheus.GaugeVec
	fallbacks    *prometheus.CounterVec
	skipped      *prometheus.CounterVec
	fetches      *prometheus.CounterVec
	payloadBytes prometheus.Counter
	fetchTime    prometheus.Histogram
	decodeErrors *prometheus.CounterVec
	decodeTime   prometheus.Histogram
}

// The types of events, and the results of a GET.
const (
	eventAdd    = "add"
	eventUpdate = "update"
	eventDelete = "delete"

	fetchOK        = "ok"
	fetchNotFound  = "not_found" // deleted, or replaced by another record
	fetchForbidden = "forbidden"
	fetchError     = "error"
)

func newTelemetry(cfg Config) *telemetry {
	auto := promauto.With(cfg.Registerer)
	shards := func(name, help string, value int, labels prometheus.Labels) {
		auto.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}).Set(float64(value))
	}
	shards("helm_state_metrics_shard_ordinal", "Number of the shard that this exporter serves, from 0, as the value and as a label.",
		cfg.Shard, prometheus.Labels{"shard_ordinal": strconv.Itoa(cfg.Shard)})
	shards("helm_state_metrics_total_shards", "Number of shards that the releases are divided into.", max(cfg.TotalShards, 1), nil)
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return auto.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	seeded := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := counters(name, help, label)
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	decodeReasons := []string{reasonNoPayload}
	for _, reason := range decode.Reasons() {
		decodeReasons = append(decodeReasons, string(reason))
	}
	t := &telemetry{
		events:      counters("helm_state_metrics_watch_events_total", "Watch events received, the initial list included.", "storage", "type"),
		watchErrors: counters("helm_state_metrics_watch_errors_total", "LIST and WATCH requests that failed.", "storage", "reason"),
		watchUp: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "helm_state_metrics_watch_up",
			Help: "Whether the watch of a storage is up (1) or not (0), by namespace; an empty namespace means all namespaces.",
		}, []string{"namespace", "storage"}),
		lastEvent: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "helm_state_metrics_watch_last_event_timestamp_seconds",
			Help: "Unix time at which a watch began or received its last event, by namespace. API servers send a bookmark every minute or two, so a much older time means that what is exposed is stale.",
		}, []string{"namespace", "storage"}),
		dropped: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "helm_state_metrics_releases_dropped",
			Help: "Number of releases of a namespace that are not exposed because of --metrics.max-releases-per-namespace; absent if all are.",
		}, []string{"namespace"}),
		fallbacks: seeded("helm_state_metrics_records_mended_total", "Records seen whose label was missing or invalid, so that the object's name was used instead.",
			"label", (noNameLabel | noVersionLabel).names()...),
		skipped:      seeded("helm_state_metrics_records_skipped_total", "Records seen that name no release or no revision, and are not exposed.", "reason", skippedReason),
		fetches:      seeded("helm_state_metrics_payload_fetches_total", "GET requests for a payload.", "result", fetchOK, fetchNotFound, fetchForbidden, fetchError),
		payloadBytes: auto.NewCounter(prometheus.CounterOpts{Name: "helm_state_metrics_payload_bytes_total", Help: "Bytes of the payloads that were read, as stored."}),
		fetchTime: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "helm_state_metrics_payload_fetch_seconds", Buckets: buckets(0.001),
			Help: "Time of a GET request for a payload, without decoding.",
		}),
		decodeErrors: seeded("helm_state_metrics_decode_errors_total", "Payloads that could not be decoded.", "reason", decodeReasons...),
		decodeTime: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "helm_state_metrics_decode_seconds", Buckets: buckets(0.00001),
			Help: "Time of decoding the head of a payload, including the wait for what follows its first 4 KB.",
		}),
	}
	for _, storage := range cfg.Storages {
		for _, event := range []string{eventAdd, eventUpdate, eventDelete} {
			t.events.WithLabelValues(string(storage), event)
		}
		for _, reason := range []string{reasonForbidden, reasonUnauthorized, reasonExpired, reasonThrottled, reasonUnavailable, reasonOther} {
			t.watchErrors.WithLabelValues(string(storage), reason)
		}
	}
	return t
}

// buckets span five decimal orders from the first bound, in seconds.
func buckets(first float64) []float64 {
	var all []float64
	for range 5 {
		all = append(all, first, first*2.5, first*5)
		first *= 10
	}
	return all
}

func (t *telemetry) setWatchUp(storage release.Storage, namespace string, up bool) {
	value := 0.0
	if up {
		value = 1
	}
	t.watchUp.WithLabelValues(namespace, string(storage)).Set(value)
	t.lastEvent.WithLabelValues(namespace, string(storage)) // 0 until the first event
}

func (t *telemetry) setDropped(namespace string, n int) {
	if n == 0 {
		t.dropped.DeleteLabelValues(namespace)
		return
	}
	t.dropped.WithLabelValues(namespace).Set(float64(n))
}

// fetched counts a GET and what came of it.
func (t *telemetry) fetched(p release.Payload, took, decoding time.Duration, err error) {
	result := fetchOK
	switch {
	case err == nil && p.Problem != "":
		t.decodeErrors.WithLabelValues(p.Problem).Inc()
	case err == nil, errors.Is(err, decode.ErrFar): // to be decoded later
	case isGone(err):
		result = fetchNotFound
	case apierrors.IsForbidden(err):
		result = fetchForbidden
	default:
		result = fetchError
	}
	t.fetches.WithLabelValues(result).Inc()
	t.payloadBytes.Add(float64(p.Bytes))
	t.fetchTime.Observe((took - decoding).Seconds())
	if decoding > 0 { // otherwise there was nothing to decode
		t.decodeTime.Observe(decoding.Seconds())
	}
}

// isGone reports whether a record was deleted, or replaced by another of the same name, before its payload was
// read.
func isGone(err error) bool { return apierrors.IsNotFound(err) || errors.Is(err, errReplaced) }
