package e2e_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/prometheus"
)

type dashboard struct {
	UID        string
	Templating struct {
		List []struct{ Name, Type, Query, AllValue string }
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               source
	Targets                  []struct{ Expr, RefID string }
}

type source struct{ Type, UID string }

const (
	ofReleases = "dashboard.json"
	ofExporter = "exporter-dashboard.json"
)

func readDashboard(t *testing.T, file string) (d dashboard, text string) {
	t.Helper()
	text = readFile(t, "manifests/chart/helm-state-metrics/files", file)
	expect.NoError(t, json.Unmarshal([]byte(text), &d))
	return d, text
}

// TestDashboards checks what Grafana needs of both dashboards, without any Prometheus.
func TestDashboards(t *testing.T) {
	t.Parallel()
	filtered := strings.Fields("$cluster $job $namespace $release $chart")
	excused := []string{"Exporters out of date", "Payloads that cannot be decoded"} // These show the exporter, and releases whose chart is not known.
	rules, runbook := readFile(t, "manifests/chart/helm-state-metrics/files/rules.yaml"), readFile(t, "docs/runbook.md")
	chosen := source{Type: "prometheus", UID: "${datasource}"}
	for file, uid := range map[string]string{ofReleases: "helm-state-metrics", ofExporter: "helm-state-metrics-exporter"} {
		d, text := readDashboard(t, file)
		if d.UID != uid {
			t.Errorf("%s: the uid is %q", file, d.UID)
		}
		taken := make(map[[2]int]string)
		for i, p := range d.Panels {
			if p.Type != "row" && (p.Description == "" || p.Datasource != chosen || len(p.Targets) == 0) {
				t.Errorf("%s: %s lacks a description, the chosen data source, or a query", file, p.Title)
			}
			for _, target := range p.Targets {
				for _, variable := range filtered {
					if file == ofReleases && !strings.Contains(target.Expr, variable) && !slices.Contains(excused, p.Title) {
						t.Errorf("%s: %s/%s does not depend on %s", file, p.Title, target.RefID, variable)
					}
				}
			}
			if p.ID != i+1 || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: %s has the id %d and is not in order, or it is too wide", file, p.Title, p.ID)
			}
			for at := range p.GridPos.W * p.GridPos.H {
				cell := [2]int{p.GridPos.X + at%p.GridPos.W, p.GridPos.Y + at/p.GridPos.W}
				if other, ok := taken[cell]; ok {
					t.Fatalf("%s: %s covers %s", file, p.Title, other)
				}
				taken[cell] = p.Title
			}
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" && v.AllValue != ".*" { // which also matches a label that is absent
				t.Errorf("%s: all values of %s are %q", file, v.Name, v.AllValue)
			}
		}
		keepsClusters(t, file, text)
		for _, record := range unique(regexp.MustCompile(`helm_state_metrics:\w+`).FindAllString(text, -1)) {
			if !strings.Contains(rules, "record: "+record+"\n") {
				t.Errorf("%s: there is no rule %s", file, record)
			}
		}
		for _, link := range regexp.MustCompile(`https://[^"]+/runbook\.md#`).FindAllString(text, -1) {
			if !strings.Contains(rules, "runbook_url: "+link) {
				t.Errorf("%s: the runbook of the rules is not %s", file, link)
			}
		}
		for _, section := range regexp.MustCompile(`['#](helm(?:release|state|chart)[a-z]+)`).FindAllStringSubmatch(text, -1) {
			if !regexp.MustCompile(`(?im)^### ` + section[1] + `$`).MatchString(runbook) {
				t.Errorf("%s: the runbook has no section %s", file, section[1])
			}
		}
	}
}

func unique(all []string) []string { return slices.Compact(slices.Sorted(slices.Values(all))) }

// keepsClusters expects the label cluster in every join and aggregation by labels, except where clusters add up.
func keepsClusters(t *testing.T, file, text string) {
	t.Helper()
	addUp := []string{"status", "level", "chart", "chart, chart_version"}
	for _, match := range regexp.MustCompile(`\b(on|by) \(([^)]*)\)`).FindAllStringSubmatch(text, -1) {
		if !strings.HasPrefix(match[2], "cluster") && (match[1] == "on" || !slices.Contains(addUp, match[2])) {
			t.Errorf("%s: %s has no cluster", file, match[0])
		}
	}
}

// scene is what a dashboard shows: the choices of a person, and what there is to be seen.
type scene struct {
	seed                          // with the facts about the releases that are chosen
	choice      map[string]string // values of variables; All if missing
	alerts      bool              // whether Prometheus has loaded the rules
	thresholds  bool              // whether it has those of impatientRules
	clusters    int               // that have these releases
	exporters   int               // in each cluster
	shards      int               // of these exporters, 1 for replicas
	stale       int               // how many exporters in each cluster are cut off from the API server
	allStatuses bool              // whether the exporters run with --metrics.all-statuses
	guarded     bool              // whether they run with --auth-filter, and limited
}

