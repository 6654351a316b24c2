package metrics

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Family is one metric family about releases. All of them are gauges.
type Family struct {
	Name string
	Help string
	// Labels are the label names, in the order of the lines. One that ends in an asterisk stands for several.
	Labels []string
	// Payload says that the values come from payloads, not from metadata.
	Payload bool
	// Note adds to the help in docs/metrics.md, in sentences.
	Note string

	// append adds the lines of one release, none if it has no value.
	append func(b []byte, r *release.Release) []byte
	// same reports whether append adds the same for two values of a release.
	same func(a, b *release.Release) bool
}

// Options says which families and rows there are beyond the fixed ones.
type Options struct {
	// AllStatuses adds the rows of the statuses that are all-zero otherwise, in place of a family of their own.
	AllStatuses bool
	// ReleaseLabels are the keys of the records' own labels to expose.
	ReleaseLabels []string
	// Allow and Deny select families by name: a family is left out if Allow is not empty and none of it
	// matches, and if any of Deny matches.
	Allow, Deny []*regexp.Regexp
}

// Families returns the families in the order of the exposition. It fails if two release labels have the same
// label name.
func Families(o Options) ([]Family, error) {
	families := fixedFamilies(o.AllStatuses)
	if !o.AllStatuses {
		families = append(families, otherStatusFamily())
	}
	if len(o.ReleaseLabels) > 0 {
		labels, err := labelsFamily(o.ReleaseLabels)
		if err != nil {
			return nil, err
		}
		families = append(families, labels)
	}
	return slices.DeleteFunc(families, func(f Family) bool {
		matches := func(r *regexp.Regexp) bool { return r.MatchString(f.Name) }
		return len(o.Allow) > 0 && !slices.ContainsFunc(o.Allow, matches) || slices.ContainsFunc(o.Deny, matches)
	}), nil
}

// NeedPayloads reports whether any of the families takes its values from payloads.
func NeedPayloads(families []Family) bool {
	return slices.ContainsFunc(families, func(f Family) bool { return f.Payload })
}

// fixedFamilies is the table of the families that there always are.
func fixedFamilies(allStatuses bool) []Family {
	return []Family{
		gauge(Family{
			Name: "helm_release_chart_deprecated", Payload: true,
			Help: "Whether the chart of the newest revision is marked deprecated; absent if it is not.",
		}, func(r *release.Release) (float64, bool) {
			head, _ := r.Head()
			return 1, head.Chart.Deprecated
		}),
		gauge(Family{
			Name: "helm_release_created_timestamp_seconds",
			Help: "Unix time at which the record of the newest revision was created: when the operation began.",
		}, func(r *release.Release) (float64, bool) { return float64(r.Newest.Created), r.Newest.Created != 0 }),
		gauge(Family{
			Name: "helm_release_deployed_revision",
			Help: "Newest revision whose status is deployed; absent if there is none.",
		}, func(r *release.Release) (float64, bool) { return float64(r.Deployed), r.Deployed > 0 }),
		infoFamily(),
		gauge(Family{
			Name: "helm_release_modified_timestamp_seconds", Note: "Absent if the record has no managed fields.",
			Help: "Unix time of the last write to the record of the newest revision, by anyone.",
		}, func(r *release.Release) (float64, bool) { return float64(r.Newest.Modified), r.Newest.Modified != 0 }),
		gauge(Family{
			Name: "helm_release_payload_bytes", Payload: true, Note: "Absent until the payload of the newest revision is read.",
			Help: "Size of the payload of the newest revision in bytes, as stored when it was read; the limit is 1048576.",
		}, func(r *release.Release) (float64, bool) {
			if r.Payload == nil {
				return 0, false
			}
			return float64(r.Payload.Bytes), r.Payload.Bytes > 0
		}),
		undecodableFamily(),
		gauge(Family{
			Name: "helm_release_revision", Note: "The newest revision, deployed or not.",
			Help: "Currently deployed helm chart revision",
		}, func(r *release.Release) (float64, bool) { return float64(r.Newest.Number), true }),
		statusFamily(statusRows(allStatuses)),
		gauge(Family{
			Name: "helm_release_stored_revisions", Note: "In the storage of the newest revision.",
			Help: "Number of stored revisions, superseded ones included.",
		}, func(r *release.Release) (float64, bool) { return float64(r.Stored), true }),
		gauge(Family{
			Name: "helm_release_updated", Payload: true, Note: "The last_deployed of the newest revision. Absent until the payload of the newest revision is decoded.",
			Help: "Release update Unix time",
		}, func(r *release.Release) (float64, bool) {
			head, _ := r.Head()
			return float64(head.LastDeployed.Unix()), !head.LastDeployed.IsZero()
		}),
	}
}

func infoFamily() Family {
	return Family{
		Name: "helm_release_info", Payload: true, Note: "Absent until the payload of the newest revision is decoded.",
		Help:   "Information about helm release",
		Labels: []string{"app_version", "chart", "chart_version", "name", "namespace", "revision"},
		append: func(b []byte, r *release.Release) []byte {
			chart, ok := r.Chart()
			if !ok {
				return b
			}
			return appendSeries(b, "helm_release_info", 1, "app_version", chart.AppVersion, "chart", chart.Name, "chart_version", chart.Version,
				"name", r.Name, "namespace", r.Namespace, "revision", strconv.Itoa(r.Newest.Number))
		},
		same: func(a, b *release.Release) bool {
			chart, ok := a.Chart()
			other, also := b.Chart()
			return chart == other && ok == also && a.Newest.Number == b.Newest.Number
		},
	}
}

