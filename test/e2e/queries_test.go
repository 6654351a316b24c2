package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/prometheus"
)

// TestQueries evaluates all queries that ship: those of the dashboard, of the alert rules and of the documentation.
func TestQueries(t *testing.T) {
	t.Parallel()
	s := newSeed(t)
	t.Run("dashboards", s.dashboards)
	t.Run("a shard is missing", s.missingShard)
	t.Run("alerts", s.alerts)
	t.Run("queries of the documentation", s.documentation)
	t.Run("alerts while the exporter is away", s.silence) // It stops the exporter, so it comes last.
}

// seed is a Prometheus that scrapes an exporter of releases in every state, and what Helm says of these releases.
type seed struct {
	*prometheus.Server
	fleet    *prometheus.Server // scrapes several exporters of the same releases
	exporter *exporter
	shop     helm
	team     helm
	facts    []fact
}

// newSeed also has Prometheus evaluate the alert rules, with times that are short enough for a test.
func newSeed(t *testing.T) seed {
	t.Helper()
	s := seed{
		shop: newHelm(t, "helm4", newNamespace(t, "shop"), "secret"),
		team: newHelm(t, "helm3", newNamespace(t, "team"), "secret"),
	}
	// This exporter stays with what there was at first.
	namespaces, relay := "--namespaces="+s.shop.namespace+","+s.team.namespace, newRelay(t)
	relay.on(t)
	s.shop.fail(t, "install front chart:web --set broken=true", refusedPort)
	stale := startExporter(t, shared.kubeconfig(t, relay.access()), namespaces)
	stale.awaitReady(t)
	relay.Off()

	newer := filepath.Join(t.TempDir(), "web-2.0.0.tgz")
	s.shop.run(t, "package chart:web --version=2.0.0 --destination="+filepath.Dir(newer))
	// Helm stores these values twice, and gzip cannot compress them. They take about 90% of the limit of a record.
	values := writeFile(t, "values", string(payload.Base64(garbage(340<<10))))
	for _, step := range []step{
		does("upgrade front chart:web --reset-values"),
		does("install big chart:site-settings --set-file greeting=" + values),
		does("install my.app " + newer),
		fails("install broken chart:web --set broken=true", refusedPort),
		does("install dated chart:deprecated"),
		does("install kept chart:site-settings"),
		does("uninstall kept --keep-history"),
		does("install app chart:hook --set event=pre-delete"),
		killed("uninstall app"),
	} {
		step(t, s.shop)
	}
	for _, step := range []step{
		does("install front " + newer),
		does("install half chart:site-settings"),
		fails("upgrade half chart:site-settings --set broken=true", refusedKey),
		does("install app chart:hook --set event=pre-upgrade"),
		killed("upgrade app chart:hook --set event=pre-upgrade"),
	} {
		step(t, s.team)
	}
	odd := writeUndecodable(t, s.shop.namespace)
	s.exporter = startExporter(t, shared.kubeconfig(t, access{}), namespaces)
	s.exporter.awaitReady(t)
	s.Server = startPrometheus(t, s.exporter, fmt.Sprintf("rule_files: [%q]\n", impatientRules(t)))
	s.fleet = s.startFleet(t, stale, namespaces)
	for p, exporters := range map[*prometheus.Server]float64{s.Server: 1, s.fleet: 9} {
		eventually(t, patience, answer{series: series{"": exporters}}.to(p, "count(helm_state_metrics_build_info)"))
	}
	// This happens while Prometheus scrapes, so that counters grow.
	s.team.run(t, "upgrade front chart:web")
	s.facts = append(append(s.shop.facts(t), s.team.facts(t)...), odd)
	return s
}

// writeUndecodable writes a record that neither Helm nor the exporter can decode, and that has no time of its last write.
func writeUndecodable(t *testing.T, namespace string) fact {
	t.Helper()
	written := write(t, namespace, cluster.Secret("odd", 1, "deployed", []byte("{not base64}")))
	written.ManagedFields = []metav1.ManagedFieldsEntry{{}} // This removes them.
	bare := expect.Value(shared.client.CoreV1().Secrets(namespace).Update(t.Context(), written, metav1.UpdateOptions{}))(t)
	return fact{
		listed:   listed{Name: "odd", Namespace: namespace, Revision: 1, Status: "deployed"},
		deployed: 1, stored: 1, record: record{bare.ObjectMeta, []byte("{not base64}")},
	}
}

