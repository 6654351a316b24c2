package metrics_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/hostile"
)

// FuzzExposition checks that what anybody writes into a record is one series of each family, with these very labels, in
// an answer that a parser takes, compressed or not.
func FuzzExposition(f *testing.F) {
	f.Add("team", "my.app", "web", "1.2.3", "4.5", "core", 1)
	f.Add("a\"b", "c\\d", "e\nf", "\xff\xfe", "\x00\r", "\u202e{}", 2147483647)
	for _, text := range hostile.Texts() {
		f.Add("team", "my.app", text, text, text, text, 1)
	}
	f.Add("", "", "} 1\nhelm_release_info{", "# TYPE x gauge", "\\", "\"", 0)
	families, err := metrics.Families(metrics.Options{ReleaseLabels: []string{"team"}})
	if err != nil {
		f.Fatal(err)
	}
	store := metrics.NewStore(families, true)
	store.Synced()
	h := metrics.NewHandler(store, prometheus.NewRegistry())
	f.Fuzz(func(t *testing.T, namespace, name, chart, version, app, team string, number int) {
		key := release.Key{Namespace: namespace, Name: name}
		defer store.Remove(key)
		store.Set(&release.Release{
			Key: key, Stored: 1,
			Newest:  &release.Revision{Number: number, Status: release.Deployed, Labels: map[string]string{"team": team}},
			Payload: &release.Payload{Bytes: 1, Head: release.Head{Chart: release.Chart{Name: chart, Version: version, AppVersion: app}}},
		})
		text := unzip(t, h, "", "", "")
		if zipped := unzip(t, h, "gzip", "", ""); zipped != text {
			t.Fatal("gzip says something else")
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		parsed, err := parser.TextToMetricFamilies(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		want := map[string]string{"namespace": namespace, "name": name, "chart": chart, "chart_version": version, "app_version": app, "label_team": team}
		for family, labels := range map[string][]string{
			"helm_release_info": {"namespace", "name", "chart", "chart_version", "app_version"}, "helm_release_labels": {"namespace", "name", "label_team"},
			"helm_release_revision": {"namespace", "name"},
		} {
			series := parsed[family].GetMetric()
			if len(series) != 1 {
				t.Fatalf("%d series of %s in\n%s", len(series), family, text)
			}
			for _, l := range series[0].GetLabel() {
				if slices.Contains(labels, l.GetName()) && l.GetValue() != valid(want[l.GetName()]) {
					t.Errorf("%s: %s is %q, want %q", family, l.GetName(), l.GetValue(), want[l.GetName()])
				}
			}
		}
	})
}

// valid replaces each byte that is no UTF-8, as the exposition does.
func valid(s string) string { return string([]rune(s)) }

// FuzzQuery checks that a scrape fails only if its query is invalid, whatever its headers, and shows no releases of a
// namespace that it does not name.
func FuzzQuery(f *testing.F) {
	f.Add("namespace=default", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "gzip")
	f.Add("namespace=a&namespace=%64efault&name[]=helm_release_info", "application/openmetrics-text;version=1.0.0,text/plain", "identity, *;q=0")
	f.Add("name[]=;&namespace=%zz&&=", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily", "x-gzip;q=NaN,GZIP")
	store, _ := filled(releases())
	h := metrics.NewHandler(store, prometheus.NewRegistry())
	f.Fuzz(func(t *testing.T, query, accept, encoding string) {
		req := httptest.NewRequest("GET", "/metrics", nil)
		req.URL.RawQuery = query
		req.Header = http.Header{"Accept": {accept}, "Accept-Encoding": {encoding}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if _, err := url.ParseQuery(query); (err != nil) != (w.Code == 400) {
			t.Fatalf("%d, although: %v", w.Code, err)
		}
		if w.Code == 400 {
			return
		}
		var text io.Reader = w.Body
		if w.Header().Get("Content-Encoding") == "gzip" {
			var err error
			if text, err = gzip.NewReader(text); err != nil || !strings.ContainsAny(encoding, "gG*") {
				t.Fatalf("gzip for %q, %v", encoding, err)
			}
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		parsed, err := parser.TextToMetricFamilies(text)
		if w.Code != 200 || err != nil {
			t.Fatalf("%d, %v", w.Code, err)
		}
		asked := req.URL.Query()["namespace"]
		for _, family := range parsed {
			for _, m := range family.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "namespace" && len(asked) > 0 && !slices.Contains(asked, l.GetValue()) {
						t.Errorf("%s has namespace %q, asked for %q", family.GetName(), l.GetValue(), asked)
					}
				}
			}
		}
	})
}
