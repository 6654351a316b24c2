package deflate_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// releases is how many a large cluster has.
const releases = 10_000

// member is one release, as far as the families' lines tell of it.
type member struct {
	namespace, name             string
	chart, version, appVersion  string
	revision, failed            int
	created, modified, deployed int64
	bytes                       int
}

// fleet makes releases as a large cluster has them: 50 to a namespace, some
// dozens of charts, names and times that differ. They are sorted by key.
func fleet(n int) []member {
	all := make([]member, n)
	for i := range all {
		chart, revision := i%61, 1+i%7
		created := 1_790_000_000 + int64(i*37%5_000_000) + int64(revision)*86_400
		failed := 0
		if i%50 == 7 {
			failed = 1
		}
		all[i] = member{
			namespace:  fmt.Sprintf("team-%03d-%s", i/50, []string{"prod", "staging", "dev"}[i/50%3]),
			name:       fmt.Sprintf("%s-%d", charts[chart%len(charts)], i%50),
			chart:      charts[chart%len(charts)],
			version:    fmt.Sprintf("%d.%d.%d", chart%9, (chart+revision)%20, i%4),
			appVersion: fmt.Sprintf("%d.%d", chart%5, revision),
			revision:   revision, failed: failed,
			created: created, modified: created + int64(i%90), deployed: created - 1,
			bytes: 9_000 + i*7919%90_000,
		}
	}
	slices.SortFunc(all, func(a, b member) int {
		if c := strings.Compare(a.namespace, b.namespace); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	return all
}

var charts = []string{
	"nginx", "postgresql", "redis", "checkout-service", "billing", "kafka", "gateway", "ingress-nginx", "cert-manager",
	"prometheus", "grafana", "loki", "payments-api", "frontend", "worker", "search", "mailer", "session-store",
}

// families render a release each, in the order of the exposition.
var families = []func(b []byte, m *member) []byte{
	gauge("helm_release_created_timestamp_seconds", func(m *member) int64 { return m.created }),
	gauge("helm_release_deployed_revision", func(m *member) int64 { return int64(m.revision) }),
	func(b []byte, m *member) []byte {
		return fmt.Appendf(b, "helm_release_info{app_version=%q,chart=%q,chart_version=%q,name=%q,namespace=%q,revision=\"%d\"} 1\n",
			m.appVersion, m.chart, m.version, m.name, m.namespace, m.revision)
	},
	gauge("helm_release_modified_timestamp_seconds", func(m *member) int64 { return m.modified }),
	gauge("helm_release_payload_bytes", func(m *member) int64 { return int64(m.bytes) }),
	gauge("helm_release_revision", func(m *member) int64 { return int64(m.revision) }),
	func(b []byte, m *member) []byte {
		values := []int{1 - m.failed, m.failed, 0, 0, 0}
		for i, status := range []string{"deployed", "failed", "pending-install", "pending-rollback", "pending-upgrade"} {
			b = fmt.Appendf(b, "helm_release_status{name=%q,namespace=%q,status=%q} %d\n", m.name, m.namespace, status, values[i])
		}
		return b
	},
	gauge("helm_release_updated", func(m *member) int64 { return m.deployed }),
}

func gauge(name string, value func(*member) int64) func([]byte, *member) []byte {
	return func(b []byte, m *member) []byte {
		b = fmt.Appendf(b, "%s{name=%q,namespace=%q} ", name, m.name, m.namespace)
		b = strconv.AppendFloat(b, float64(value(m)), 'g', -1, 64)
		return append(b, '\n')
	}
}

// segments are the texts of a fleet: one for each family of so many releases.
func segments(releasesEach int) [][]byte {
	var all [][]byte
	for block := range slices.Chunk(fleet(releases), releasesEach) {
		for _, family := range families {
			var text []byte
			for i := range block {
				text = family(text, &block[i])
			}
			all = append(all, text)
		}
	}
	return all
}