// answer is what a query is expected to return.
type answer struct {
	series series
	within float64 // tolerance of the values
	holds  func(series) bool
	scope  scope // of what this is one part, in a scene
}

// to returns a check that a query has this answer.
func (a answer) to(p *prometheus.Server, query string) func() error {
	return func() error {
		got, err := evaluate(p, query)
		if err != nil {
			return err
		}
		return a.accepts(got)
	}
}

func (a answer) accepts(got series) error {
	if a.holds != nil {
		if !a.holds(got) {
			return fmt.Errorf("it returns %v", got)
		}
		return nil
	}
	tolerance := sizeWhenRead
	if a.within > 0 {
		tolerance = cmpopts.EquateApprox(0, a.within)
	}
	return expect.Same("the results differ", a.series, got, tolerance)
}

// TestPrometheus has a real Prometheus scrape the exporter, and compares what Prometheus knows.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	h := newHelm(t, "helm4", newNamespace(t, "scraped"), "secret")
	h.run(t, "install app chart:site-settings")
	h.run(t, "install my.app chart:deprecated")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+h.namespace)
	p := startPrometheus(t, e, "")

	const all = `{__name__=~"helm_release_.+"}`
	eventually(t, 2*patience, answer{series: view{}.series(t, h.facts(t))}.to(p, all))
	h.run(t, "upgrade app chart:web")
	h.run(t, "uninstall my.app")
	want := view{}.series(t, h.facts(t))
	eventually(t, patience, e.shows(want, h.namespace, sizeWhenRead))
	eventually(t, patience, answer{series: want}.to(p, all))
	eventually(t, patience, answer{series: series{"up": 1}}.to(p, "up"))
}

// scraping is a configuration of Prometheus that scrapes exporters every second. Targets and more are added to it.
const scraping = `
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
scrape_configs:
- job_name: e2e
  honor_labels: true
  static_configs:
`

// target is the address of /metrics.
func (e *exporter) target() string { return strings.TrimPrefix(e.metrics, "http://") }

// startPrometheus starts a server that scrapes an exporter. It is stopped at the end of the test.
func startPrometheus(t *testing.T, e *exporter, more string) *prometheus.Server {
	t.Helper()
	return runPrometheus(t, scraping+fmt.Sprintf("  - targets: [%q]\n", e.target())+more)
}

// runPrometheus starts a server, which is stopped at the end of the test.
func runPrometheus(t *testing.T, config string) *prometheus.Server {
	t.Helper()
	p := expect.Value(prometheus.Start(t.Context(), t.TempDir(), config))(t)
	t.Cleanup(func() {
		if err := p.Stop(); err != nil || t.Failed() {
			t.Logf("Prometheus: %v\n%s", err, p.Output())
		}
	})
	return p
}

// evaluate returns the result of a query, without the labels of the target.
func evaluate(p *prometheus.Server, query string) (series, error) {
	parts, err := evaluateParts(p, query)
	switch len(parts) {
	case 0:
		return series{}, err
	case 1:
		return parts[0], err
	}
	return nil, fmt.Errorf("the result has series twice: %v", parts)
}

// evaluateParts returns the result of a query, without the labels of the target. Series that only these labels
// distinguish are in different parts.
func evaluateParts(p *prometheus.Server, query string) ([]series, error) {
	samples, err := p.Query(query)
	if err != nil {
		return nil, err
	}
	var parts []series
	for _, sample := range samples {
		family := sample.Labels["__name__"]
		for _, label := range []string{"__name__", "cluster", "job", "instance"} {
			delete(sample.Labels, label)
		}
		name := seriesName(family, sample.Labels)
		at := slices.IndexFunc(parts, func(part series) bool { _, ok := part[name]; return !ok })
		if at < 0 {
			at, parts = len(parts), append(parts, make(series))
		}
		parts[at][name] = sample.Value
	}
	return parts, nil
}

