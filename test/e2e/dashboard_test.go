package e2e_test

import (
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

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
	var d dashboard
	expect.NoError(t, json.Unmarshal([]byte(readFile(t, "manifests/chart/helm-state-metrics/files/dashboard.json")), &d))
	return d
}

// dashboard compares every query with its expected answer. Neither queries nor answers may be missing.
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
			t.Errorf("%s lacks a description, the chosen data source, or a query", p.Title)
		}
		for _, target := range p.Targets {
			name := p.Title + "/" + target.RefID
			answer, ok := want[name]
			delete(want, name)
			t.Run(name, func(t *testing.T) {
				if !ok || target.Datasource != chosen {
					t.Fatal("there is no expected answer, or the query uses another data source")
				}
				eventually(t, patience, answer.to(s.Server, s.substitute(target.Expr)))
			})
		}
	}
	for name := range want {
		t.Errorf("there is no query %s", name)
	}
}

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

// variables evaluates the queries that return the values of variables.
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
			return s.Get("/api/v1/label/"+match[2]+"/values", url.Values{"match[]": {match[1]}}, &values)
		})
		got[v.Name] = values
		if query, _ := v.Query.(map[string]any); query["query"] != v.Definition {
			t.Errorf("the variable %s has a query and a definition that differ", v.Name)
		}
	}
	expect.Equal(t, "values of the variables", want, got)
}

// tally sums values of the releases for which a condition holds, by labels, as aggregations of PromQL do.
func (s seed) tally(holds func(fact) bool, labels func(fact) map[string]string, value func(fact) float64) answer {
	sums := make(series)
	for _, f := range s.facts {
		if holds(f) {
			sums[seriesName("", labels(f))] += value(f)
		}
	}
	return answer{series: sums}
}

func one(fact) float64 { return 1 }

// rows returns series without a name. Each has the given labels and one more, whose values are the keys.
func rows(label string, values map[string]float64, more map[string]string) series {
	all := make(series)
	for key, value := range values {
		labels := maps.Clone(more)
		if labels == nil {
			labels = make(map[string]string)
		}
		labels[label] = key
		all.add(value, "", labels)
	}
	return all
}

// answers returns the expected answers to the queries, by the titles of panels and the letters of queries.
func (s seed) answers(t *testing.T) map[string]answer {
	t.Helper()
	all := s.answersAboutReleases(t)
	maps.Copy(all, s.answersAboutCharts())
	maps.Copy(all, s.answersAboutTheExporter())
	return all
}

// total is the number of releases for which a condition holds.
func (s seed) total(holds func(fact) bool) answer {
	return s.tally(holds, func(fact) map[string]string { return nil }, one)
}

// each has one series for each release for which a condition holds.
func (s seed) each(holds func(fact) bool, value func(fact) float64) answer {
	return s.tally(holds, func(f fact) map[string]string { return map[string]string{"namespace": f.Namespace, "name": f.Name} }, value)
}

func every(fact) bool         { return true }
func failed(f fact) bool      { return f.Status == "failed" }
func pending(f fact) bool     { return strings.HasPrefix(f.Status, "pending-") }
func bad(f fact) bool         { return failed(f) || pending(f) || f.Status == "uninstalling" }
func badButRuns(f fact) bool  { return bad(f) && f.deployed > 0 }
func hasNoRow(f fact) bool    { return strings.HasPrefix(f.Status, "uninstall") }
func notDeployed(f fact) bool { return f.deployed == 0 }

func revision(f fact) float64  { return float64(f.Revision) }
func lastWrite(f fact) float64 { return 1000 * float64(f.record.modified().Unix()) }