// limited is how many releases of a namespace a guarded exporter exposes.
const limited = 2

// chartVersions records what helm-chart-versions exposes if the latest version of every chart is 9.0.0.
const chartVersions = `
  - {record: helm_release_chart_unresolved, labels: {reason: no_repository}, expr: 'max by (cluster, namespace, name, chart) (helm_release_info{chart="hook"} unless on (cluster, job, instance) helm_state_metrics:stale)'}
  - record: helm_release_chart_latest_info
    labels: {repository: stable, latest_version: 9.0.0}
    expr: |
      label_replace(label_replace(label_replace(
        max by (cluster, namespace, name, chart, chart_version) (helm_release_info{chart!="hook"} unless on (cluster, job, instance) helm_state_metrics:stale),
        "level", "minor", "", ""), "level", "major", "chart", "web"), "level", "none", "chart", "deprecated")
`

// startFleet starts a Prometheus that scrapes exporters of the same releases, in one cluster for each scene. Its rules
// tell which exporter is stale, the thresholds of one of the clusters, and the latest versions of charts.
func (s seed) startFleet(t *testing.T, stale *exporter, namespaces string) *prometheus.Server {
	t.Helper()
	start := func(flags ...string) string {
		e := startExporter(t, shared.kubeconfig(t, access{}), append(flags, namespaces)...)
		e.awaitReady(t)
		return e.target()
	}
	replica, shard := start(), start("--shard=0", "--total-shards=2")
	config := scraping
	for cluster, targets := range map[string][]string{
		"replicas": {replica, start()},
		"stale":    {replica, stale.target()},
		"shards":   {shard, start("--shard=1", "--total-shards=2")},
		"partial":  {shard},
		"statuses": {start("--metrics.all-statuses")},
		"guarded":  {start("--auth-filter", fmt.Sprintf("--metrics.max-releases-per-namespace=%d", limited))},
	} {
		config += fmt.Sprintf("  - {labels: {cluster: %s}, targets: [\"%s\"]}\n", cluster, strings.Join(targets, `", "`))
	}
	rules := "groups:\n- name: fleet\n  rules:\n" +
		"  - {record: helm_state_metrics:stale, expr: 'group by (cluster, job, instance) (helm_state_metrics_watch_up == 0)'}\n"
	for _, setting := range settings {
		rules += fmt.Sprintf("  - {record: helm_state_metrics:%s, expr: 1, labels: {cluster: statuses}}\n", setting)
	}
	rules += chartVersions
	return runPrometheus(t, config+fmt.Sprintf("  authorization: {credentials: %q}\nrule_files: [%q]\n",
		shared.config.BearerToken, writeFile(t, "rules.yaml", rules)))
}

// scenes are one exporter, choices among its releases, and other exporters of these releases.
func (s seed) scenes(file string) map[string]scene {
	only := scene{seed: s, alerts: true, thresholds: true, clusters: 1, exporters: 1, shards: 1}
	in := func(cluster string, c scene) scene {
		c.seed, c.choice = s, map[string]string{"cluster": cluster}
		c.Server = s.fleet
		return c
	}
	scenes := map[string]scene{
		"one exporter": only,
		"two replicas": in("replicas", scene{clusters: 1, exporters: 2, shards: 1}),
		"two shards":   in("shards", scene{clusters: 1, exporters: 2, shards: 2}),
	}
	if file == ofExporter {
		scenes["a guarded exporter"] = in("guarded", scene{clusters: 1, exporters: 1, shards: 1, guarded: true})
		return scenes
	}
	scenes["all statuses"] = in("statuses", scene{clusters: 1, thresholds: true, allStatuses: true})
	scenes["a stale replica"] = in("stale", scene{clusters: 1, stale: 1})
	inShop := func(f fact) bool { return f.Namespace == s.shop.namespace }
	scenes["a namespace of two clusters"] = in("(replicas|shards)", scene{clusters: 2}).choose("namespace", s.shop.namespace, inShop)
	scenes["a namespace"] = only.choose("namespace", s.team.namespace, func(f fact) bool { return !inShop(f) })
	scenes["two names"] = only.choose("release", "(front|app)", func(f fact) bool { return f.Name == "front" || f.Name == "app" })
	scenes["a chart, and what may have it"] = only.choose("chart", "hook", func(f fact) bool {
		return strings.HasPrefix(f.Chart, "hook-") || isUndecodable(f)
	})
	return scenes
}

// choose sets a variable, which leaves the releases for which a condition holds.
func (c scene) choose(variable, value string, holds func(fact) bool) scene {
	c.choice = maps.Clone(c.choice)
	if c.choice == nil {
		c.choice = make(map[string]string)
	}
	c.choice[variable] = value
	c.facts = slices.DeleteFunc(slices.Clone(c.facts), func(f fact) bool { return !holds(f) })
	return c
}

