package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// maxQuery bounds the query of a URL, in bytes: pages repeat it in their links, and each release is
	// compared with it.
	maxQuery = 4 << 10
	// maxWords is how many words are searched for.
	maxWords = 16
)

// parameters reads the parameters of a request. Only those that are lists may be repeated.
func parameters(req *http.Request) (url.Values, error) {
	if len(req.URL.RawQuery) > maxQuery {
		return nil, fmt.Errorf("the query is longer than %d bytes", maxQuery)
	}
	v, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("invalid query: %w", err)
	}
	for name, values := range v {
		if name != "namespace" && name != "status" && len(values) > 1 {
			return nil, fmt.Errorf("parameter %q is given more than once", cut(name))
		}
	}
	return v, nil
}

// query selects releases. The zero value selects all.
type query struct {
	namespaces []string
	statuses   []release.Status
	chart      string
	words      []string // in lower case; each has to be found somewhere
}

// parseQuery reads the parameters that pages and API share. A list is given by repetition, by commas, or both.
func parseQuery(v url.Values) (query, error) {
	q := query{namespaces: split(v["namespace"]), chart: v.Get("chart")}
	for _, s := range split(v["status"]) {
		if !slices.Contains(release.Statuses(), release.Status(s)) {
			return query{}, fmt.Errorf("unknown status %q; known are %v", cut(s), release.Statuses())
		}
		q.statuses = append(q.statuses, release.Status(s))
	}
	if q.words = strings.Fields(strings.ToLower(v.Get("q"))); len(q.words) > maxWords {
		return query{}, fmt.Errorf("q has more than %d words", maxWords)
	}
	return q, nil
}

// split returns the parts of lists, each once.
func split(values []string) []string {
	var all []string
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if part = strings.TrimSpace(part); part != "" && !slices.Contains(all, part) {
			all = append(all, part)
		}
	}
	return all
}

// cut bounds what an error quotes of a request.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), 64)], "") }

// matches reports whether a release is selected, apart from its status.
func (q *query) matches(r *release.Release) bool {
	if len(q.namespaces) > 0 && !slices.Contains(q.namespaces, r.Namespace) {
		return false
	}
	if q.chart == "" && len(q.words) == 0 {
		return true
	}
	chart, _ := r.Chart()
	if q.chart != "" && q.chart != chart.Name {
		return false
	}
	fields := []string{r.Name, r.Namespace, chart.Name, chart.Version, chart.AppVersion}
	return !slices.ContainsFunc(q.words, func(word string) bool {
		return !slices.ContainsFunc(fields, func(s string) bool { return strings.Contains(strings.ToLower(s), word) })
	})
}

// wants reports whether the status of a release is selected.
func (q *query) wants(r *release.Release) bool {
	return len(q.statuses) == 0 || slices.Contains(q.statuses, r.Newest.Status)
}

// column is something that releases can be sorted by.
type column struct {
	key     string // in URLs
	title   string
	compare func(a, b *release.Release) int
}

// columns returns the columns of the table of releases, in order.
func columns() []column {
	return []column{
		{"namespace", "Namespace", func(a, b *release.Release) int { return cmp.Compare(a.Namespace, b.Namespace) }},
		{"name", "Release", func(a, b *release.Release) int { return cmp.Compare(a.Name, b.Name) }},
		{"status", "Status", func(a, b *release.Release) int { return urgency(a) - urgency(b) }},
		{"revision", "Newest", func(a, b *release.Release) int { return a.Newest.Number - b.Newest.Number }},
		{"deployed", "Deployed", func(a, b *release.Release) int { return a.Deployed - b.Deployed }},
		{"chart", "Chart", byChart(func(c release.Chart) string { return c.Name }, cmp.Compare[string])},
		{"version", "Version", byChart(func(c release.Chart) string { return c.Version }, compareVersions)},
		{"app", "App version", byChart(func(c release.Chart) string { return c.AppVersion }, compareVersions)},
		{"updated", "Updated", func(a, b *release.Release) int {
			x, _ := a.Head()
			y, _ := b.Head()
			return x.LastDeployed.Compare(y.LastDeployed)
		}},
		{"size", "Payload", func(a, b *release.Release) int { return payload(a).Bytes - payload(b).Bytes }},
	}
}

// order is a column that the table is sorted by.
type order struct {
	column
	reverse bool
}

// parseSort reads the name of a column, with a minus in front for the reverse order. The default is what needs
// attention first.
func parseSort(s string) (order, error) {
	key, reverse := strings.CutPrefix(cmp.Or(s, "status"), "-")
	for _, c := range columns() {
		if c.key != key {
			continue
		}
		by := c.compare
		c.compare = func(a, b *release.Release) int {
			n := by(a, b)
			if reverse {
				n = -n
			}
			return cmp.Or(n, a.Compare(b.Key))
		}
		return order{c, reverse}, nil
	}
	return order{}, fmt.Errorf("unknown sort column %q", cut(key))
}

// urgency orders statuses, those that need attention first.
func urgency(r *release.Release) int {
	return slices.Index([]release.Status{
		release.Failed, release.PendingInstall, release.PendingUpgrade, release.PendingRollback, release.Uninstalling,
		release.Unknown, release.Superseded, release.Uninstalled, release.Deployed,
	}, r.Newest.Status)
}

func byChart(of func(release.Chart) string, compare func(a, b string) int) func(a, b *release.Release) int {
	return func(a, b *release.Release) int {
		x, _ := a.Chart()
		y, _ := b.Chart()
		return compare(of(x), of(y))
	}
}

// payload returns the zero value if nothing has been read.
func payload(r *release.Release) release.Payload {
	if r.Payload == nil {
		return release.Payload{}
	}
	return *r.Payload
}

// compareVersions compares semantic versions, so that 1.9.0 comes before 1.10.0, and other texts by their
// characters.
func compareVersions(a, b string) int {
	return cmp.Or(semver.Compare("v"+strings.TrimPrefix(a, "v"), "v"+strings.TrimPrefix(b, "v")), cmp.Compare(a, b))
}
