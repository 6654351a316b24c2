package e2e_test

import (
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestKnow executes whatever is there to know about releases: each query of
// the dashboard, the alert rules, and the queries of the documentation.
func TestKnow(t *testing.T) {
	t.Parallel()
	s := newSeed(t)
	t.Run("dashboard", s.dashboard)
	t.Run("alerts", s.alerts)
	t.Run("queries of the documentation", s.documentation)
	t.Run("alerts while the exporter is away", s.silence) // comes last
}

// dashboard is what is looked at of dashboard.json.
type dashboard struct {
	UID        string
	Templating struct {
		List []struct {
			Name, Type, Definition string
			Query                  any
		}
	}
	Panels []panel
}

type panel struct {
	Type, Title, Description string
	Datasource               source
	Targets                  []struct {
		Expr, RefID string
		Datasource  source
	}
}

type source struct{ Type, UID string }

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "manifests", "chart", "helm-state-metrics", "files", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// dashboard expects of every query what the seed says. A query that nobody
// expects anything of is a failure, and so is an expectation without a query.
func (s seed) dashboard(t *testing.T) {
	d := readDashboard(t)
	if d.UID != "helm-state-metrics" {
		t.Errorf("the dashboard's uid is %q", d.UID)
	}
	s.variables(t, d)
	want := s.answers(t)
	chosen := source{Type: "prometheus", UID: "${datasource}"}
	for _, p := range d.Panels {
		if p.Type != "row" && (p.Description == "" || p.Datasource != chosen || len(p.Targets) == 0) {
			t.Errorf("%s lacks a description, the data source that was chosen, or a query", p.Title)
		}
		for _, target := range p.Targets {
			name := p.Title + "/" + target.RefID
			answer, ok := want[name]
			delete(want, name)
			t.Run(name, func(t *testing.T) {
				if !ok || target.Datasource != chosen {
					t.Fatal("nobody knows what the query should return, or it asks another data source")
				}
				query := s.substitute(target.Expr)
				eventually(t, patience, func() error { return answer.to(s.prometheus, query) })
			})
		}
	}
	for name := range want {
		t.Errorf("there is no query %s", name)
	}
}

// substitute does what Grafana does with variables.
func (s seed) substitute(query string) string {
	return strings.NewReplacer(
		"$namespace", "("+s.shop.namespace+"|"+s.team.namespace+")",
		"$chart", ".*",
		"$hangs", "1",
		"$__rate_interval", "1m",
		"$__range_s", "3600",
		"$__interval_ms", "3600000",
	).Replace(query)
}

var labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)

// variables executes those queries that offer values for a variable.
func (s seed) variables(t *testing.T, d dashboard) {
	t.Helper()
	want := map[string]any{
		"datasource": "prometheus",
		"namespace":  slices.Sorted(slices.Values([]string{s.shop.namespace, s.team.namespace})),
		"chart":      []string{"deprecated", "hook", "site-settings", "web"},
		"hangs":      "300,900,1800,3600",
	}
	got := make(map[string]any)
	for _, v := range d.Templating.List {
		got[v.Name] = v.Query
		match := labelValues.FindStringSubmatch(s.substitute(v.Definition))
		if v.Type != "query" || match == nil {
			continue
		}
		var values []string
		eventually(t, patience, func() error {
			return s.get("/api/v1/label/"+match[2]+"/values", url.Values{"match[]": {match[1]}}, &values)
		})
		got[v.Name] = values
		if query, _ := v.Query.(map[string]any); query["query"] != v.Definition {
			t.Errorf("the variable %s has a query and a definition that differ", v.Name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values of the variables (-want +got):\n%s", diff)
	}
}

// tally adds up values by labels, as aggregations of PromQL do. What has nil
// for labels is left out.
func tally(facts []fact, each func(fact) (labels map[string]string, value float64)) series {
	sums := make(series)
	for _, f := range facts {
		if labels, value := each(f); labels != nil {
			sums[seriesName("", labels)] += value
		}
	}
	return sums
}

// rows are series that have one label more than the given ones, with one of
// the words each.
func rows(label string, values map[string]float64, more map[string]string) series {
	all := make(series)
	for word, value := range values {
		labels := maps.Clone(more)
		if labels == nil {
			labels = make(map[string]string)
		}
		labels[label] = word
		all.add(value, "", labels)
	}
	return all
}
