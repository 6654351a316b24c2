package e2e_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// expected describes a release as the exporter should expose it.
type expected struct {
	name, status string
	revision     int
	deployed     int    // the newest revision that is deployed, 0 for none
	stored       int    // how many revisions are stored
	record       record // of the newest revision
	// chart and updated come from the payload; nil if it cannot be decoded or is not read.
	chart   *payload.Metadata
	updated int64
}

// record is one stored revision as the API server keeps it.
type record struct {
	meta    metav1.ObjectMeta
	payload []byte
}

// modified returns the time of the last write to the record by anyone.
func (r record) modified() time.Time {
	var last time.Time
	for _, field := range r.meta.ManagedFields {
		if field.Time.After(last) {
			last = field.Time.Time
		}
	}
	return last
}

// view is how the flags of an exporter change what it exposes.
type view struct {
	allStatuses bool
	labels      map[string]string // names of metric labels by keys of the records' labels
}

func (v view) add(want series, x expected) {
	// with returns the labels that identify the release, and more.
	with := func(more ...string) map[string]string {
		labels := map[string]string{"name": x.name, "namespace": x.record.meta.Namespace}
		for i := 0; i < len(more); i += 2 {
			labels[more[i]] = more[i+1]
		}
		return labels
	}
	want.add(float64(x.revision), "helm_release_revision", with())
	want.add(float64(x.stored), "helm_release_stored_revisions", with())
	want.add(float64(x.record.meta.CreationTimestamp.Unix()), "helm_release_created_timestamp_seconds", with())
	want.add(float64(x.record.modified().Unix()), "helm_release_modified_timestamp_seconds", with())
	if x.deployed > 0 {
		want.add(float64(x.deployed), "helm_release_deployed_revision", with())
	}
	if size := len(x.record.payload); size > 0 {
		want.add(float64(size), "helm_release_payload_bytes", with())
	}
	v.addStatus(want, x.status, with)
	if x.chart != nil {
		want.add(float64(x.updated), "helm_release_updated", with())
		want.add(1, "helm_release_info", with("app_version", x.chart.AppVersion, "chart", x.chart.Name, "chart_version", x.chart.Version,
			"revision", strconv.Itoa(x.revision)))
		if x.chart.Deprecated {
			want.add(1, "helm_release_chart_deprecated", with())
		}
	}
	chosen := with()
	for key, label := range v.labels {
		if value, ok := x.record.meta.Labels[key]; ok {
			chosen[label] = value
		}
	}
	if len(chosen) > 2 {
		want.add(1, "helm_release_labels", chosen)
	}
}

// addStatus adds a series for each status of the state set, and another one for a status outside of it.
func (v view) addStatus(want series, status string, with func(...string) map[string]string) {
	set := strings.Fields("deployed failed pending-install pending-rollback pending-upgrade")
	others := strings.Fields("superseded uninstalled uninstalling unknown")
	if !slices.Contains(slices.Concat(set, others), status) {
		status = "unknown"
	}
	if v.allStatuses {
		set = append(set, others...)
	}
	for _, s := range set {
		value := 0.0
		if s == status {
			value = 1
		}
		want.add(value, "helm_release_status", with("status", s))
	}
	if !slices.Contains(set, status) {
		want.add(1, "helm_release_other_status", with("status", status))
	}
}

// chartVersion splits what Helm joined: a chart's name and version.
var chartVersion = regexp.MustCompile(`^(.+?)-(v?\d+\.\d+\.\d+.*)$`)

func (v view) series(t *testing.T, facts []fact) series {
	t.Helper()
	want := make(series)
	for _, f := range facts {
		chart := chartVersion.FindStringSubmatch(f.Chart)
		if chart == nil {
			t.Fatalf("cannot split %q into a chart's name and version", f.Chart)
		}
		v.add(want, expected{
			name: f.Name, status: f.Status, revision: f.Revision, deployed: f.deployed, stored: f.stored, record: f.record,
			chart: &payload.Metadata{
				Name: chart[1], Version: chart[2], AppVersion: f.AppVersion,
				Deprecated: decoded(t, f.record.payload).Chart.Metadata.Deprecated,
			},
			updated: f.Updated.unix(t),
		})
	}
	return want
}

