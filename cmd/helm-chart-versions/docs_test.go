package main

import (
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/docs"
)

//go:generate go test -run ^TestDocsAreCurrent$ -update .

var update = flag.Bool("update", false, "rewrite the generated parts of the docs")

func TestDocsAreCurrent(t *testing.T) {
	const file = "../../docs/chart-versions.md"
	docs.Check(t, *update,
		docs.Part{File: file, Name: "flags", Text: docs.Flags(newApp(&config{}))},
		docs.Part{File: file, Name: "metrics", Text: metricsTable(t)},
	)
}

// metricsTable wires the program as main does, with a release at each level and each reason, and reads its registry.
func metricsTable(t *testing.T) string {
	t.Helper()
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(releases))
	}))
	defer exporter.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"config.yaml": "repositories:\n- {name: a, url: \"file://" + dir + "/a.yaml\"}\n- {name: b, url: \"file://" + dir + "/b.yaml\"}\n" +
			"- {name: away, url: oci://127.0.0.1:1/charts}\nrules:\n- {chart: failed, repository: away}\n- {chart: found, repository: b}\n",
		"a.yaml": "apiVersion: v1\nentries:\n  app:\n  - {name: app, version: 2.1.1}\n  twice:\n  - {name: twice, version: 1.0.0}\n",
		"b.yaml": "apiVersion: v1\nentries:\n  twice:\n  - {name: twice, version: 1.0.0}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := parseFlags([]string{
		"--config=" + filepath.Join(dir, "config.yaml"), "--exporter.url=cluster=c," + exporter.URL + "/metrics",
		"--web.listen-address=127.0.0.1:0", "--health.listen-address=127.0.0.1:0",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	tracker, err := newTracker(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	if _, err := listen(cfg, tracker, registry, log); err != nil {
		t.Fatal(err)
	}
	if err := untilReady(t.Context(), tracker); err != nil {
		t.Fatal(err)
	}
	return docs.Metrics(t, registry, []string{"chart", "chart_version", "cluster", "exporter", "latest_version", "name", "namespace", "repository"}, "helm_release_", "helm_chart_")
}

const releases = `
helm_release_info{chart="app",chart_version="1.0.0",name="major",namespace="a"} 1
helm_release_info{chart="app",chart_version="2.0.0",name="minor",namespace="a"} 1
helm_release_info{chart="app",chart_version="2.1.0",name="patch",namespace="a"} 1
helm_release_info{chart="app",chart_version="2.1.1",name="none",namespace="a"} 1
helm_release_info{chart="app",chart_version="latest",name="not-semver",namespace="a"} 1
helm_release_info{chart="found",chart_version="1.0.0",name="not-found",namespace="a"} 1
helm_release_info{chart="failed",chart_version="1.0.0",name="failed",namespace="a"} 1
helm_release_info{chart="twice",chart_version="1.0.0",name="twice",namespace="a"} 1
helm_release_info{chart="unknown",chart_version="1.0.0",name="unknown",namespace="a"} 1
`
