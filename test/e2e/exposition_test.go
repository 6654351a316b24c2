package e2e_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

const (
	textFormat        = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
	openMetricsFormat = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
	// whatPrometheusAsks is the Accept header of Prometheus 3. It prefers formats that the exporter does not offer.
	whatPrometheusAsks = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6," +
		"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4," +
		"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)

// TestFormats scrapes the same releases with the headers of all kinds of clients.
func TestFormats(t *testing.T) {
	t.Parallel()
	h := newHelm(t, "helm4", newNamespace(t, "formats"), "secret")
	h.run(t, "install app chart:site-settings")
	h.run(t, "install old chart:deprecated")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+h.namespace)
	e.awaitReady(t)
	want := view{}.series(t, h.facts(t))

	for name, test := range map[string]struct {
		accept, encoding string
		format           string
		zipped           bool
	}{
		"no Accept header":                    {"", "", textFormat, false},
		"whatever there is":                   {"*/*", "*", textFormat, true},
		"a browser":                           {"text/html,application/xhtml+xml,*/*;q=0.8", "gzip, deflate, br, zstd", textFormat, true},
		"text":                                {"text/plain;version=0.0.4", "identity", textFormat, false},
		"text, compressed":                    {"text/plain;version=0.0.4", "gzip", textFormat, true},
		"OpenMetrics":                         {"application/openmetrics-text;version=1.0.0", "", openMetricsFormat, false},
		"OpenMetrics, compressed":             {"application/openmetrics-text;version=1.0.0", "gzip", openMetricsFormat, true},
		"OpenMetrics, or rather text":         {"application/openmetrics-text;version=1.0.0;q=0.1,text/plain;version=0.0.4;q=0.9", "", textFormat, false},
		"Prometheus":                          {whatPrometheusAsks, "gzip", openMetricsFormat, true},
		"protobuf, which is not offered":      {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "", textFormat, false},
		"compression that is not offered":     {"", "br, zstd", textFormat, false},
		"anything but gzip":                   {"", "gzip;q=0, *", textFormat, false},
		"gzip of little weight":               {"", "identity;q=1, gzip;q=0.1", textFormat, true},
		"an image, which makes no sense here": {"image/png", "", textFormat, false},
	} {
		t.Run(name, func(t *testing.T) {
			body := e.ask(t, test.accept, test.encoding, test.format, test.zipped)
			text, ended := strings.CutSuffix(body, "# EOF\n")
			if wantEnd := test.format == openMetricsFormat; ended != wantEnd || strings.Contains(text, "# EOF") {
				t.Errorf("it ends in # EOF: %t, want %t", ended, wantEnd)
			}
			// This parser cannot read the rest: in OpenMetrics the name of a counter's family has no suffix _total.
			all := expect.Value(parse(linesAbout(text, "helm_release_")))(t)
			expect.Equal(t, "the releases differ", want, all.inNamespaces())
		})
	}
}

// linesAbout returns the lines about families whose names begin with a prefix.
func linesAbout(text, prefix string) string {
	var b strings.Builder
	for _, line := range lines(text) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), prefix) {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// ask scrapes with the given headers, checks the headers of the answer, and returns the text.
func (e *exporter) ask(t *testing.T, accept, encoding, format string, zipped bool) string {
	t.Helper()
	req := expect.Value(http.NewRequestWithContext(t.Context(), http.MethodGet, e.metrics+"/metrics", http.NoBody))(t)
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	// Without this header Go would ask for gzip and decompress the answer by itself.
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := e.client.Do(req)
	expect.NoError(t, err)
	defer resp.Body.Close()
	body := expect.Value(io.ReadAll(resp.Body))(t)
	got := resp.Header.Get("Content-Type")
	expect.Equal(t, fmt.Sprintf("Content-Type is %q", got), expfmt.Format(format).FormatType(), expfmt.Format(got).FormatType())
	wantEncoding := ""
	if zipped {
		wantEncoding = "gzip"
	}
	if got := resp.Header.Get("Content-Encoding"); got != wantEncoding {
		t.Fatalf("Content-Encoding is %q, want %q", got, wantEncoding)
	}
	if vary := strings.Join(resp.Header.Values("Vary"), ","); !strings.Contains(vary, "Accept-Encoding") {
		t.Errorf("Vary is %q, so a cache could serve the encoding of one client to another", vary)
	}
	if !zipped {
		return string(body)
	}
	return unzipOne(t, body)
}

// unzipOne decompresses a single gzip member. Nothing may follow, because browsers stop after the first one.
func unzipOne(t *testing.T, body []byte) string {
	t.Helper()
	r := bytes.NewReader(body)
	z := expect.Value(gzip.NewReader(r))(t)
	z.Multistream(false)
	text := expect.Value(io.ReadAll(z))(t)
	if r.Len() > 0 {
		t.Errorf("%d bytes follow the first gzip member", r.Len())
	}
	return string(text)
}

// TestPromtool runs the linter of Prometheus on an exposition in which every family has a series.
func TestPromtool(t *testing.T) {
	t.Parallel()
	h := newHelm(t, "helm4", newNamespace(t, "lint"), "secret")
	h.run(t, "install old chart:deprecated --labels=team=shop")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+h.namespace,
		"--metrics.all-statuses", "--release-labels=team", "--storage=secrets,configmaps")
	e.awaitReady(t)
	_, body, err := e.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range []string{"helm_release_chart_deprecated", "helm_release_labels", "helm_release_stored_revisions"} {
		if !strings.Contains(body, "\n"+family+"{") {
			t.Errorf("there is no series of %s to lint", family)
		}
	}
	lint(t, body)
}

// lint runs the linter of Prometheus on an exposition.
func lint(t *testing.T, body string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), process.Path("promtool"), "check", "metrics")
	cmd.Stdin = strings.NewReader(body)
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
