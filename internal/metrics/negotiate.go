package metrics

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/munnerz/goautoneg"
	"github.com/prometheus/common/expfmt"
)

// negotiate picks OpenMetrics if the client prefers it to text, else text,
// whatever else it asks for.
func negotiate(header http.Header) expfmt.Format {
	for _, wish := range goautoneg.ParseAccept(header.Get("Accept")) { // best first
		switch wish.Type + "/" + wish.SubType {
		case expfmt.OpenMetricsType:
			switch wish.Params["version"] {
			case "", expfmt.OpenMetricsVersion_0_0_1, expfmt.OpenMetricsVersion_1_0_0:
				return expfmt.FmtOpenMetrics_1_0_0
			}
		case "text/plain", "text/*", "*/*":
			return expfmt.FmtText
		}
	}
	return expfmt.FmtText
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
