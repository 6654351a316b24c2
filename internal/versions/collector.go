package versions

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
)

// Collect sends what is known now. With a cluster the families about releases have the label cluster.
func (t *Tracker) Collect(to chan<- prometheus.Metric) {
	view := t.View()
	var cluster []string
	for _, e := range t.cfg.Exporters {
		if e.Cluster != "" {
			cluster = []string{"cluster"}
		}
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		valid := make([]string, len(labels))
		for i, l := range labels {
			valid[i] = strings.ToValidUTF8(l, "\uFFFD")
		}
		to <- prometheus.MustNewConstMetric(desc, kind, value, valid...)
	}
	behind := desc("helm_release_chart_outdated", "Whether a release runs an older version of its chart than the latest; absent if that is not known.",
		append(cluster, "namespace", "name")...)
	latest := desc("helm_release_chart_latest_info", "Latest version of the chart of a release, and the first number in which it differs from the one that runs.",
		append(cluster, "namespace", "name", "chart", "chart_version", "latest_version", "level", "repository")...)
	unresolved := desc("helm_release_chart_unresolved", "Why the latest version of the chart of a release is not known.",
		append(cluster, "namespace", "name", "chart", "reason")...)
	for i := range view.Rows {
		r := &view.Rows[i]
		key := []string{r.Namespace, r.Name}
		if cluster != nil {
			key = []string{r.Cluster, r.Namespace, r.Name}
		}
		switch {
		case r.Level != "":
			send(behind, prometheus.GaugeValue, number(r.Level != outdated.None), key...)
			send(latest, prometheus.GaugeValue, 1, append(key, r.Chart, r.Version, r.Latest, string(r.Level), r.Repository)...)
		case r.Reason != "":
			send(unresolved, prometheus.GaugeValue, 1, append(key, r.Chart, string(r.Reason))...)
		}
	}
	last := desc("helm_chart_repository_last_success_timestamp_seconds",
		"Unix time at which the repository last answered; of an OCI repository, for the chart that it last answered first. Absent before the first time.", "repository")
	requests := desc("helm_chart_repository_requests_total", "Number of questions to the repository, for an index or the tags of a chart, by result.", "repository", "result")
	charts := desc("helm_chart_repository_charts", "Number of charts that the repository has; of an OCI repository, that it was asked for and has.", "repository")
	for _, r := range view.Repositories {
		for _, result := range chartrepo.Results() {
			send(requests, prometheus.CounterValue, float64(r.Results[result]), r.Name, string(result))
		}
		send(charts, prometheus.GaugeValue, float64(r.Charts), r.Name)
		if !r.Last.IsZero() {
			send(last, prometheus.GaugeValue, seconds(r.Last), r.Name)
		}
	}
	up := desc("helm_chart_versions_exporter_up", "Whether the last scrape of the exporter succeeded. Its releases stay for two intervals after one that did.", "exporter")
	for _, e := range view.Exporters {
		send(up, prometheus.GaugeValue, number(e.Failure == nil && !e.Last.IsZero()), e.Name)
	}
	send(desc("helm_chart_versions_config_last_reload_successful", "Whether the config file could be read when it last changed."),
		prometheus.GaugeValue, number(view.Failure == nil))
	send(desc("helm_chart_versions_config_last_reload_success_timestamp_seconds", "Unix time at which the config file was last read with success."),
		prometheus.GaugeValue, seconds(view.Loaded))
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
