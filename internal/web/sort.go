package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

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

// parseSort reads the name of a column, with a minus in front for the reverse
// order. The default is what needs attention first.
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

func byChart(of func(release.Chart) string) func(a, b *release.Release) int {
	return func(a, b *release.Release) int {
		x, _ := a.Chart()
		y, _ := b.Chart()
		return natural(of(x), of(y))
	}
}

// payload returns the zero value if nothing has been read.
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
