package metrics

import (
	"strconv"
	"unicode/utf8"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// appendHeader adds a family's HELP and TYPE lines. The text format and
// OpenMetrics agree on them as long as no help has a quote, a backslash or a
// line feed.
func appendHeader(b []byte, f *Family) []byte {
	b = append(b, "# HELP "...)
	b = append(b, f.Name...)
	b = append(b, ' ')
	b = append(b, f.Help...)
	b = append(b, "\n# TYPE "...)
	b = append(b, f.Name...)
	return append(b, " gauge\n"...)
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

func sameInfo(a, b *release.Release) bool {
	chart, ok := a.Chart()
	other, also := b.Chart()
	return chart == other && ok == also && a.Newest.Number == b.Newest.Number
}

func appendStatus(b []byte, r *release.Release, status release.Status, v float64) []byte {
	b = appendKey(b, r)
	b = append(b, ',')
	b = appendLabel(b, "status", string(status))
	return appendValue(b, v)
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

// appendValue closes the labels and adds the value as client_golang writes it.
func appendValue(b []byte, v float64) []byte {
	b = append(b, '}', ' ')
	b = strconv.AppendFloat(b, v, 'g', -1, 64)
	return append(b, '\n')
}
