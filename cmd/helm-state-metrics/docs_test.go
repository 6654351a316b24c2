package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/docs"
)

//go:generate go test -run ^TestDocsAreCurrent$ -update .

var update = flag.Bool("update", false, "rewrite the generated parts of the docs")

func TestDocsAreCurrent(t *testing.T) {
	docs.Check(t, *update,
		docs.Part{File: "../../docs/flags.md", Name: "flags", Text: docs.Flags(newApp(&config{}))},
		docs.Part{File: "../../docs/metrics.md", Name: "families", Text: familyReference(t)},
		docs.Part{File: "../../docs/metrics.md", Name: "telemetry", Text: telemetryTable(t)},
	)
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
	return docs.Metrics(t, registry, []string{"namespace", "storage"}, "helm_state_metrics_")
}
