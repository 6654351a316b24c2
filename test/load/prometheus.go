package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/prometheus"
)

// churnWhileWatched is how many releases change per second while Prometheus scrapes, as on a busy day of a large
// cluster.
const churnWhileWatched = 50

// watch lets Prometheus scrape the engine and the baseline, and reports what it measured.
func watch(ctx context.Context, o options, e *engine) (report string, err error) {
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
	body, err := get(ctx, engineAddress, "identity")
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return "", err
	}
	want := prometheus.Count(text, "")
	server, stop, err := startPrometheus(ctx, map[string]string{"engine": engineAddress, "baseline": baselineAddress})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	fmt.Fprintf(os.Stderr, "Prometheus scrapes for %s …\n", o.watched)
	limited, done := context.WithTimeout(ctx, o.watched)
	defer done()
	e.churn(limited, churnWhileWatched)
	if err := ctx.Err(); err != nil {
		return "", err
	}

	report = fmt.Sprintf("\n## Prometheus\n\nA real Prometheus scraped both every 5 s for %s, while %d releases a second got a new revision.\n\n", o.watched, churnWhileWatched)
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
			if of[job], err = query(server, fmt.Sprintf(row.query, job)); err != nil {
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

// startPrometheus starts a server that scrapes the given addresses, by the names of their jobs, every five seconds.
// stop ends it and removes its data.
func startPrometheus(ctx context.Context, jobs map[string]string) (server *prometheus.Server, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "load-prometheus-")
	if err != nil {
		return nil, nil, err
	}
	config := "global: {scrape_interval: 5s, scrape_timeout: 5s}\nscrape_configs:\n"
	for job, address := range jobs {
		config += fmt.Sprintf("- {job_name: %s, honor_labels: true, static_configs: [{targets: [%q]}]}\n", job, address)
	}
	server, err = prometheus.Start(ctx, dir, config)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return server, func() error { return errors.Join(server.Stop(), os.RemoveAll(dir)) }, nil
}

// query returns the value of a query with one result.
func query(server *prometheus.Server, promQL string) (float64, error) {
	samples, err := server.Query(promQL)
	if err != nil {
		return 0, err
	}
	if len(samples) != 1 {
		return 0, fmt.Errorf("%s: %d results, want one", promQL, len(samples))
	}
	return samples[0].Value, nil
}