// dashboards compares every query with its expected answer in each scene. Neither queries nor answers may be missing.
func (s seed) dashboards(t *testing.T) {
	for file, answers := range map[string]func(scene, *testing.T) map[string]answer{
		ofReleases: scene.answersAboutReleases,
		ofExporter: scene.answersAboutTheExporter,
	} {
		d, _ := readDashboard(t, file)
		s.variables(t, file, d)
		for name, c := range s.scenes(file) {
			t.Run(file+"/"+name, func(t *testing.T) {
				want := answers(c, t)
				for _, p := range d.Panels {
					for _, target := range p.Targets {
						title := p.Title + "/" + target.RefID
						answer, ok := want[title]
						delete(want, title)
						t.Run(title, func(t *testing.T) {
							if !ok {
								t.Fatal("there is no expected answer")
							}
							eventually(t, patience, c.expects(answer, target.Expr))
						})
					}
				}
				for title := range want {
					t.Errorf("there is no query %s", title)
				}
			})
		}
	}
}

// missingShard scrapes only one of two shards.
func (s seed) missingShard(t *testing.T) {
	d, _ := readDashboard(t, ofExporter)
	at := slices.IndexFunc(d.Panels, func(p panel) bool { return p.Title == "Shards missing" })
	c := scene{seed: seed{Server: s.fleet}, choice: map[string]string{"cluster": "partial"}, clusters: 1}
	eventually(t, patience, c.expects(number(1), d.Panels[at].Targets[0].Expr))
}

func (c scene) substitute(query string) string {
	pairs := []string{"$__rate_interval", "10m", "$__range_s", "3600", "$__interval_ms", "3600000"}
	for _, variable := range []string{"cluster", "job", "namespace", "chart", "release"} {
		pairs = append(pairs, "$"+variable, cmp.Or(c.choice[variable], ".*"))
	}
	return strings.NewReplacer(pairs...).Replace(query)
}

// scope says of what an answer is one part. What an answer lacks is the labels of the target, and cluster.
type scope int

const (
	ofCluster  scope = iota
	ofInstance       // of an exporter
	ofShard          // of all shards of a cluster, once for each replica
	ofAll            // of all clusters, which add up
	ofAny            // of all clusters, which may have the same
)

// expects returns a check that a query has this answer, once for each cluster or exporter.
func (c scene) expects(a answer, query string) func() error {
	return func() error {
		got, err := evaluateParts(c.Server, c.substitute(query))
		if err != nil {
			return err
		}
		parts := 1
		switch a.scope {
		case ofCluster:
			parts = c.clusters
		case ofInstance:
			parts = c.exporters
		case ofShard:
			parts = c.exporters / c.shards
		case ofAll:
			a.series = maps.Clone(a.series)
			for name := range a.series {
				a.series[name] *= float64(c.clusters)
			}
		}
		if len(a.series) == 0 && a.holds == nil {
			parts = 0
		}
		if len(got) != parts {
			return fmt.Errorf("it returns %d parts instead of %d: %v", len(got), parts, got)
		}
		for _, part := range got {
			if err := a.accepts(part); err != nil {
				return err
			}
		}
		return nil
	}
}

var labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)

// variables evaluates the queries that return the values of variables.
func (s seed) variables(t *testing.T, file string, d dashboard) {
	t.Helper()
	var names []string
	for _, f := range s.facts {
		names = append(names, f.Name)
	}
	want := map[string][]string{
		"cluster":   {"guarded", "partial", "replicas", "shards", "stale", "statuses"},
		"job":       {"e2e"},
		"namespace": slices.Sorted(slices.Values([]string{s.shop.namespace, s.team.namespace})),
		"chart":     {"deprecated", "hook", "site-settings", "web"},
		"release":   unique(names),
	}
	if file == ofExporter {
		maps.DeleteFunc(want, func(name string, _ []string) bool { return name != "cluster" && name != "job" })
	}
	for _, from := range []scene{{seed: seed{Server: s.fleet}}, {seed: s}} {
		if from.Server == s.Server {
			want["cluster"] = nil
		}
		got := make(map[string][]string)
		for _, v := range d.Templating.List {
			match := labelValues.FindStringSubmatch(from.substitute(v.Query))
			if v.Type != "query" || match == nil {
				continue
			}
			var values []string
			eventually(t, patience, func() error {
				return from.Get("/api/v1/label/"+match[2]+"/values", url.Values{"match[]": {match[1]}}, &values)
			})
			got[v.Name] = values
		}
		expect.Equal(t, file+": values of the variables", want, got, cmpopts.EquateEmpty())
	}
}
