package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// emptyHanded are the queries of the README that return nothing here, and why.
var emptyHanded = map[string]string{
	`helm_release_status{status=~"pending-.*"} == 1
and on (namespace, name) time() - helm_release_modified_timestamp_seconds > 900`: "no test takes a quarter of an hour",
}

// documentation executes every query that README and docs show. Those of the
// README have to return something.
func (s seed) documentation(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme := filepath.Join("..", "..", "README.md")
	unseen := len(emptyHanded)
	for _, file := range append(files, readme) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, query := range queriesIn(string(text)) {
			got, err := s.query(query)
			if err != nil {
				t.Errorf("%s: %v\n%s", filepath.Base(file), err, query)
			}
			if file != readme {
				continue
			}
			why, excused := emptyHanded[query]
			if excused {
				unseen--
			}
			if excused == (len(got) > 0) {
				t.Errorf("README.md: it returns %d series, though expected is that %q\n%s", len(got), why, query)
			}
		}
	}
	if unseen > 0 {
		t.Errorf("%d of the queries that may return nothing are not in the README", unseen)
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