func undecodableFamily() Family {
	reason := func(r *release.Release) string {
		if r.Payload == nil {
			return ""
		}
		return r.Payload.Problem
	}
	return Family{
		Name: "helm_release_payload_undecodable", Labels: []string{"name", "namespace", "reason"}, Payload: true,
		Help: "Whether the payload of the newest revision cannot be decoded; absent if it can, or has not been read.",
		Note: "The reasons are those of `helm_state_metrics_decode_errors_total`.",
		append: func(b []byte, r *release.Release) []byte {
			if reason(r) == "" {
				return b
			}
			return appendSeries(b, "helm_release_payload_undecodable", 1, "name", r.Name, "namespace", r.Namespace, "reason", reason(r))
		},
		same: func(a, b *release.Release) bool { return reason(a) == reason(b) },
	}
}

// gauge completes a family with one series per release, labelled by its key alone.
func gauge(f Family, value func(*release.Release) (float64, bool)) Family {
	f.Labels = []string{"name", "namespace"}
	f.append = func(b []byte, r *release.Release) []byte {
		if v, ok := value(r); ok {
			b = appendSeries(b, f.Name, v, "name", r.Name, "namespace", r.Namespace)
		}
		return b
	}
	f.same = func(a, b *release.Release) bool {
		v, ok := value(a)
		w, also := value(b)
		return ok == also && (!ok || v == w)
	}
	return f
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
		Name: "helm_release_status", Labels: []string{"name", "namespace", "status"}, Note: "The status of the newest revision: at most one row is 1.",
		Help: "Status of a helm release",
		append: func(b []byte, r *release.Release) []byte {
			for _, status := range rows {
				v := 0.0
				if r.Newest.Status == status {
					v = 1
				}
				b = appendSeries(b, "helm_release_status", v, "name", r.Name, "namespace", r.Namespace, "status", string(status))
			}
			return b
		},
		same: func(a, b *release.Release) bool { return a.Newest.Status == b.Newest.Status },
	}
}

// otherStatusFamily has the statuses that have no row without AllStatuses.
func otherStatusFamily() Family {
	rows := statusRows(false)
	return Family{
		Name: "helm_release_other_status", Labels: []string{"name", "namespace", "status"},
		Help: "Status of the newest revision if helm_release_status has no row for it.",
		Note: "Absent for every other release, and with --metrics.all-statuses.",
		append: func(b []byte, r *release.Release) []byte {
			if slices.Contains(rows, r.Newest.Status) {
				return b
			}
			return appendSeries(b, "helm_release_other_status", 1, "name", r.Name, "namespace", r.Namespace, "status", string(r.Newest.Status))
		},
		same: func(a, b *release.Release) bool { return a.Newest.Status == b.Newest.Status },
	}
}

// labelsFamily exposes the records' own labels for the given keys.
func labelsFamily(keys []string) (Family, error) {
	invalid := regexp.MustCompile("[^a-zA-Z0-9]")
	byName := make(map[string]string, len(keys))
	for _, key := range keys {
		name := "label_" + invalid.ReplaceAllString(key, "_")
		if other, taken := byName[name]; taken && other != key {
			return Family{}, fmt.Errorf("release labels %q and %q would both become %q; leave one out", other, key, name)
		}
		byName[name] = key
	}
	names := slices.Sorted(maps.Keys(byName))
	return Family{
		Name: "helm_release_labels", Labels: []string{"label_*", "name", "namespace"},
		Help: "Labels of the record of the newest revision, those that were asked for.",
		Note: "Absent without --release-labels, and for releases that have none of them.",
		append: func(b []byte, r *release.Release) []byte {
			if len(r.Newest.Labels) == 0 {
				return b
			}
			var labels []string
			for _, name := range names {
				if value, ok := r.Newest.Labels[byName[name]]; ok {
					labels = append(labels, name, value)
				}
			}
			return appendSeries(b, "helm_release_labels", 1, append(labels, "name", r.Name, "namespace", r.Namespace)...)
		},
		same: func(a, b *release.Release) bool { return maps.Equal(a.Newest.Labels, b.Newest.Labels) },
	}, nil
}

// appendHeader adds a family's HELP and TYPE lines. The text format and OpenMetrics agree on them as long as no
// help has a quote, a backslash or a line feed.
func appendHeader(b []byte, f *Family) []byte {
	return fmt.Appendf(b, "# HELP %s %s\n# TYPE %s gauge\n", f.Name, f.Help, f.Name)
}

// appendSeries adds a line as client_golang writes it. The labels are names and values in turn.
func appendSeries(b []byte, name string, value float64, labels ...string) []byte {
	b = append(b, name...)
	separator := byte('{')
	for i := 0; i < len(labels); i += 2 {
		b = append(b, separator)
		b = append(b, labels[i]...)
		b = append(b, '=', '"')
		b = appendEscaped(b, labels[i+1])
		b = append(b, '"')
		separator = ','
	}
	b = append(b, '}', ' ')
	b = strconv.AppendFloat(b, value, 'g', -1, 64)
	return append(b, '\n')
}

// appendEscaped adds a label value as both formats want it: valid UTF-8, with backslash, quote and line feed
// escaped.
func appendEscaped(b []byte, s string) []byte {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == '\\' || r == '"' || r == '\n' || r >= utf8.RuneSelf }) {
		return append(b, s...)
	}
	for _, r := range s { // invalid UTF-8 becomes U+FFFD
		switch r {
		case '\\', '"':
			b = append(b, '\\', byte(r))
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}
