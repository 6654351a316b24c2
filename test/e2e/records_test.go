package e2e_test

import (
	"bytes"
	"compress/gzip"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// marker stands for the secrets in a payload. It must not appear anywhere.
const marker = "hunter2-ee7f19c3"

// described is Helm's description, which only the pages for people show.
const described = "Upgrade complete, says Helm"

// badPayloads are payloads of records whose metadata is valid.
var badPayloads = map[string]struct {
	payload []byte
	reason  string // of helm_state_metrics_decode_errors_total, empty if there is none
	info    string // the chart's name in helm_release_info, empty if there is none
}{
	"it is not base64":                          {[]byte("{" + marker + "}"), "base64", ""},
	"it is not gzip":                            {payload.Base64([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00\xff" + marker)), "gzip", ""},
	"it is cut off inside the head":             {validPayload()[:150], "truncated", ""},
	"it is cut off inside the base64":           {validPayload()[:151], "truncated", ""},
	"it is empty":                               {[]byte{}, "empty", ""},
	"it is not JSON":                            {stored("# " + marker), "json", ""},
	"it is plain text":                          {payload.Base64([]byte(marker)), "json", ""},
	"it is JSON, but no release":                {stored(`["` + marker + `"]`), "json", ""},
	"a mebibyte of base64 of garbage":           {payload.Base64(garbage(700 << 10)), "json", ""},
	"a mebibyte of garbage":                     {garbage(1000 << 10), "base64", ""},
	"a gzip bomb in what is left out":           {bomb(`{"manifest":"`, "a"), "limit", ""},
	"a gzip bomb in what is kept":               {bomb(`{"info":{"description":"`, marker), "limit", ""},
	"its chart is null":                         {stored(`{"info":{"last_deployed":"2026-01-02T03:04:05Z"},"chart":null}`), "", "MISSING"},
	"the chart's metadata is null":              {stored(`{"chart":{"metadata":null},"info":{"last_deployed":"2026-01-02T03:04:05Z"}}`), "", "MISSING"},
	"it is damaged behind the head":             {damaged(), "", "valid"},
	"it is valid, and larger than most":         {large(), "", "valid"},
	"it is valid, with fields in another order": {stored(`{"manifest":"` + marker + `","chart":{"values":{"a":["` + marker + `"]},"metadata":{"version":"1.0.0","name":"valid","appVersion":"2"}},"info":{"last_deployed":"2026-01-02T03:04:05Z"}}`), "", "valid"},
}

// validHead is the beginning of a payload, as Helm writes it. It ends inside a string.
const validHead = `{"name":"app","info":{"first_deployed":"2026-01-02T03:04:05Z","last_deployed":"2026-01-02T03:04:05Z","deleted":"",` +
	`"description":"` + described + `","status":"deployed"},"chart":{"metadata":{"name":"valid","version":"1.0.0","appVersion":"2"},` +
	`"templates":[]},"config":{"password":"` + marker + `"},"manifest":"`

func validPayload() []byte { return stored(validHead + `"}`) }

// large is valid, and has hundreds of kilobytes that gzip cannot compress.
func large() []byte { return stored(validHead + string(payload.Base64(garbage(500<<10))) + `"}`) }

// damaged is valid as far as the exporter reads it.
func damaged() []byte {
	damaged := large()
	copy(damaged[len(damaged)/2:], "!!!!"+marker)
	return damaged
}

// stored returns the payload of a document, as Helm stores it.
func stored(document string) []byte { return payload.Base64(payload.Gzip([]byte(document))) }

// garbage returns random bytes, always the same.
func garbage(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	copy(b[size/2:], marker)
	return b
}

// bomb returns a payload of about half a mebibyte that decompresses to half a gibibyte.
func bomb(start, more string) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	_, _ = w.Write([]byte(start))
	chunk := []byte(strings.Repeat(more, 1<<20/len(more)))
	for out.Len() < 384<<10 {
		_, _ = w.Write(chunk)
	}
	_ = w.Close()
	return payload.Base64(out.Bytes())
}

func write(t *testing.T, namespace string, s *corev1.Secret) *corev1.Secret {
	t.Helper()
	secrets := shared.client.CoreV1().Secrets(namespace)
	written, err := secrets.Create(t.Context(), s, metav1.CreateOptions{})
	if err != nil {
		written, err = secrets.Update(t.Context(), s, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return written
}

// largestRSS limits the exporter's memory whatever the payloads are. It uses about 35 MB when it is idle.
const largestRSS = 100 << 20

// TestBadPayloads writes records whose payloads are not releases. The exporter has to expose what comes from metadata,
// such as status and revision, and nothing else. After the next write, with a valid payload, it has to expose all.
func TestBadPayloads(t *testing.T) {
	t.Parallel()
	for name, test := range badPayloads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := newNamespace(t, "bad")
			e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+namespace, "--log.level=debug")
			neighbor := shown(write(t, namespace, cluster.Secret("neighbor", 1, "deployed", validPayload())), "valid")
			eventually(t, patience, e.shows(neighbor, namespace))
			before := e.errorCounts(t)

			bad := cluster.Secret("app", 3, "failed", test.payload)
			want := shown(write(t, namespace, bad), test.info)
			maps.Copy(want, neighbor)
			if test.reason != "" {
				maps.Copy(want, undecodable(namespace, "app", test.reason))
				before[`helm_state_metrics_decode_errors_total{reason="`+test.reason+`"}`]++
			}
			eventually(t, patience, e.shows(want, namespace))
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
			expect.NoError(t, e.says("WARN", "release=app", "reason="+test.reason)())
			good := cluster.Secret("app", 3, "failed", validPayload())
			want = shown(write(t, namespace, good), "valid")
			maps.Copy(want, neighbor)
			eventually(t, patience, e.shows(want, namespace))
		})
	}
}

// errorCounts returns all counters of problems with a record.
func (e *exporter) errorCounts(t *testing.T) series {
	t.Helper()
	all := expect.Value(e.scrape())(t)
	maps.DeleteFunc(all, func(name string, _ float64) bool {
		return !strings.HasPrefix(name, "helm_state_metrics_decode_errors_total") &&
			!strings.HasPrefix(name, "helm_state_metrics_records_") &&
			name != `helm_state_metrics_payload_fetches_total{result="error"}`
	})
	return all
}

// keepsSecrets fails the test if the log or a page contains a part of a payload that must not be shown.
func (e *exporter) keepsSecrets(t *testing.T, namespace, release string) {
	t.Helper()
	if log := e.Output(); leaks(log) || strings.Contains(log, described) {
		t.Error("the log contains a part of a payload")
	}
	one := "/releases/" + namespace + "/" + release
	for _, page := range []string{"/metrics", "/", "/readyz", one, "/api/v1/releases", "/api/v1" + one} {
		status, body, err := e.get(page)
		if err != nil || status != http.StatusOK && page != one && page != "/api/v1"+one {
			t.Errorf("%s: %d %v", page, status, err)
		}
		if leaks(body) || page == "/metrics" && strings.Contains(body, described) {
			t.Errorf("%s contains a part of a payload", page)
		}
	}
}

// TestOddRecords writes records whose labels or types are not as Helm writes them. If the exporter can take the missing
// value from the object's name, the exposition has to be as if the labels were right.
func TestOddRecords(t *testing.T) {
	t.Parallel()
	const (
		nameFallback    = `helm_state_metrics_records_mended_total{label="name"}`
		versionFallback = `helm_state_metrics_records_mended_total{label="version"}`
		skipped         = `helm_state_metrics_records_skipped_total{reason="not_a_record"}`
		noPayload       = `helm_state_metrics_decode_errors_total{reason="no_payload"}`
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
		// as changes the written Secret into the one that should be exposed; nil if it must not be exposed.
		as    func(*corev1.Secret)
		chart string
		count string // the counter that goes up by one, if any
	}{
		"without a payload key":               {"app", func(s *corev1.Secret) { s.Data = map[string][]byte{"other": []byte(marker)} }, relabel(), "", noPayload},
		"without any data":                    {"app", func(s *corev1.Secret) { s.Data = nil }, relabel(), "", noPayload},
		"with more data than Helm's":          {"app", func(s *corev1.Secret) { s.Data["a"] = garbage(9000); s.Data["z"] = garbage(9) }, relabel(), "valid", ""},
		"without a name label":                {"app", relabel("name", ""), relabel("name", "app"), "valid", nameFallback},
		"without a version label":             {"app", relabel("version", ""), relabel("version", "3"), "valid", versionFallback},
		"with a version that is no number":    {"app", relabel("version", "three"), relabel("version", "3"), "valid", versionFallback},
		"with a version of zero":              {"app", relabel("version", "0"), relabel("version", "3"), "valid", versionFallback},
		"with a version beyond all bounds":    {"app", relabel("version", "99999999999999999999"), relabel("version", "3"), "valid", versionFallback},
		"with dots and no name label":         {"my.app.v1", relabel("name", ""), relabel("name", "my.app.v1"), "valid", nameFallback},
		"with another version in its name":    {"app", relabel("version", "12"), relabel(), "valid", ""},
		"with another release in its name":    {"app", relabel("name", "other"), relabel(), "valid", ""},
		"without a status label":              {"app", relabel("status", ""), relabel(), "valid", ""},
		"with a status that Helm lacks":       {"app", relabel("status", "fine"), relabel(), "valid", ""},
		"with an upper-case status":           {"app", relabel("status", "Deployed"), relabel(), "valid", ""},
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
			odd := cluster.Secret(test.name, 3, "failed", validPayload())
			test.spoil(odd)
			written := write(t, namespace, odd)
			// The neighbor is written later. When it is exposed, so is the other one, if it ever will be.
			expected := shown(write(t, namespace, cluster.Secret("neighbor", 1, "deployed", validPayload())), "valid")
			if test.as != nil {
				test.as(written)
				maps.Copy(expected, shown(written, test.chart))
			}
			if test.count == noPayload {
				maps.Copy(expected, undecodable(namespace, test.name, "no_payload"))
			}
			eventually(t, patience, e.shows(expected, namespace))
			if test.count != "" {
				want[test.count]++
			}
			expect.NoError(t, e.has(want)())
			e.keepsSecrets(t, namespace, test.name)
		})
	}
}