// withoutResult are the queries that return nothing here, and why.
var withoutResult = map[string]string{
	`helm_release_status{status=~"pending-.*"} == 1
and on (namespace, name) time() - helm_release_modified_timestamp_seconds > 900`: "no test takes a quarter of an hour",
	`time() - helm_release_updated > 86400`:                                                         "nor a day",
	`helm_release_revision{job="old"} unless on (namespace, name) helm_release_revision{job="new"}`: "there is but one exporter",
	`helm_release_status{job="old"} != on (namespace, name, status) helm_release_status{job="new"}`: "there is but one exporter",
	`helm_release_labels{label_team="shop"}`:                                                        "no label was asked for",
	"count by (cluster, namespace) (\nmax by (cluster, namespace, name) (helm_release_revision)\n" +
		"unless on (cluster, namespace, name) helm_release_payload_bytes\n)": "all payloads are read",
	`up == 0`: "the exporter is up",
	`max by (cluster, namespace, job, shard_ordinal, storage, watched_namespace) (helm_state_metrics:watch) == 0`: "and so are its watches",
	`max by (cluster, namespace, job, shard_ordinal, storage, watched_namespace) (helm_state_metrics:watch) == 1`: "they are fresh",
	`sum by (storage, reason) (rate(helm_state_metrics_watch_errors_total[5m])) > 0`:                              "and no one failed",
	`sum by (cluster, job, storage, reason) (increase(helm_state_metrics_watch_errors_total[1h])) > 0`:            "nor before",
	`helm_state_metrics:watch < 2`:                                           "they are fresh",
	`max by (cluster, job, namespace) (helm_state_metrics_releases_dropped)`: "there is no limit",
	`helm_release_revision{exported_namespace!=""}`:                          "labels are honored",
}

// ofChartVersions matches what helm-chart-versions exposes.
var ofChartVersions = regexp.MustCompile("helm_release_chart_(outdated|latest_info|unresolved)|helm_chart_(repository|versions)_")

func (s seed) documentation(t *testing.T) {
	documented(t, s.Server, false, withoutResult, func(query string, got series) {
		if strings.Contains(query, `"appVersion", "$1", "app_version"`) {
			s.numbersStatuses(t, got)
		}
	})
}

// documented evaluates the queries in README and docs that are about helm-chart-versions, or all others. Each has to
// return something, unless it is in withoutResult.
func documented(t *testing.T, p *prometheus.Server, chartVersions bool, withoutResult map[string]string, check func(query string, got series)) {
	t.Helper()
	files := expect.Value(filepath.Glob(filepath.Join(process.Root(), "docs", "*.md")))(t)
	unseen := len(withoutResult)
	for _, file := range append(files, filepath.Join(process.Root(), "README.md")) {
		text := expect.Value(os.ReadFile(file))(t)
		for _, query := range queriesIn(string(text)) {
			if ofChartVersions.MatchString(query) != chartVersions {
				continue
			}
			got, err := evaluate(p, query)
			if err != nil {
				t.Errorf("%s: %v\n%s", filepath.Base(file), err, query)
			}
			check(query, got)
			why, excused := withoutResult[query]
			if excused {
				unseen--
			}
			if excused == (len(got) > 0) {
				t.Errorf("%s: it returns %d series, although %q\n%s", filepath.Base(file), len(got), why, query)
			}
		}
	}
	if unseen > 0 {
		t.Errorf("%d of the queries that may return nothing are shown nowhere", unseen)
	}
}

// numbersStatuses checks the query that replaces helm_chart_info, whose value is a number for each status.
func (s seed) numbersStatuses(t *testing.T, got series) {
	t.Helper()
	numbers := map[string]float64{"failed": -1, "deployed": 1, "uninstalled": 2, "uninstalling": 5, "pending-upgrade": 7}
	want := make(series)
	for _, f := range s.facts {
		if !isDecoded(f) {
			continue
		}
		chart := chartVersion.FindStringSubmatch(f.Chart)
		want.add(numbers[f.Status], "", map[string]string{
			"namespace": f.Namespace, "name": f.Name, "release": f.Name, "revision": strconv.Itoa(f.Revision),
			"chart": chart[1], "chart_version": chart[2], "version": chart[2], "app_version": f.AppVersion, "appVersion": f.AppVersion,
		})
	}
	expect.Equal(t, "in place of helm_chart_info", want, got)
}

