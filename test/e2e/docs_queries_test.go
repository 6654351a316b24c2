package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// emptyHanded are the queries that return nothing here, and why.
var emptyHanded = map[string]string{
	`helm_release_status{status=~"pending-.*"} == 1
and on (namespace, name) time() - helm_release_modified_timestamp_seconds > 900`: "no test takes a quarter of an hour",
	`time() - helm_release_updated > 86400`:                                                               "nor a day",
	`helm_release_revision{job="old"} unless on (namespace, name) helm_release_revision{job="new"}`:       "there is but one exporter",
	`helm_release_status{job="old"} != on (namespace, name, status) helm_release_status{job="new"}`:       "there is but one exporter",
	`helm_release_labels{label_team="shop"}`:                                                              "no label was asked for",
	`sum by (reason) (helm_state_metrics_decode_errors_total) > 0`:                                        "all payloads are sound",
	`count by (namespace) (helm_release_revision unless on (namespace, name) helm_release_payload_bytes)`: "and all are read",
	`up == 0`:                          "the exporter is up",
	`helm_state_metrics_watch_up == 0`: "and so are its watches",
	`sum by (storage, reason) (rate(helm_state_metrics_watch_errors_total[5m])) > 0`: "and no one failed",
	`helm_release_revision{exported_namespace!=""}`:                                  "labels are honored",
}

// documentation executes every query that README and docs show. Each has to
// return something, unless it is known why not.
func (s seed) documentation(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	unseen := len(emptyHanded)
	for _, file := range append(files, filepath.Join("..", "..", "README.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, query := range queriesIn(string(text)) {
			got, err := s.query(query)
			if err != nil {
				t.Errorf("%s: %v\n%s", filepath.Base(file), err, query)
			}
			if strings.Contains(query, `"release", "$1", "name"`) {
				s.numbersStatuses(t, got)
			}
			why, excused := emptyHanded[query]
			if excused {
				unseen--
			}
			if excused == (len(got) > 0) {
				t.Errorf("%s: it returns %d series, though expected is that %q\n%s", filepath.Base(file), len(got), why, query)
			}
		}
	}
	if unseen > 0 {
		t.Errorf("%d of the queries that may return nothing are shown nowhere", unseen)
	}
}

// numbersStatuses checks what stands in for helm_chart_info, whose value is a
// number for each status.
func (s seed) numbersStatuses(t *testing.T, got series) {
	t.Helper()
	numbers := map[string]float64{"failed": -1, "deployed": 1, "uninstalled": 2, "uninstalling": 5, "pending-upgrade": 7}
	want := make(series)
	for _, f := range s.facts {
		chart := chartVersion.FindStringSubmatch(f.Chart)
		want.add(numbers[f.Status], "", map[string]string{
			"namespace": f.Namespace, "name": f.Name, "release": f.Name, "revision": strconv.Itoa(f.Revision),
			"chart": chart[1], "chart_version": chart[2], "version": chart[2], "app_version": f.AppVersion, "appVersion": f.AppVersion,
		})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("in place of helm_chart_info (-want +got):\n%s", diff)
	}
}

var (
	promqlBlock = regexp.MustCompile("(?ms)^```promql\n(.*?)^```$")
	// promqlComment may not stand in a string here.
	promqlComment = regexp.MustCompile(`(?m) *#.*$`)
)

// queriesIn returns the queries of all blocks of a document. A line that is
// indented goes on with the query before it; so does one that only closes it.
func queriesIn(document string) []string {
	var queries []string
	for _, block := range promqlBlock.FindAllStringSubmatch(document, -1) {
		first := true
		for _, line := range lines(promqlComment.ReplaceAllString(block[1], "")) {
			words := strings.TrimSpace(line)
			switch {
			case words == "":
			case !first && strings.IndexAny(line, " \t)}]") == 0:
				queries[len(queries)-1] += "\n" + words
			default:
				queries = append(queries, words)
			}
			first = first && words == ""
		}
	}
	return queries
}
