package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
)

// churnWhileWatched is how many releases change per second while Prometheus
// scrapes: a busy day of a large cluster.
const churnWhileWatched = 50

// watch lets Prometheus scrape the engine and the baseline, and reports what
// it says of its scrapes.
func watch(ctx context.Context, o options, e *engine) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	engineAddress, err := serve(ctx, e.handler)
	if err != nil {
		return "", err
	}
	baselineAddress, err := serve(ctx, fleet.GaugeVecs(fleet.Of(o.releases)))
	if err != nil {
		return "", err
	}
	want, err := samples(ctx, engineAddress)
	if err != nil {
		return "", err
	}
	api, stop, err := startPrometheus(ctx, o.prometheus, map[string]string{"engine": engineAddress, "baseline": baselineAddress})
	if err != nil {
		return "", err
	}
	defer stop()
	fmt.Fprintf(os.Stderr, "Prometheus scrapes for %s …\n", o.watched)
	limited, done := context.WithTimeout(ctx, o.watched)
	defer done()
	e.churn(limited, churnWhileWatched)
	if err := ctx.Err(); err != nil {
		return "", err
	}

	report := fmt.Sprintf("\n## Prometheus\n\nA real Prometheus scraped both every 5 s for %s, while %d releases a second got a new revision.\n\n", o.watched, churnWhileWatched)
	report += "| | engine | promhttp over GaugeVecs |\n|---|---|---|\n"
	window := fmt.Sprintf("[%ds]", int(o.watched.Seconds()))
	for _, row := range []struct{ name, query, format string }{
		{"scrapes", "count_over_time(up{job=%q}" + window + ")", "%.0f"},
		{"failed scrapes", "sum_over_time((1 - up{job=%q})" + window[:len(window)-1] + ":5s])", "%.0f"},
		{"samples per scrape, least", "min_over_time(scrape_samples_scraped{job=%q}" + window + ")", "%.0f"},
		{"samples per scrape, most", "max_over_time(scrape_samples_scraped{job=%q}" + window + ")", "%.0f"},
		{"scrape duration, median, s", "quantile_over_time(0.5, scrape_duration_seconds{job=%q}" + window + ")", "%.3f"},
		{"scrape duration, p99, s", "quantile_over_time(0.99, scrape_duration_seconds{job=%q}" + window + ")", "%.3f"},
	} {
		of := map[string]float64{}
		for _, job := range []string{"engine", "baseline"} {
			if of[job], err = query(ctx, api, fmt.Sprintf(row.query, job)); err != nil {
				return "", err
			}
		}
		report += fmt.Sprintf("| %s | "+row.format+" | "+row.format+" |\n", row.name, of["engine"], of["baseline"])
		switch got := of["engine"]; {
		case row.name == "failed scrapes" && got > 0:
			return "", fmt.Errorf("%.0f scrapes of the engine failed", got)
		case row.format == "%.0f" && row.name[:7] == "samples" && int(got) != want:
			return "", fmt.Errorf("%s: %.0f, want %d", row.name, got, want)
		}
	}
	return report, nil
}

// startPrometheus returns the address of a server that scrapes the given jobs
// every five seconds, and what stops it and removes its data.
func startPrometheus(ctx context.Context, path string, jobs map[string]string) (string, func(), error) {
	dir, err := os.MkdirTemp("", "load-prometheus-")
	if err != nil {
		return "", nil, err
	}
	config := "global: {scrape_interval: 5s, scrape_timeout: 5s}\nscrape_configs:\n"
	for job, address := range jobs {
		config += fmt.Sprintf("- {job_name: %s, honor_labels: true, static_configs: [{targets: [%q]}]}\n", job, address)
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return "", nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		return "", nil, err
	}
	cmd := exec.Command(path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	ready := time.NewTicker(100 * time.Millisecond)
	defer ready.Stop()
	for {
		select {
		case <-ctx.Done():
			stop()
			return "", nil, ctx.Err()
		case <-ready.C:
			if _, err := query(ctx, address, "vector(1)"); err == nil {
				return address, stop, nil
			}
		}
	}
}

// query returns the value of a query with one result.
func query(ctx context.Context, address, promql string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/api/v1/query?query="+url.QueryEscape(promql), nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) != 1 {
		return 0, fmt.Errorf("%s: %d results %s", promql, len(answer.Data.Result), answer.Error)
	}
	value, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(value, 64)
}
