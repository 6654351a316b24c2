package metrics_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

func TestCountsFollowEveryChange(t *testing.T) {
	_, store := handler(t, metrics.Options{}, releases())
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(store.Collector())
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
# HELP helm_state_metrics_revisions_tracked Number of stored revisions of the releases that are exposed.
# TYPE helm_state_metrics_revisions_tracked gauge
helm_state_metrics_revisions_tracked 9
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
