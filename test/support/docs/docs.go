// Package docs writes the generated parts of the documentation, and checks that they are current.
package docs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// Part is a generated part of a file, between markers with its name.
type Part struct{ File, Name, Text string }

// Check compares parts with what the files have. With update it writes them instead.
func Check(t *testing.T, update bool, parts ...Part) {
	t.Helper()
	for _, p := range parts {
		text, err := os.ReadFile(p.File)
		if err != nil {
			t.Fatal(err)
		}
		begin, end := fmt.Sprintf("<!-- begin generated %s -->\n", p.Name), fmt.Sprintf("<!-- end generated %s -->", p.Name)
		before, tail, found := strings.Cut(string(text), begin)
		got, after, closed := strings.Cut(tail, end)
		if !found || !closed {
			t.Errorf("%s has no markers for %q", p.File, p.Name)
			continue
		}
		if update {
			if err := os.WriteFile(p.File, []byte(before+begin+p.Text+end+after), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(p.Text, got); diff != "" {
			t.Errorf("%s: %s is stale, run make generate (-want +got):\n%s", p.File, p.Name, diff)
		}
	}
}

// Flags returns a table of the flags of a program.
func Flags(app *kingpin.Application) string {
	var b strings.Builder
	b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	for _, f := range app.Model().Flags {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			continue
		}
		value := ""
		if strings.Join(f.Default, "") != "" {
			value = "`" + strings.Join(f.Default, ",") + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, value, strings.ReplaceAll(f.Help, "|", `\|`))
	}
	return b.String()
}

// Metrics returns a table of the families that a registry has and whose names begin with one of some prefixes. The
// values of labels are listed, but of those whose set is open.
func Metrics(t *testing.T, from prometheus.Gatherer, open []string, prefixes ...string) string {
	t.Helper()
	gathered, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range gathered {
		name := f.GetName()
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		values := map[string][]string{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(values[l.GetName()], l.GetValue()) {
					values[l.GetName()] = append(values[l.GetName()], l.GetValue())
				}
			}
		}
		var labels []string
		for label, set := range values {
			if strings.HasSuffix(name, "_build_info") || slices.Contains(open, label) {
				labels = append(labels, "`"+label+"`")
				continue
			}
			slices.Sort(set)
			labels = append(labels, fmt.Sprintf("`%s` (%s)", label, strings.Join(set, ", ")))
		}
		slices.Sort(labels)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, "; "), f.GetHelp())
	}
	return b.String()
}
