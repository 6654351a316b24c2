package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

func TestCountsFollowEveryChange(t *testing.T) {
	_, store := handler(t, metrics.Options{}, releases())
	registry := prometheus.NewPedanticRegistry()
	for _, c := range store.Collectors() {
		registry.MustRegister(c)
	}
	foo := releases()[0]
	both := *foo
	both.Newest, both.Shadowed, both.Payload = &release.Revision{Status: release.Deployed}, 3, nil
	store.Set(&both)
	store.Remove(release.Key{Namespace: "default", Name: "undecodable"})
	store.Remove(release.Key{Namespace: "default", Name: "never seen"})
	want := `
# HELP helm_state_metrics_payloads_pending Number of releases whose newest revision's payload is still to be read.
# TYPE helm_state_metrics_payloads_pending gauge
helm_state_metrics_payloads_pending 2
# HELP helm_state_metrics_releases Number of releases by status of the newest revision.
# TYPE helm_state_metrics_releases gauge
helm_state_metrics_releases{status="deployed"} 2
helm_state_metrics_releases{status="failed"} 0
helm_state_metrics_releases{status="pending-install"} 1
helm_state_metrics_releases{status="pending-rollback"} 0
helm_state_metrics_releases{status="pending-upgrade"} 0
helm_state_metrics_releases{status="superseded"} 0
helm_state_metrics_releases{status="uninstalled"} 1
helm_state_metrics_releases{status="uninstalling"} 1
helm_state_metrics_releases{status="unknown"} 0
# HELP helm_state_metrics_releases_in_both_storages Number of releases with records in Secrets and in ConfigMaps, of which the Secrets are shown.
# TYPE helm_state_metrics_releases_in_both_storages gauge
helm_state_metrics_releases_in_both_storages 1
# HELP helm_state_metrics_revisions_tracked Number of revisions whose metadata is tracked.
# TYPE helm_state_metrics_revisions_tracked gauge
helm_state_metrics_revisions_tracked 9
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestTelemetryStartsAtZeroAndIsClean(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	telemetry, err := metrics.NewTelemetry(registry, metrics.Words{
		Storages: []release.Storage{release.Secrets}, EventTypes: []string{"add"}, WatchErrors: []string{"forbidden"},
		FetchResults: []string{"ok"}, DecodeReasons: []string{"gzip"}, MendedRecords: []string{"name"}, SkippedRecords: []string{"not_a_record"},
	})
	if err != nil {
		t.Fatal(err)
	}
	telemetry.RecordFlawed("not_a_record")
	telemetry.PayloadDecoded("", time.Millisecond)
	want := `
# HELP helm_state_metrics_decode_errors_total Payloads that could not be decoded.
# TYPE helm_state_metrics_decode_errors_total counter
helm_state_metrics_decode_errors_total{reason="gzip"} 0
# HELP helm_state_metrics_records_mended_total Records seen whose label was missing or odd, so that the object's name was used.
# TYPE helm_state_metrics_records_mended_total counter
helm_state_metrics_records_mended_total{label="name"} 0
# HELP helm_state_metrics_records_skipped_total Records seen that are of no use and are not shown.
# TYPE helm_state_metrics_records_skipped_total counter
helm_state_metrics_records_skipped_total{reason="not_a_record"} 1
# HELP helm_state_metrics_watch_events_total Watch events received, the initial list included.
# TYPE helm_state_metrics_watch_events_total counter
helm_state_metrics_watch_events_total{storage="secrets",type="add"} 0
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