var (
	promqlBlock = regexp.MustCompile("(?ms)^```promql\n(.*?)^```$")
	// promqlComment does not support # in strings.
	promqlComment = regexp.MustCompile(`(?m) *#.*$`)
)

// queriesIn returns the queries of a document. Lines that are indented or begin with a closing bracket continue one.
func queriesIn(document string) []string {
	var queries []string
	for _, block := range promqlBlock.FindAllStringSubmatch(document, -1) {
		first := true
		for _, line := range lines(promqlComment.ReplaceAllString(block[1], "")) {
			text := strings.TrimSpace(line)
			switch {
			case text == "":
			case !first && strings.IndexAny(line, " \t)}]") == 0:
				queries[len(queries)-1] += "\n" + text
			default:
				queries = append(queries, text)
			}
			first = first && text == ""
		}
	}
	return queries
}

// alert is an alert as Prometheus' API has it.
type alert struct {
	State               string
	Labels, Annotations map[string]string
}

func readAlerts(p *prometheus.Server) ([]alert, error) {
	var data struct{ Alerts []alert }
	err := p.Get("/api/v1/alerts", nil, &data)
	return data.Alerts, err
}

// alerts expects the alerts that the seed calls for. Most of them are pending, because they fire only after minutes.
func (s seed) alerts(t *testing.T) {
	shop, team := s.shop.namespace, s.team.namespace
	want := []string{
		"HelmReleaseFailed " + shop + "/broken",
		"HelmReleaseUpgradeFailed " + team + "/half",
		"HelmReleaseStuckPending " + team + "/app",
		"HelmReleaseStuckUninstalling " + shop + "/app",
		"HelmReleasePayloadLarge " + shop + "/big",
		"HelmReleasePayloadUndecodable " + shop + "/odd",
		"HelmReleaseChartDeprecated " + shop + "/dated",
	}
	for _, f := range s.facts {
		if f.stored > 1 {
			want = append(want, "HelmReleaseManyRevisions "+f.Namespace+"/"+f.Name)
		}
	}
	slices.Sort(want)
	eventually(t, patience, func() error {
		alerts, err := readAlerts(s.Server)
		if err != nil {
			return err
		}
		var got []string
		for _, a := range alerts {
			release := a.Labels["namespace"] + "/" + a.Labels["name"]
			got = append(got, a.Labels["alertname"]+" "+release)
			// The tests of the rules compare the whole text. A template that fails leaves its error in it.
			if text := a.Annotations["description"]; !strings.Contains(text, release) || strings.Contains(text, "error") {
				return fmt.Errorf("the description is %q", text)
			}
			if a.Labels["alertname"] == "HelmReleaseStuckPending" && (a.State != "firing" || a.Labels["status"] != "pending-upgrade") {
				return fmt.Errorf("%s is %s: %v", release, a.State, a.Labels)
			}
		}
		slices.Sort(got)
		return expect.Same("the alerts differ", want, got)
	})
}

// silence expects an alert to keep firing while the exporter is away.
func (s seed) silence(t *testing.T) {
	s.exporter.stop(t)
	eventually(t, patience, func() error {
		got, err := evaluate(s.Server, "count_over_time(helm_state_metrics:silent[1m]) >= 3")
		if err == nil && len(got) == 0 {
			err = errors.New("the rules have not yet noticed it three times")
		}
		return err
	})
	firing := answer{series: series{"": 1}}
	expect.NoError(t, firing.to(s.Server, `count(ALERTS{alertname="HelmReleaseStuckPending", alertstate="firing"})`)())
}

// settings are the names of the recording rules with thresholds.
var settings = []string{"pending_after_seconds", "uninstalling_after_seconds", "stored_revisions_limit"}

// impatientRules returns a file with the alert rules, whose settings are changed as the documentation recommends.
func impatientRules(t *testing.T) string {
	t.Helper()
	rules := readFile(t, "manifests/chart/helm-state-metrics/files/rules.yaml")
	for _, setting := range settings {
		record := regexp.MustCompile(`(record: helm_state_metrics:` + setting + `\n +expr:) \d+`)
		if !record.MatchString(rules) {
			t.Fatal("there is no setting " + setting)
		}
		rules = record.ReplaceAllString(rules, "$1 1")
	}
	return writeFile(t, "rules.yaml", rules)
}