func (s seed) answersAboutReleases(t *testing.T) map[string]answer {
	t.Helper()
	byStatus := rows("status", map[string]float64{
		"deployed": 0, "failed": 0, "pending-install": 0, "pending-rollback": 0, "pending-upgrade": 0,
	}, nil)
	byOtherStatus, withStatus := make(series), make(series)
	for _, f := range s.facts {
		if status := seriesName("", map[string]string{"status": f.Status}); hasNoRow(f) {
			byOtherStatus[status]++
		} else {
			byStatus[status]++
		}
		if bad(f) {
			withStatus.add(1, "", map[string]string{"namespace": f.Namespace, "name": f.Name, "status": f.Status})
		}
	}
	sizes := s.each(every, func(f fact) float64 { return float64(len(f.record.payload)) / (1 << 20) })
	sizes.within = 512. / (1 << 20) // See sizeWhenRead.
	return map[string]answer{
		"Releases/A":                    s.total(every),
		"Failed/A":                      s.total(failed),
		"Pending/A":                     s.total(pending),
		"Hanging/A":                     s.total(pending),
		"Without a deployed revision/A": s.total(notDeployed),
		"Releases by status/A":          {series: byStatus},
		"Releases by status/B":          {series: byOtherStatus},
		"Failing and stuck releases/A":  {series: withStatus},
		"Failing and stuck releases/B":  s.each(bad, revision),
		"Failing and stuck releases/C":  s.each(badButRuns, func(f fact) float64 { return float64(f.deployed) }),
		"Failing and stuck releases/D":  s.each(bad, lastWrite),
		"Failing and stuck releases/E":  s.versions(bad, "namespace", "name", "chart", "chart_version"),
		"Recent changes/A":              s.each(every, lastWrite),
		"Recent changes/B":              s.each(every, func(f fact) float64 { return 1000 * float64(f.Updated.unix(t)) }),
		"Recent changes/C":              s.each(every, revision),
		"Releases that changed/A":       s.total(every),
		"Largest records/A":             sizes,
		"Most stored revisions/A":       s.each(every, func(f fact) float64 { return float64(f.stored) }),
	}
}

// versions counts releases by the given labels of helm_release_info.
func (s seed) versions(holds func(fact) bool, labels ...string) answer {
	return s.tally(holds, func(f fact) map[string]string {
		chart := chartVersion.FindStringSubmatch(f.Chart)
		all := map[string]string{
			"namespace": f.Namespace, "name": f.Name, "revision": strconv.Itoa(f.Revision),
			"chart": chart[1], "chart_version": chart[2], "app_version": f.AppVersion,
		}
		maps.DeleteFunc(all, func(label, _ string) bool { return !slices.Contains(labels, label) })
		return all
	}, one)
}

func (s seed) answersAboutCharts() map[string]answer {
	dated := func(f fact) bool { return f.Name == "dated" }
	return map[string]answer{
		"Charts/A":                     {series: series{"": 4}},
		"Charts and versions/A":        s.versions(every, "chart", "chart_version", "app_version"),
		"Charts in several versions/A": {series: series{`{chart="web"}`: 2}},
		"Where each version runs/A":    s.versions(every, "chart", "chart_version", "app_version", "namespace", "name", "revision"),
		"Deprecated charts/A":          s.versions(dated, "namespace", "name", "chart", "chart_version"),
	}
}

func (s seed) answersAboutTheExporter() map[string]answer {
	zero := func(keys string) map[string]float64 {
		values := make(map[string]float64)
		for _, key := range strings.Fields(keys) {
			values[key] = 0
		}
		return values
	}
	secrets := map[string]string{"storage": "secrets"}
	// grows has exactly these series. Those named are above 0, and the others are 0.
	grows := func(all series, some ...string) answer {
		return answer{holds: func(got series) bool {
			for name := range all {
				value, ok := got[name]
				if !ok || value > 0 != slices.Contains(some, name) {
					return false
				}
			}
			return len(got) == len(all)
		}}
	}
	// between has one series with a value in a range.
	between := func(name string, low, high float64) answer {
		return answer{holds: func(got series) bool { return len(got) == 1 && got[name] > low && got[name] < high }}
	}
	watches := rows("namespace", map[string]float64{s.shop.namespace: 1, s.team.namespace: 1}, secrets)
	// Bookmarks come about once per minute.
	silence := rows("namespace", map[string]float64{s.shop.namespace: 60, s.team.namespace: 60}, secrets)
	return map[string]answer{
		"Exporters that answer/A":  {series: series{"": 1}},
		"Payloads to be read/A":    {series: series{"": 0}},
		"Watches/A":                {series: watches},
		"Silence of the watches/A": {series: silence, within: 60},
		"Watch events/A": grows(rows("type", zero("add update delete"), secrets),
			`{storage="secrets",type="add"}`, `{storage="secrets",type="update"}`),
		"Watch errors/A":                    {series: rows("reason", zero("expired forbidden other throttled unauthorized unavailable"), secrets)},
		"Payload reads/A":                   grows(rows("result", zero("ok not_found forbidden error"), nil), `{result="ok"}`),
		"Payloads that cannot be decoded/A": {series: rows("reason", zero("base64 empty gzip json limit no_payload truncated"), nil)},
		"CPU/A":                             between("", 0, 2),
		"Memory/A":                          between("process_resident_memory_bytes", 5e6, 5e8),
		"Scrape duration/A":                 between("scrape_duration_seconds", 0, 1),
		"Samples per scrape/A":              between("scrape_samples_scraped", 100, 1000),
	}
}
