package watch

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

func TestTelemetryStartsAtZeroAndIsClean(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	metrics := newTelemetry(Config{Registerer: registry, Storages: []release.Storage{release.Secrets}})
	metrics.fetched(release.Payload{Bytes: 5, Problem: "gzip"}, time.Second, time.Millisecond, nil)
	want := `
# HELP helm_state_metrics_decode_errors_total Payloads that could not be decoded.
# TYPE helm_state_metrics_decode_errors_total counter
helm_state_metrics_decode_errors_total{reason="base64"} 0
helm_state_metrics_decode_errors_total{reason="empty"} 0
helm_state_metrics_decode_errors_total{reason="gzip"} 1
helm_state_metrics_decode_errors_total{reason="json"} 0
helm_state_metrics_decode_errors_total{reason="limit"} 0
helm_state_metrics_decode_errors_total{reason="no_payload"} 0
helm_state_metrics_decode_errors_total{reason="truncated"} 0
# HELP helm_state_metrics_records_mended_total Records seen whose label was missing or invalid, so that the object's name was used instead.
# TYPE helm_state_metrics_records_mended_total counter
helm_state_metrics_records_mended_total{label="name"} 0
helm_state_metrics_records_mended_total{label="version"} 0
# HELP helm_state_metrics_records_skipped_total Records seen that name no release or no revision, and are not exposed.
# TYPE helm_state_metrics_records_skipped_total counter
helm_state_metrics_records_skipped_total{reason="not_a_record"} 0
# HELP helm_state_metrics_watch_events_total Watch events received, the initial list included.
# TYPE helm_state_metrics_watch_events_total counter
helm_state_metrics_watch_events_total{storage="secrets",type="add"} 0
helm_state_metrics_watch_events_total{storage="secrets",type="delete"} 0
helm_state_metrics_watch_events_total{storage="secrets",type="update"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"helm_state_metrics_decode_errors_total", "helm_state_metrics_records_mended_total",
		"helm_state_metrics_records_skipped_total", "helm_state_metrics_watch_events_total"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}
