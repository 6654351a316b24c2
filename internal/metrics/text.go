package metrics

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

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
	for i := range len(s) {
		if c := s[i]; c == '\\' || c == '"' || c == '\n' || c >= utf8.RuneSelf {
			return appendOdd(b, s)
		}
	}
	return append(b, s...) // as nearly always
}

func appendOdd(b []byte, s string) []byte {
	for _, r := range s { // what is no UTF-8 comes as U+FFFD
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

// appendValue closes the labels and adds the value as client_golang writes it.
func appendValue(b []byte, v float64) []byte {
	b = append(b, '}', ' ')
	b = appendFloat(b, v)
	return append(b, '\n')
}

// appendFloat adds a value in Go's shortest form. All values here are whole
// numbers, for which that takes no search for the shortest digits: up to six
// digits stand as they are, more of them as d.ddde+dd without trailing zeros.
func appendFloat(b []byte, v float64) []byte {
	n := int64(v)
	if float64(n) != v || math.Signbit(v) || n >= 1e15 {
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	}
	start := len(b)
	b = strconv.AppendInt(b, n, 10)
	digits := len(b) - start
	if digits <= 6 {
		return b
	}
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	if len(b) > start+1 {
		b = slices.Insert(b, start+1, '.')
	}
	exponent := digits - 1
	return append(b, 'e', '+', byte('0'+exponent/10), byte('0'+exponent%10))
}

// sortedByValue returns the keys of m in the order of their values.
func sortedByValue(m map[string]string) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return strings.Compare(m[a], m[b]) })
}
