package metrics

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/common/expfmt"
)

// negotiate picks OpenMetrics if the client prefers it to text, else text,
// whatever else it asks for: protobuf is not offered.
func negotiate(header http.Header) expfmt.Format {
	var offered []string
	for part := range strings.SplitSeq(header.Get("Accept"), ",") {
		if !strings.Contains(part, "protobuf") {
			offered = append(offered, part)
		}
	}
	format := expfmt.NegotiateIncludingOpenMetrics(http.Header{"Accept": {strings.Join(offered, ",")}})
	if format.FormatType() == expfmt.TypeOpenMetrics {
		return expfmt.NewFormat(expfmt.TypeOpenMetrics)
	}
	return expfmt.NewFormat(expfmt.TypeTextPlain)
}

// acceptsGzip reports whether gzip is listed with a weight above 0, or
// covered by an asterisk.
func acceptsGzip(header http.Header) bool {
	wildcard := false
	for part := range strings.SplitSeq(strings.Join(header.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(part, ";")
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			weight, _ = strconv.ParseFloat(strings.TrimSpace(q), 64) // what is no number is no wish
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "x-gzip":
			return weight > 0
		case "*":
			wildcard = weight > 0
		}
	}
	return wildcard
}
