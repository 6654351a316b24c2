package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/charts"
)

// TestMain runs the program itself for BenchmarkOnce.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// BenchmarkOnce runs the program with 10,000 releases and an index of 50 MB.
func BenchmarkOnce(b *testing.B) {
	dir := b.TempDir()
	index, err := os.Create(filepath.Join(dir, "index.yaml"))
	if err != nil {
		b.Fatal(err)
	}
	charts.WriteIndex(index, 50<<20)
	if err := index.Close(); err != nil {
		b.Fatal(err)
	}
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte("repositories: [{name: large, url: 'file://"+dir+"'}]\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	var info strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&info, "helm_release_info{app_version=\"1\",chart=\"the-%d\",chart_version=\"1.0.0\",name=\"release-%d\",namespace=\"team-%d\",revision=\"1\"} 1\n", i%30*10+1, i, i%100)
	}
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, info.String()) }))
	defer exporter.Close()
	var peak int64
	for b.Loop() {
		cmd := exec.Command(os.Args[0], "--once", "--config="+config, "--exporter.url="+exporter.URL+"/metrics")
		cmd.Env = append(os.Environ(), "RUN_MAIN=1")
		out, err := cmd.Output()
		if lines := strings.Count(string(out), "\n"); err != nil || lines != 10_001 {
			b.Fatalf("%d lines, %v", lines, err)
		}
		peak = max(peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	}
	b.ReportMetric(float64(peak)/1024, "peak-RSS-MiB")
}
