package e2e_test

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestOddRecords writes records whose labels or types are not Helm's. Where
// something is derived from the object's name it is as if the labels were
// right.
func TestOddRecords(t *testing.T) {
	t.Parallel()
	const (
		mendedName    = `helm_state_metrics_records_mended_total{label="name"}`
		mendedVersion = `helm_state_metrics_records_mended_total{label="version"}`
		skipped       = `helm_state_metrics_records_skipped_total{reason="not_a_record"}`
		noPayload     = `helm_state_metrics_decode_errors_total{reason="no_payload"}`
	)
	// relabel changes labels of a record; an empty value removes the label.
	relabel := func(pairs ...string) func(*corev1.Secret) {
		return func(s *corev1.Secret) {
			for i := 0; i < len(pairs); i += 2 {
				s.Labels[pairs[i]] = pairs[i+1]
				if pairs[i+1] == "" {
					delete(s.Labels, pairs[i])
				}
			}
		}
	}
	tests := map[string]struct {
		name  string // of the release
		spoil func(*corev1.Secret)
		// as undoes on the written Secret what is to be mended; nil if nothing
		// of it may be shown.
		as    func(*corev1.Secret)
		chart string
		count string // the counter that goes up by one, if any
	}{
		"without a payload key":               {"app", func(s *corev1.Secret) { s.Data = map[string][]byte{"other": []byte(marker)} }, relabel(), "", noPayload},
		"without any data":                    {"app", func(s *corev1.Secret) { s.Data = nil }, relabel(), "", noPayload},
		"with more data than Helm's":          {"app", func(s *corev1.Secret) { s.Data["a"] = garbage(9000); s.Data["z"] = garbage(9) }, relabel(), "sound", ""},
		"without a name label":                {"app", relabel("name", ""), relabel("name", "app"), "sound", mendedName},
		"without a version label":             {"app", relabel("version", ""), relabel("version", "3"), "sound", mendedVersion},
		"with a version that is no number":    {"app", relabel("version", "three"), relabel("version", "3"), "sound", mendedVersion},
		"with a version of zero":              {"app", relabel("version", "0"), relabel("version", "3"), "sound", mendedVersion},
		"with a version beyond all bounds":    {"app", relabel("version", "99999999999999999999"), relabel("version", "3"), "sound", mendedVersion},
		"with dots and no name label":         {"my.app.v1", relabel("name", ""), relabel("name", "my.app.v1"), "sound", mendedName},
		"with another version in its name":    {"app", relabel("version", "12"), relabel(), "sound", ""},
		"with another release in its name":    {"app", relabel("name", "other"), relabel(), "sound", ""},
		"without a status label":              {"app", relabel("status", ""), relabel(), "sound", ""},
		"with a status that Helm lacks":       {"app", relabel("status", "fine"), relabel(), "sound", ""},
		"with an upper-case status":           {"app", relabel("status", "Deployed"), relabel(), "sound", ""},
		"with useless labels and name":        {"app", func(s *corev1.Secret) { s.Name = "app"; relabel("name", "", "version", "")(s) }, nil, "", skipped},
		"with a name but no version anywhere": {"app", func(s *corev1.Secret) { s.Name = "app"; relabel("version", "x")(s) }, nil, "", skipped},
		"of another owner":                    {"app", relabel("owner", "operator"), nil, "", ""},
		"of no owner":                         {"app", relabel("owner", ""), nil, "", ""},
		"of another type":                     {"app", func(s *corev1.Secret) { s.Type = "operatorframework.io/bundle-chunk" }, nil, "", ""},
		"of no type":                          {"app", func(s *corev1.Secret) { s.Type = "" }, nil, "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := newNamespace(t, "odd")
			e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+namespace)
			e.awaitReady(t)
			want := e.errorCounts(t)
			odd := secretRecord(test.name, 3, "failed", sound())
			test.spoil(odd)
			written := write(t, namespace, odd)
			// The neighbor comes later: once it is shown, so is all that is to
			// be shown of the other.
			expected := shown(write(t, namespace, secretRecord("neighbor", 1, "deployed", sound())), "sound")
			if test.as != nil {
				test.as(written)
				maps.Copy(expected, shown(written, test.chart))
			}
			eventually(t, patience, e.shows(expected, namespace))
			if test.count != "" {
				want[test.count]++
			}
			if err := e.has(want)(); err != nil {
				t.Error(err)
			}
			e.keepsSecrets(t, namespace, test.name)
		})
	}
}
