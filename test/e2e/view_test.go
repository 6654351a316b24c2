package e2e_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// chartVersion finds where Helm joined a chart's name and version.
var chartVersion = regexp.MustCompile(`^(.+?)-(v?\d+\.\d+\.\d+.*)$`)

// view is how an exporter's flags change what it shows of a fact.
type view struct {
	allStatuses bool
	labels      map[string]string // the names of metric labels by the keys of records' labels
}

// series is the complete set of series that the facts call for.
func (v view) series(t *testing.T, facts []fact) series {
	t.Helper()
	want := make(series)
	for _, f := range facts {
		v.add(t, want, f)
	}
	return want
}

func (v view) add(t *testing.T, want series, f fact) {
	t.Helper()
	// with adds labels to those that name the release.
	with := func(more ...string) map[string]string {
		labels := map[string]string{"name": f.Name, "namespace": f.Namespace}
		for i := 0; i < len(more); i += 2 {
			labels[more[i]] = more[i+1]
		}
		return labels
	}
	chart := chartVersion.FindStringSubmatch(f.Chart)
	if chart == nil {
		t.Fatalf("cannot split %q into a chart's name and version", f.Chart)
	}
	want.add(1, "helm_release_info", with("app_version", f.AppVersion, "chart", chart[1], "chart_version", chart[2],
		"revision", strconv.Itoa(f.Revision)))
	want.add(float64(f.Revision), "helm_release_revision", with())
	want.add(float64(f.Updated.unix(t)), "helm_release_updated", with())
	want.add(float64(f.record.meta.CreationTimestamp.Unix()), "helm_release_created_timestamp_seconds", with())
	want.add(float64(f.record.modified().Unix()), "helm_release_modified_timestamp_seconds", with())
	want.add(float64(len(f.record.payload)), "helm_release_payload_bytes", with())
	statuses := "deployed failed pending-install pending-rollback pending-upgrade"
	if v.allStatuses {
		statuses += " superseded uninstalled uninstalling unknown"
	}
	other := true
	for _, status := range strings.Fields(statuses) {
		is := 0.0
		if status == f.Status {
			is, other = 1, false
		}
		want.add(is, "helm_release_status", with("status", status))
	}
	if other {
		want.add(1, "helm_release_other_status", with("status", f.Status))
	}
	if f.deployed > 0 {
		want.add(float64(f.deployed), "helm_release_deployed_revision", with())
	}
	if headOf(t, f.record.payload).Chart.Metadata.Deprecated {
		want.add(1, "helm_release_chart_deprecated", with())
	}
	want.add(float64(f.stored), "helm_release_stored_revisions", with())
	shown := with()
	for key, label := range v.labels {
		if value, ok := f.record.meta.Labels[key]; ok {
			shown[label] = value
		}
	}
	if len(shown) > 2 {
		want.add(1, "helm_release_labels", shown)
	}
}
