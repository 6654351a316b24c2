package versions

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
)

// collector exposes what a Tracker knows.
type collector struct {
	view    func() *View
	cluster bool // whether releases have the label cluster

	outdated, latest, unresolved, lastSuccess, requests, charts, up, reloaded, reloadTime *prometheus.Desc
}

// Collector returns the metrics. With a cluster those about releases have the label cluster.
func (t *Tracker) Collector() prometheus.Collector {
	clustered := t.clustered()
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	release := func(name, help string, labels ...string) *prometheus.Desc {
		key := []string{"namespace", "name"}
		if clustered {
			key = append(key, "cluster")
		}
		return desc(name, help, append(key, labels...)...)
	}
	return &collector{
		view: t.View, cluster: clustered,
		outdated: release("helm_release_chart_outdated", "Whether a release runs an older version of its chart than the latest; absent if that is not known."),
		latest: release("helm_release_chart_latest_info", "Latest version of the chart of a release, and the first number in which it differs from the one that runs.",
			"chart", "chart_version", "latest_version", "level", "repository"),
		unresolved: release("helm_release_chart_unresolved", "Why the latest version of the chart of a release is not known.", "chart", "reason"),
		lastSuccess: desc("helm_chart_repository_last_success_timestamp_seconds",
			"Unix time at which the repository last answered; of an OCI repository, the oldest of these times of its charts. Absent before the first time.", "repository"),
		requests: desc("helm_chart_repository_requests_total", "Number of requests for the index, or for the tags of a chart, by result. Tags that come in several pages count once.", "repository", "result"),
		charts:   desc("helm_chart_repository_charts", "Number of charts that the repository has; of an OCI repository, that it was asked for and has.", "repository"),
		up: desc("helm_chart_versions_exporter_up", "Whether the last scrape of the exporter succeeded. Its releases stay for two intervals after one that did.",
			"exporter"),
		reloaded:   desc("helm_chart_versions_config_last_reload_successful", "Whether the config file could be read when it last changed."),
		reloadTime: desc("helm_chart_versions_config_last_reload_success_timestamp_seconds", "Unix time at which the config file was last read with success."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.outdated, c.latest, c.unresolved, c.lastSuccess, c.requests, c.charts, c.up, c.reloaded, c.reloadTime} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	view := c.view()
	send := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for i := range view.Rows {
		r := &view.Rows[i]
		ofRelease := func(desc *prometheus.Desc, value float64, labels ...string) {
			key := []string{r.Namespace, r.Name}
			if c.cluster {
				key = append(key, r.Cluster)
			}
			send(desc, value, append(key, labels...)...)
		}
		switch {
		case r.Level != "":
			ofRelease(c.outdated, number(r.Level != outdated.None))
			ofRelease(c.latest, 1, r.Chart, r.Version, r.Latest, string(r.Level), r.Repository)
		case r.Reason != "":
			ofRelease(c.unresolved, 1, r.Chart, string(r.Reason))
		}
	}
	for _, r := range view.Repositories {
		for _, result := range chartrepo.Results() {
			to <- prometheus.MustNewConstMetric(c.requests, prometheus.CounterValue, float64(r.Results[result]), r.Name, string(result))
		}
		send(c.charts, float64(r.Charts), r.Name)
		if !r.Last.IsZero() {
			send(c.lastSuccess, seconds(r.Last), r.Name)
		}
	}
	for _, e := range view.Exporters {
		send(c.up, number(e.Failure == nil && !e.Last.IsZero()), e.Name)
	}
	send(c.reloaded, number(view.Failure == nil))
	send(c.reloadTime, seconds(view.Loaded))
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
