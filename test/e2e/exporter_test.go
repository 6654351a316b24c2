package e2e_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

type exporter struct {
	*process.Process
	metrics, health, pages string // URLs, without a slash at their ends
	client                 *http.Client
}

// startExporter starts the exporter on a free port and returns when it listens. The exporter is stopped at the end of
// the test, where any exit status but 0 is a failure.
func startExporter(t *testing.T, kubeconfig string, flags ...string) *exporter {
	t.Helper()
	return startCommand(t, exporterCommand(kubeconfig, flags...))
}

// exporterCommand returns the command that startExporter runs.
func exporterCommand(kubeconfig string, flags ...string) *exec.Cmd {
	return exec.Command(process.Path("helm-state-metrics"), append(append(anyPorts(flags...), "--kubeconfig="+kubeconfig), flags...)...)
}

// startCommand does what startExporter does, with another command that starts the exporter.
func startCommand(t *testing.T, cmd *exec.Cmd) *exporter {
	t.Helper()
	e := runExporter(t, cmd)
	t.Cleanup(func() { e.stop(t) })
	return e
}

// anyPorts returns the flags for free ports of the loopback interface, without those that are given already.
func anyPorts(given ...string) []string {
	var flags []string
	for _, flag := range []string{"--web.listen-address=", "--health.listen-address=", "--pages.listen-address="} {
		if !slices.ContainsFunc(given, func(g string) bool { return strings.HasPrefix(g, flag) }) {
			flags = append(flags, flag+"127.0.0.1:0")
		}
	}
	return flags
}

// runExporter runs a command that starts the exporter, and returns when the exporter listens.
func runExporter(t *testing.T, cmd *exec.Cmd) *exporter {
	t.Helper()
	e := runServer(t, cmd)
	e.pages = e.address(t, "Serving what=pages")
	return e
}

// runServer runs a command that starts one of the programs, and returns when it serves metrics and probes.
func runServer(t *testing.T, cmd *exec.Cmd) *exporter {
	t.Helper()
	e := &exporter{Process: expect.Value(process.Start(cmd))(t), client: &http.Client{Timeout: patience}}
	e.metrics, e.health = e.address(t, `"Listening on"`), e.address(t, "Serving what=probes")
	return e
}

// address waits for a line of the log, and returns the URL of the address in it.
func (e *exporter) address(t *testing.T, message string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	match, err := e.AwaitLine(ctx, regexp.MustCompile("msg="+message+` address=(\S+)`))
	if err != nil {
		e.Kill()
		t.Fatalf("%v\n%s", err, e.Output())
	}
	return "http://" + match[1]
}

// url returns the URL of a path: /metrics, a probe, or a page.
func (e *exporter) url(path string) string {
	switch page, _, _ := strings.Cut(path, "?"); page {
	case "/metrics":
		return e.metrics + path
	case "/livez", "/readyz":
		return e.health + path
	}
	return e.pages + path
}

// alive fails the test if the process has ended.
func (e *exporter) alive(t *testing.T) {
	t.Helper()
	if e.Ended() {
		t.Fatal(e.Failure())
	}
}

// stop asks the exporter to end, which it has to do in time and with exit status 0.
func (e *exporter) stop(t *testing.T) {
	t.Helper()
	if err := e.Stop(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("the log of the exporter:\n%s", e.Output())
	}
}

func (e *exporter) get(path string) (status int, body string, err error) { return e.getAt(e.url(path)) }

func (e *exporter) getAt(url string) (status int, body string, err error) {
	resp, err := e.client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// answers returns a check that a page is answered with a status and contains all parts.
func (e *exporter) answers(path string, status int, parts ...string) func() error {
	return func() error {
		got, body, err := e.get(path)
		if err != nil {
			return err
		}
		if got != status {
			return fmt.Errorf("%s answers %d, want %d: %s", path, got, status, lines(body + "\n")[0])
		}
		for _, part := range parts {
			if !strings.Contains(body, part) {
				return fmt.Errorf("%s answers %q, which should contain %q", path, body, part)
			}
		}
		return nil
	}
}

func (e *exporter) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, patience, e.answers("/readyz", http.StatusOK))
}

