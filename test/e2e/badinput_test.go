package e2e_test

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// largestRSS bounds the exporter's memory whatever the payloads are. It has
// about 35 MB at rest.
const largestRSS = 100 << 20

// TestBadPayloads writes records whose payloads are no releases. Status and
// revision come from metadata and are shown all the same; nothing else is, and
// the next write of the record mends it.
func TestBadPayloads(t *testing.T) {
	t.Parallel()
	for name, test := range badPayloads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := newNamespace(t, "bad")
			e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+namespace, "--log.level=debug")
			neighbor := shown(write(t, namespace, secretRecord("neighbor", 1, "deployed", sound())), "sound")
			eventually(t, patience, e.shows(neighbor, namespace))
			before := e.errorCounts(t)

			bad := secretRecord("app", 3, "failed", test.payload)
			want := shown(write(t, namespace, bad), test.info)
			maps.Copy(want, neighbor)
			eventually(t, patience, e.shows(want, namespace))
			if test.reason != "" {
				before[`helm_state_metrics_decode_errors_total{reason="`+test.reason+`"}`]++
			}
			eventually(t, patience, e.has(before))
			eventually(t, patience, e.has(series{`helm_state_metrics_payloads_pending`: 0}))

			e.alive(t)
			if rss := e.value(t, "process_resident_memory_bytes"); rss > largestRSS {
				t.Errorf("the exporter holds %.0f MB", rss/(1<<20))
			}
			e.keepsSecrets(t, namespace, "app")
			eventually(t, patience, e.answers("/releases/"+namespace+"/app", http.StatusOK))
			eventually(t, patience, e.answers("/releases/"+namespace+"/neighbor", http.StatusOK, described))
			if test.reason == "" {
				return
			}
			if err := e.says("WARN", "release=app", "reason="+test.reason)(); err != nil {
				t.Error(err)
			}
			mended := secretRecord("app", 3, "failed", sound())
			want = shown(write(t, namespace, mended), "sound")
			maps.Copy(want, neighbor)
			eventually(t, patience, e.shows(want, namespace))
		})
	}
}

// errorCounts are all counters of things that go wrong with a record.
func (e *exporter) errorCounts(t *testing.T) series {
	t.Helper()
	all, err := e.scrape()
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(all, func(name string, _ float64) bool {
		return !strings.HasPrefix(name, "helm_state_metrics_decode_errors_total") &&
			!strings.HasPrefix(name, "helm_state_metrics_records_") &&
			name != `helm_state_metrics_payload_fetches_total{result="error"}`
	})
	return all
}

// keepsSecrets fails the test if the log or what is served of a release holds
// a part of a payload that is not to be shown. It does not tell which part.
func (e *exporter) keepsSecrets(t *testing.T, namespace, release string) {
	t.Helper()
	hidden := func(text string) bool {
		return !strings.Contains(text, marker) && !strings.Contains(text, string(stored([]byte(marker))))
	}
	if log := e.logged(); !hidden(log) || strings.Contains(log, described) {
		t.Error("the log holds a part of a payload")
	}
	one := "/releases/" + namespace + "/" + release
	for _, page := range []string{"/metrics", "/", "/readyz", one, "/api/v1/releases", "/api/v1" + one} {
		status, body, err := e.get(page)
		if err != nil || status != http.StatusOK && page != one && page != "/api/v1"+one {
			t.Errorf("%s: %d %v", page, status, err)
		}
		if !hidden(body) || page == "/metrics" && strings.Contains(body, described) {
			t.Errorf("%s holds a part of a payload", page)
		}
	}
}

// shown is the complete set of series of a release whose newest record is the
// given Secret, and whose other ones are superseded: as many as revisions says,
// the Secret included, or none. The chart is MISSING, one that soundHead describes, or empty
// for a payload that could not be decoded.
func shown(s *corev1.Secret, chart string, revisions ...int) series {
	want := make(series)
	with := func(more ...string) map[string]string {
		labels := map[string]string{"name": s.Labels["name"], "namespace": s.Namespace}
		for i := 0; i < len(more); i += 2 {
			labels[more[i]] = more[i+1]
		}
		return labels
	}
	version := s.Labels["version"]
	number, _ := strconv.ParseFloat(version, 64)
	want.add(number, "helm_release_revision", with())
	want.add(float64(append(revisions, 1)[0]), "helm_release_stored_revisions", with())
	want.add(float64(s.CreationTimestamp.Unix()), "helm_release_created_timestamp_seconds", with())
	want.add(float64(record{meta: s.ObjectMeta}.modified().Unix()), "helm_release_modified_timestamp_seconds", with())
	other := "unknown"
	if slices.Contains([]string{"superseded", "uninstalled", "uninstalling"}, s.Labels["status"]) {
		other = s.Labels["status"]
	}
	for _, status := range strings.Fields("deployed failed pending-install pending-rollback pending-upgrade") {
		is := 0.0
		if status == s.Labels["status"] {
			is, other = 1, ""
		}
		want.add(is, "helm_release_status", with("status", status))
	}
	if other != "" {
		want.add(1, "helm_release_other_status", with("status", other))
	}
	if s.Labels["status"] == "deployed" {
		want.add(number, "helm_release_deployed_revision", with())
	}
	if size := len(s.Data["release"]); size > 0 {
		want.add(float64(size), "helm_release_payload_bytes", with())
	}
	if chart == "" {
		return want
	}
	const deployedAt = 1767323045 // 2026-01-02T03:04:05Z
	want.add(deployedAt, "helm_release_updated", with())
	chartVersion, appVersion := "1.0.0", "2"
	if chart == "MISSING" {
		chartVersion, appVersion = chart, chart
	}
	want.add(1, "helm_release_info", with("app_version", appVersion, "chart", chart, "chart_version", chartVersion, "revision", version))
	return want
}