func decoded(t *testing.T, stored []byte) *payload.Release {
	t.Helper()
	r := expect.Value(payload.Decode(stored))(t)
	return r
}

// describe describes a release whose newest record is the given Secret, by metadata alone.
func describe(s *corev1.Secret, stored int) expected {
	revision, _ := strconv.Atoi(s.Labels["version"])
	x := expected{
		name: s.Labels["name"], status: s.Labels["status"], revision: revision, stored: stored,
		record: record{s.ObjectMeta, s.Data[cluster.PayloadKey]},
	}
	if x.status == "deployed" {
		x.deployed = revision
	}
	return x
}

// shown returns all series of a release whose newest record is the given Secret. Stored is how many revisions it has, 1
// if omitted; the others are superseded. The chart is "valid" for the payload validHead, MISSING for one without a
// chart, and empty for a payload that cannot be decoded.
func shown(s *corev1.Secret, chart string, stored ...int) series {
	x := describe(s, append(stored, 1)[0])
	switch chart {
	case "":
	case "MISSING":
		x.chart = &payload.Metadata{Name: chart, Version: chart, AppVersion: chart}
	default:
		x.chart = &payload.Metadata{Name: chart, Version: "1.0.0", AppVersion: "2"}
	}
	x.updated = 1767323045 // 2026-01-02T03:04:05Z
	want := make(series)
	view{}.add(want, x)
	return want
}

// undecodable is the series of a release whose payload cannot be decoded.
func undecodable(namespace, name, reason string) series {
	return series{seriesName("helm_release_payload_undecodable", map[string]string{"namespace": namespace, "name": name, "reason": reason}): 1}
}

// fact is what Helm says of one release, and what the API server says of the record of its newest revision.
type fact struct {
	listed
	deployed int // the newest revision that Helm calls deployed, 0 if none
	stored   int // how many revisions Helm has
	record   record
}

// facts asks Helm and the API server about all releases of a namespace.
func (h helm) facts(t *testing.T) []fact {
	t.Helper()
	records := h.records(t)
	var facts []fact
	for _, l := range h.list(t) {
		object := cluster.RecordName(l.Name, l.Revision)
		r, ok := records[object]
		if !ok {
			t.Fatalf("Helm lists revision %d of %s, but there is no %s", l.Revision, l.Name, object)
		}
		f := fact{listed: l, record: r}
		for _, revision := range h.history(t, l.Name) {
			f.stored++
			if revision.Status == "deployed" {
				f.deployed = max(f.deployed, revision.Revision)
			}
		}
		facts = append(facts, f)
	}
	return facts
}

// labelled replaces what Helm reads in payloads by what the labels say. They differ only after labels were edited.
func (h helm) labelled(t *testing.T, facts []fact) []fact {
	t.Helper()
	for i := range facts {
		f := &facts[i]
		f.Status, f.deployed = f.record.meta.Labels["status"], 0
		for _, r := range h.records(t) {
			if labels := r.meta.Labels; labels["name"] == f.Name && labels["status"] == "deployed" {
				f.deployed = max(f.deployed, expect.Value(strconv.Atoi(labels["version"]))(t))
			}
		}
	}
	return facts
}

// records returns Helm's records in a namespace by the names of their objects.
func (h helm) records(t *testing.T) map[string]record {
	t.Helper()
	records := make(map[string]record)
	options := metav1.ListOptions{LabelSelector: cluster.Owner}
	if h.driver == "configmap" {
		list := expect.Value(shared.client.CoreV1().ConfigMaps(h.namespace).List(t.Context(), options))(t)
		for _, c := range list.Items {
			records[c.Name] = record{c.ObjectMeta, []byte(c.Data[cluster.PayloadKey])}
		}
		return records
	}
	list := expect.Value(shared.client.CoreV1().Secrets(h.namespace).List(t.Context(), options))(t)
	for _, s := range list.Items {
		records[s.Name] = record{s.ObjectMeta, s.Data[cluster.PayloadKey]}
	}
	return records
}