// says returns a check that one line of the log contains all parts.
func (e *exporter) says(parts ...string) func() error {
	return func() error {
	line:
		for _, line := range lines(e.Output()) {
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue line
				}
			}
			return nil
		}
		return fmt.Errorf("no line of the log contains all of %q", parts)
	}
}

// series are values by name and labels, written as in the text format with the labels in alphabetical order.
type series map[string]float64

func seriesName(family string, labels map[string]string) string {
	var b strings.Builder
	b.WriteString(family)
	for i, name := range slices.Sorted(maps.Keys(labels)) {
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		b.WriteByte(separator)
		fmt.Fprintf(&b, "%s=%q", name, labels[name])
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	return b.String()
}

func (s series) add(value float64, family string, labels map[string]string) {
	s[seriesName(family, labels)] = value
}

// parse reads the text format. Of histograms it keeps only the count.
func parse(text string) (series, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	all := make(series)
	for _, family := range families {
		for _, metric := range family.Metric {
			labels := make(map[string]string)
			for _, pair := range metric.Label {
				labels[pair.GetName()] = pair.GetValue()
			}
			name := family.GetName()
			value := metric.GetGauge().GetValue() + metric.GetCounter().GetValue() + metric.GetUntyped().GetValue()
			if family.GetType() == dto.MetricType_HISTOGRAM {
				name, value = name+"_count", float64(metric.GetHistogram().GetSampleCount())
			}
			if _, twice := all[seriesName(name, labels)]; twice {
				return nil, fmt.Errorf("%s occurs twice", seriesName(name, labels))
			}
			all.add(value, name, labels)
		}
	}
	return all, nil
}

func (e *exporter) scrape() (series, error) {
	return e.scrapeLines(func(string) bool { return true })
}

// scrapeLines parses those lines of a scrape that are to be kept. Other tests have thousands of releases, and to parse all
// of them again and again would take most of the time of all tests.
func (e *exporter) scrapeLines(keep func(line string) bool) (series, error) {
	status, body, err := e.get("/metrics")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %d: %s", status, body)
	}
	var kept strings.Builder
	for line := range strings.Lines(body) {
		if line[0] == '#' || keep(line) {
			kept.WriteString(line)
		}
	}
	return parse(kept.String())
}

// isAbout returns a check of lines and names of series: that they are about a release in one of the namespaces, or in
// any if none is given.
func isAbout(namespaces ...string) func(text string) bool {
	return func(text string) bool {
		named := func(namespace string) bool { return strings.Contains(text, fmt.Sprintf("namespace=%q", namespace)) }
		return strings.HasPrefix(text, "helm_release_") && (len(namespaces) == 0 || slices.ContainsFunc(namespaces, named))
	}
}

// inNamespaces removes all series but those about releases in the given namespaces, or in all if none is given.
func (s series) inNamespaces(namespaces ...string) series {
	keep := isAbout(namespaces...)
	maps.DeleteFunc(s, func(name string, _ float64) bool { return !keep(name) })
	return s
}

// shows returns a check that the series about releases in a namespace are exactly the given ones.
func (e *exporter) shows(want series, namespace string, options ...cmp.Option) func() error {
	return e.compares(want, isAbout(namespace), nil, options...)
}

// has returns a check that the given series, among others, are exposed.
func (e *exporter) has(want series) func() error {
	ofFamily := func(line string) bool {
		for name := range want {
			family, _, _ := strings.Cut(name, "{")
			if strings.HasPrefix(line, family) {
				return true
			}
		}
		return false
	}
	return e.compares(want, ofFamily, func(name string, _ float64) bool { _, wanted := want[name]; return !wanted })
}

// compares returns a check that the given series are what a scrape has in the lines that are kept, but for others.
func (e *exporter) compares(want series, keep func(line string) bool, others func(string, float64) bool, options ...cmp.Option) func() error {
	return func() error {
		got, err := e.scrapeLines(keep)
		if err != nil {
			return err
		}
		if others != nil {
			maps.DeleteFunc(got, others)
		}
		return expect.Same("/metrics differs", want, got, options...)
	}
}

func (e *exporter) value(t *testing.T, name string) float64 {
	t.Helper()
	all := expect.Value(e.scrape())(t)
	value, ok := all[name]
	if !ok {
		t.Fatalf("there is no series %s", name)
	}
	return value
}
