package metrics

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// prefix starts the name of every metric about the exporter itself.
const prefix = "helm_state_metrics_"

// Words are the closed label sets of the telemetry. Every one of their series
// exists from the start, at 0.
type Words struct {
	Storages       []release.Storage
	EventTypes     []string
	WatchErrors    []string
	FetchResults   []string
	DecodeReasons  []string
	MendedRecords  []string
	SkippedRecords []string
}

// Telemetry counts what the exporter itself does. Its methods may be called
// from any number of goroutines.
type Telemetry struct {
	events       *prometheus.CounterVec
	watchErrors  *prometheus.CounterVec
	watchUp      *prometheus.GaugeVec
	watchHeard   *prometheus.GaugeVec
	mended       *prometheus.CounterVec
	skipped      *prometheus.CounterVec
	fetches      *prometheus.CounterVec
	payloadBytes prometheus.Counter
	fetchTime    prometheus.Histogram
	decodeErrors *prometheus.CounterVec
	decodeTime   prometheus.Histogram

	isSkip map[string]bool
}

// NewTelemetry registers the telemetry's metrics. It fails if one of them is
// registered already.
func NewTelemetry(reg prometheus.Registerer, w Words) (*Telemetry, error) {
	t := &Telemetry{
		events:       counters("watch_events_total", "Watch events received, the initial list included.", "storage", "type"),
		watchErrors:  counters("watch_errors_total", "LIST and WATCH requests that failed.", "storage", "reason"),
		watchUp:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "watch_up", Help: "Whether the watch of a storage stands (1) or not (0), by namespace; an empty namespace is all of them."}, []string{"namespace", "storage"}),
		watchHeard:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "watch_last_event_timestamp_seconds", Help: "Unix time at which a watch was begun or its last event came, by namespace. Servers send a bookmark every minute or two, so a much older time means that what is shown is stale."}, []string{"namespace", "storage"}),
		mended:       counters("records_mended_total", "Records seen whose label was missing or odd, so that the object's name was used.", "label"),
		skipped:      counters("records_skipped_total", "Records seen that are of no use and are not shown.", "reason"),
		fetches:      counters("payload_fetches_total", "GETs of a payload.", "result"),
		payloadBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "payload_bytes_total", Help: "Bytes of the payloads that were read, as stored."}),
		fetchTime:    histogram("payload_fetch_seconds", "Time of a GET of a payload, without its decoding.", 0.001),
		decodeErrors: counters("decode_errors_total", "Payloads that could not be decoded.", "reason"),
		decodeTime:   histogram("decode_seconds", "Time of decoding the head of a payload, waiting for what is behind its first 4 KB included.", 0.00001),
		isSkip:       make(map[string]bool),
	}
	for _, storage := range w.Storages {
		seed(t.events, w.EventTypes, string(storage))
		seed(t.watchErrors, w.WatchErrors, string(storage))
	}
	seed(t.fetches, w.FetchResults)
	seed(t.decodeErrors, w.DecodeReasons)
	seed(t.mended, w.MendedRecords)
	seed(t.skipped, w.SkippedRecords)
	for _, flaw := range w.SkippedRecords {
		t.isSkip[flaw] = true
	}
	for _, c := range []prometheus.Collector{
		t.events, t.watchErrors, t.watchUp, t.watchHeard, t.mended, t.skipped,
		t.fetches, t.payloadBytes, t.fetchTime, t.decodeErrors, t.decodeTime,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register telemetry: %w", err)
		}
	}
	return t, nil
}

// seed makes a counter for each word, behind the given leading label values.
func seed(v *prometheus.CounterVec, words []string, leading ...string) {
	for _, word := range words {
		v.WithLabelValues(append(leading[:len(leading):len(leading)], word)...)
	}
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
}

// histogram spans five decimal orders from the given bound, in seconds.
func histogram(name, help string, from float64) prometheus.Histogram {
	var buckets []float64
	for range 5 {
		buckets = append(buckets, from, from*2.5, from*5)
		from *= 10
	}
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets})
}

// WatchEvent counts an event of a watch.
func (t *Telemetry) WatchEvent(storage release.Storage, eventType string) {
	t.events.WithLabelValues(string(storage), eventType).Inc()
}

// WatchAlive says whether a watch stands.
func (t *Telemetry) WatchAlive(storage release.Storage, namespace string, alive bool) {
	up := 0.0
	if alive {
		up = 1
	}
	t.watchUp.WithLabelValues(namespace, string(storage)).Set(up)
	t.watchHeard.WithLabelValues(namespace, string(storage)) // 0 until the first event
}

// WatchHeard notes that a watch was begun, or that an event of it came.
func (t *Telemetry) WatchHeard(storage release.Storage, namespace string) {
	t.watchHeard.WithLabelValues(namespace, string(storage)).SetToCurrentTime()
}

// WatchFailed counts a LIST or WATCH that failed.
func (t *Telemetry) WatchFailed(storage release.Storage, reason string) {
	t.watchErrors.WithLabelValues(string(storage), reason).Inc()
}

// RecordFlawed counts a record that was mended or skipped.
func (t *Telemetry) RecordFlawed(flaw string) {
	if t.isSkip[flaw] {
		t.skipped.WithLabelValues(flaw).Inc()
		return
	}
	t.mended.WithLabelValues(flaw).Inc()
}

// PayloadFetched counts a GET of a payload.
func (t *Telemetry) PayloadFetched(result string, bytes int, took time.Duration) {
	t.fetches.WithLabelValues(result).Inc()
	t.payloadBytes.Add(float64(bytes))
	t.fetchTime.Observe(took.Seconds())
}

// PayloadDecoded counts a decoding; the reason is empty if it went well.
func (t *Telemetry) PayloadDecoded(reason string, took time.Duration) {
	if reason != "" {
		t.decodeErrors.WithLabelValues(reason).Inc()
	}
	if took > 0 { // else there was nothing to decode
		t.decodeTime.Observe(took.Seconds())
	}
}
