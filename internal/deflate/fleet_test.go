package deflate_test

import (
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
)

// families is how many families have lines for a fleet: no chart in it is
// deprecated.
const families = 8

// releases is how many a large cluster has.
const releases = 10_000

// segments are the texts that a scrape of a fleet is made of: for so many
// releases at a time, one for each family.
func segments(releasesEach int) [][]byte {
	var byFamily [][]string // lines
	last := ""
	for line := range strings.Lines(scrape()) {
		family, _, sample := strings.Cut(line, "{")
		if !sample || strings.HasPrefix(line, "#") {
			continue
		}
		if family != last {
			byFamily, last = append(byFamily, nil), family
		}
		byFamily[len(byFamily)-1] = append(byFamily[len(byFamily)-1], line)
	}
	var all [][]byte
	for begin := 0; begin < releases; begin += releasesEach {
		for _, lines := range byFamily {
			each := len(lines) / releases // lines of one release
			part := lines[begin*each : min(begin+releasesEach, releases)*each]
			all = append(all, []byte(strings.Join(part, "")))
		}
	}
	return all
}

// scrape is the text of a fleet, in the order of the releases' keys.
func scrape() string {
	families, err := metrics.Families(metrics.Options{})
	if err != nil {
		panic(err)
	}
	store := metrics.NewStore(families, true)
	for _, r := range fleet.Of(releases) {
		store.Set(r)
	}
	store.Synced()
	w := httptest.NewRecorder()
	metrics.NewHandler(store, prometheus.NewRegistry()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}
