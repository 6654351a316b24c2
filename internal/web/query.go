package web

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// maxText is the longest text that is searched for, in bytes.
const maxText = 256

// query says which releases are wanted. The zero value wants all.
type query struct {
	namespaces []string
	statuses   []release.Status
	chart      string
	words      []string // in lower case; each has to be found somewhere
}

// parseQuery reads the parameters that pages and API share. A list is given
// by repetition, by commas, or both.
func parseQuery(v url.Values) (query, error) {
	q := query{namespaces: list(v["namespace"]), chart: v.Get("chart")}
	for _, s := range list(v["status"]) {
		if !slices.Contains(release.Statuses(), release.Status(s)) {
			return query{}, fmt.Errorf("status %q is none of %s", cut(s), words(release.Statuses()))
		}
		q.statuses = append(q.statuses, release.Status(s))
	}
	if len(v.Get("q")) > maxText {
		return query{}, fmt.Errorf("q is longer than %d bytes", maxText)
	}
	q.words = strings.Fields(strings.ToLower(v.Get("q")))
	return q, nil
}

func list(values []string) []string {
	var all []string
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); part != "" {
				all = append(all, part)
			}
		}
	}
	return all
}

// cut bounds what an answer repeats of a question.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), 64)], "") }

func words[S ~string](list []S) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(s))
	}
	return b.String()
}

// matches reports whether a release is wanted, whatever its status.
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
	for _, word := range q.words {
		if !slices.ContainsFunc([]string{r.Name, r.Namespace, chart.Name, chart.Version, chart.AppVersion}, func(s string) bool {
			return strings.Contains(strings.ToLower(s), word)
		}) {
			return false
		}
	}
	return true
}

// wants reports whether the status of a release is wanted.
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
		{"chart", "Chart", byChart(func(c release.Chart) string { return c.Name })},
		{"version", "Version", byChart(func(c release.Chart) string { return c.Version })},
		{"app", "App version", byChart(func(c release.Chart) string { return c.AppVersion })},
		{"updated", "Updated", func(a, b *release.Release) int { return head(a).LastDeployed.Compare(head(b).LastDeployed) }},
		{"size", "Payload", func(a, b *release.Release) int { return payload(a).Bytes - payload(b).Bytes }},
	}
}

// urgency orders statuses by how much they ask for somebody's attention.
func urgency(r *release.Release) int {
	return slices.Index([]release.Status{
		release.Failed, release.PendingInstall, release.PendingUpgrade, release.PendingRollback, release.Uninstalling,
		release.Unknown, release.Superseded, release.Uninstalled, release.Deployed,
	}, r.Newest.Status)
}

func byChart(of func(release.Chart) string) func(a, b *release.Release) int {
	return func(a, b *release.Release) int {
		x, _ := a.Chart()
		y, _ := b.Chart()
		return natural(of(x), of(y))
	}
}

// head and payload return the zero value where nothing has been read.
func head(r *release.Release) release.Head { return payload(r).Head }

func payload(r *release.Release) release.Payload {
	if r.Payload == nil {
		return release.Payload{}
	}
	return *r.Payload
}

// natural compares texts so that 1.9 comes before 1.10.
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			m, n := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
			if c := cmp.Or(len(m)-len(n), cmp.Compare(m, n)); c != 0 {
				return c
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

// digits returns how many digits a text begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}
