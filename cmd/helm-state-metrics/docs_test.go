package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
)

//go:generate go test -run ^TestDocsAreCurrent$ -update .

var update = flag.Bool("update", false, "rewrite the generated parts of the docs")

// TestDocsAreCurrent compares the generated parts of the docs, which stand between markers, with what the code
// says. With -update it writes them.
func TestDocsAreCurrent(t *testing.T) {
	for _, tc := range []struct{ file, part, want string }{
		{"../../docs/flags.md", "flags", flagTable()},
		{"../../docs/metrics.md", "families", familyReference(t)},
		{"../../docs/metrics.md", "telemetry", telemetryTable(t)},
	} {
		text, err := os.ReadFile(tc.file)
		if err != nil {
			t.Fatal(err)
		}
		begin, end := fmt.Sprintf("<!-- begin generated %s -->\n", tc.part), fmt.Sprintf("<!-- end generated %s -->", tc.part)
		before, tail, found := strings.Cut(string(text), begin)
		got, after, closed := strings.Cut(tail, end)
		if !found || !closed {
			t.Errorf("%s has no markers for %q", tc.file, tc.part)
			continue
		}
		if *update {
			if err := os.WriteFile(tc.file, []byte(before+begin+tc.want+end+after), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s is stale, run make generate (-want +got):\n%s", tc.file, tc.part, diff)
		}
	}
}

func flagTable() string {
	var b strings.Builder
	app := newApp(&config{})
	b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	for _, f := range app.Model().Flags {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			continue
		}
		value := ""
		if len(f.Default) > 0 {
			value = "`" + strings.Join(f.Default, ",") + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, value, strings.ReplaceAll(f.Help, "|", `\|`))
	}
	return b.String()
}

// families returns every family, with those that an option adds marked.
func families(t *testing.T) []metrics.Family {
	t.Helper()
	all, err := metrics.Families(metrics.Options{ReleaseLabels: []string{"example"}})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func familyReference(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| metric | labels | source | meaning |\n|---|---|---|---|\n")
	for _, f := range families(t) {
		source := "metadata"
		if f.Payload {
			source = "payload"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, strings.Join(f.Labels, ", "), source, strings.TrimSpace(strings.TrimSuffix(f.Help, ".")+". "+f.Note))
	}
	return b.String()
}

// telemetryTable wires the exporter as main does, and reads what its registry says of itself.
func telemetryTable(t *testing.T) string {
	t.Helper()
	cfg, err := parseFlags([]string{
		"--web.listen-address=127.0.0.1:0", "--health.listen-address=127.0.0.1:0", "--pages.listen-address=127.0.0.1:0", "--auth-filter",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	if _, _, err := wire(cfg, &rest.Config{Host: "http://cluster.invalid"}, registry, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	gathered, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range gathered {
		if !strings.HasPrefix(f.GetName(), "helm_state_metrics_") {
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
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), describe(f.GetName(), values), f.GetHelp())
	}
	return b.String()
}

// describe names the labels, with their values where the set is closed.
func describe(name string, values map[string][]string) string {
	var labels []string
	for label, set := range values {
		if strings.HasSuffix(name, "_build_info") || label == "namespace" || label == "storage" {
			labels = append(labels, "`"+label+"`")
			continue
		}
		slices.Sort(set)
		labels = append(labels, fmt.Sprintf("`%s` (%s)", label, strings.Join(set, ", ")))
	}
	slices.Sort(labels)
	return strings.Join(labels, "; ")
}
