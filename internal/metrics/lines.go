package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// gauge is a family with one series per release, labelled by it alone.
func gauge(name, help, source string, value func(*release.Release) (float64, bool)) Family {
	return Family{
		Name: name, Help: help, Source: source, Labels: []string{"name", "namespace"},
		append: func(b []byte, r *release.Release) []byte {
			v, ok := value(r)
			if !ok {
				return b
			}
			b = append(b, name...)
			b = append(b, '{')
			b = appendKey(b, r)
			return appendValue(b, v)
		},
		same: func(a, b *release.Release) bool {
			v, ok := value(a)
			w, also := value(b)
			return v == w && ok == also
		},
	}
}

func unix(t time.Time) (float64, bool) { return float64(t.Unix()), !t.IsZero() }

func seconds(t release.Time) (float64, bool) { return float64(t), t != 0 }

func sameInfo(a, b *release.Release) bool {
	chart, ok := a.Chart()
	other, also := b.Chart()
	return chart == other && ok == also && a.Newest.Number == b.Newest.Number
}

func appendInfo(b []byte, r *release.Release) []byte {
	chart, ok := r.Chart()
	if !ok {
		return b
	}
	b = append(b, "helm_release_info{"...)
	b = appendLabel(b, "app_version", chart.AppVersion)
	b = append(b, ',')
	b = appendLabel(b, "chart", chart.Name)
	b = append(b, ',')
	b = appendLabel(b, "chart_version", chart.Version)
	b = append(b, ',')
	b = appendKey(b, r)
	b = append(b, `,revision="`...)
	b = strconv.AppendInt(b, int64(r.Newest.Number), 10)
	b = append(b, '"')
	return appendValue(b, 1)
}

// statusRows are the statuses that helm_release_status has rows for.
func statusRows(all bool) []release.Status {
	if all {
		return release.Statuses()
	}
	return []release.Status{
		release.Deployed, release.Failed,
		release.PendingInstall, release.PendingRollback, release.PendingUpgrade,
	}
}

// statusFamily has a row per status, of which at most one is 1.
func statusFamily(rows []release.Status) Family {
	return Family{
		Name:   "helm_release_status",
		Help:   "Status of a helm release",
		Labels: []string{"name", "namespace", "status"},
		Source: fromMetadata + "; of the newest revision",
		append: func(b []byte, r *release.Release) []byte {
			for _, status := range rows {
				v := 0.0
				if r.Newest.Status == status {
					v = 1
				}
				b = appendStatus(append(b, "helm_release_status{"...), r, status, v)
			}
			return b
		},
		same: func(a, b *release.Release) bool { return a.Newest.Status == b.Newest.Status },
	}
}

// otherStatusFamily has the statuses that have no row without AllStatuses.
func otherStatusFamily() Family {
	rows := statusRows(false)
	other := func(r *release.Release) release.Status {
		if slices.Contains(rows, r.Newest.Status) {
			return ""
		}
		return r.Newest.Status
	}
	return Family{
		Name:   "helm_release_other_status",
		Help:   "Status of the newest revision if helm_release_status has no row for it.",
		Labels: []string{"name", "namespace", "status"},
		Source: fromMetadata + "; absent for every other release, and with --metrics.all-statuses",
		append: func(b []byte, r *release.Release) []byte {
			status := other(r)
			if status == "" {
				return b
			}
			return appendStatus(append(b, "helm_release_other_status{"...), r, status, 1)
		},
		same: func(a, b *release.Release) bool { return other(a) == other(b) },
	}
}

func appendStatus(b []byte, r *release.Release, status release.Status, v float64) []byte {
	b = appendKey(b, r)
	b = append(b, ',')
	b = appendLabel(b, "status", string(status))
	return appendValue(b, v)
}

// labelsFamily exposes the records' own labels for the given keys.
func labelsFamily(keys []string) (Family, error) {
	names := make(map[string]string, len(keys)) // by key
	owners := make(map[string]string, len(keys))
	for _, key := range keys {
		name := "label_" + strings.Map(toLabelRune, key)
		if other, taken := owners[name]; taken && other != key {
			return Family{}, fmt.Errorf("release labels %q and %q would both become %q; leave one out", other, key, name)
		}
		names[key], owners[name] = name, key
	}
	sorted := sortedByValue(names)
	return Family{
		Name:   "helm_release_labels",
		Help:   "Labels of the record of the newest revision, those that were asked for.",
		Labels: []string{"label_*", "name", "namespace"},
		Source: fromMetadata + "; only with --release-labels, and for releases that have one of them",
		append: func(b []byte, r *release.Release) []byte {
			if len(r.Newest.Labels) == 0 {
				return b
			}
			b = append(b, "helm_release_labels{"...)
			for _, key := range sorted {
				if value, ok := r.Newest.Labels[key]; ok {
					b = appendLabel(b, names[key], value)
					b = append(b, ',')
				}
			}
			b = appendKey(b, r)
			return appendValue(b, 1)
		},
		same: func(a, b *release.Release) bool { return maps.Equal(a.Newest.Labels, b.Newest.Labels) },
	}, nil
}

func toLabelRune(r rune) rune {
	if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
		return r
	}
	return '_'
}
