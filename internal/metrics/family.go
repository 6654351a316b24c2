package metrics

import (
	"regexp"
	"slices"
	"strings"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Family is one metric family about releases. All of them are gauges.
type Family struct {
	Name string
	Help string
	// Labels are the label names, in the order of the lines. One that ends in
	// an asterisk stands for several.
	Labels []string
	// Source says where the values come from and when series are absent; it
	// is for the reference only.
	Source string

	// append adds the lines of one release, none if it has no value.
	append func(b []byte, r *release.Release) []byte
	// same reports whether append adds the same for both, which are of one key.
	same func(a, b *release.Release) bool
}

// Options says which families and rows there are beyond the fixed ones.
type Options struct {
	// AllStatuses adds the rows of the statuses that are all-zero otherwise, in
	// place of a family of their own.
	AllStatuses bool
	// ReleaseLabels are the keys of the records' own labels to expose.
	ReleaseLabels []string
	// Allow and Deny choose families by name: one that no expression of Allow
	// matches is left out, unless Allow is empty; so is one that an expression
	// of Deny matches.
	Allow, Deny []*regexp.Regexp
}

// Families returns the families in the order of the exposition. It fails if
// two release labels have the same label name.
func Families(o Options) ([]Family, error) {
	families, err := every(o)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(families, func(f Family) bool {
		matches := func(r *regexp.Regexp) bool { return r.MatchString(f.Name) }
		return len(o.Allow) > 0 && !slices.ContainsFunc(o.Allow, matches) || slices.ContainsFunc(o.Deny, matches)
	}), nil
}

// NeedPayloads reports whether any of the families takes its values from
// payloads.
func NeedPayloads(families []Family) bool {
	return slices.ContainsFunc(families, func(f Family) bool { return strings.HasPrefix(f.Source, fromPayload) })
}

// fromPayload and fromMetadata start a family's Source.
const (
	fromPayload  = "payload"
	fromMetadata = "metadata"
)

// every returns all families that the options add up to.
func every(o Options) ([]Family, error) {
	families := []Family{
		gauge("helm_release_chart_deprecated", "Whether the chart of the newest revision is marked deprecated; absent if it is not.",
			fromPayload+"; 1 where the chart says so, else absent",
			func(r *release.Release) (float64, bool) {
				return 1, r.Payload != nil && r.Payload.Head.Chart.Deprecated
			}),
		gauge("helm_release_created_timestamp_seconds", "Unix time at which the record of the newest revision was created: when the operation began.",
			fromMetadata,
			func(r *release.Release) (float64, bool) { return seconds(r.Newest.Created) }),
		gauge("helm_release_deployed_revision", "Newest revision whose status is deployed; absent if there is none.",
			fromMetadata+"; absent if no revision is deployed",
			func(r *release.Release) (float64, bool) { return float64(r.Deployed), r.Deployed > 0 }),
		{
			Name:   "helm_release_info",
			Help:   "Information about helm release",
			Labels: []string{"app_version", "chart", "chart_version", "name", "namespace", "revision"},
			Source: fromPayload + "; absent until the payload of the newest revision is decoded",
			append: appendInfo,
			same:   sameInfo,
		},
		gauge("helm_release_modified_timestamp_seconds", "Unix time of the last write to the record of the newest revision, by anyone.",
			fromMetadata+"; absent if the record has no managed fields",
			func(r *release.Release) (float64, bool) { return seconds(r.Newest.Modified) }),
		gauge("helm_release_payload_bytes", "Size of the payload of the newest revision in bytes, as stored when it was read; the limit is 1048576.",
			fromPayload+"; absent until the payload of the newest revision is read",
			func(r *release.Release) (float64, bool) {
				if r.Payload == nil || r.Payload.Bytes == 0 {
					return 0, false
				}
				return float64(r.Payload.Bytes), true
			}),
		gauge("helm_release_revision", "Currently deployed helm chart revision",
			fromMetadata+"; the newest revision, deployed or not",
			func(r *release.Release) (float64, bool) { return float64(r.Newest.Number), true }),
		statusFamily(statusRows(o.AllStatuses)),
		gauge("helm_release_stored_revisions", "Number of stored revisions, superseded ones included.",
			fromMetadata+"; those of the storage that the newest revision is in",
			func(r *release.Release) (float64, bool) { return float64(r.Stored), true }),
		gauge("helm_release_updated", "Release update Unix time",
			fromPayload+" (last_deployed); absent until the payload of the newest revision is decoded",
			func(r *release.Release) (float64, bool) {
				if r.Payload == nil {
					return 0, false
				}
				return unix(r.Payload.Head.LastDeployed)
			}),
	}
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
	return families, nil
}
