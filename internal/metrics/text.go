package metrics

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// appendHeader adds a family's HELP and TYPE lines. Text and OpenMetrics agree
// on them as long as no help holds a quote, a backslash or a line feed.
func appendHeader(b []byte, f *Family) []byte {
	b = append(b, "# HELP "...)
	b = append(b, f.Name...)
	b = append(b, ' ')
	b = append(b, f.Help...)
	b = append(b, "\n# TYPE "...)
	b = append(b, f.Name...)
	return append(b, " gauge\n"...)
}

// appendKey adds the labels that name a release.
func appendKey(b []byte, r *release.Release) []byte {
	b = appendLabel(b, "name", r.Name)
	b = append(b, ',')
	return appendLabel(b, "namespace", r.Namespace)
}

func appendLabel(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, '=', '"')
	b = appendEscaped(b, value)
	return append(b, '"')
}

// appendEscaped adds a label value as both formats want it: valid UTF-8, with
// backslash, quote and line feed escaped.
func appendEscaped(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\uFFFD")
	for {
		i := strings.IndexAny(s, "\\\"\n")
		if i < 0 {
			return append(b, s...)
		}
		b = append(b, s[:i]...)
		if s[i] == '\n' {
			b = append(b, '\\', 'n')
		} else {
			b = append(b, '\\', s[i])
		}
		s = s[i+1:]
	}
}

// appendValue closes the labels and adds the value in Go's shortest form, as
// client_golang writes it.
func appendValue(b []byte, v float64) []byte {
	b = append(b, '}', ' ')
	b = strconv.AppendFloat(b, v, 'g', -1, 64)
	return append(b, '\n')
}

// sortedByValue returns the keys of m in the order of their values.
func sortedByValue(m map[string]string) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return strings.Compare(m[a], m[b]) })
}
