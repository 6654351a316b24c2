// Package fleet makes releases as a large cluster has them, for tests and benchmarks: 50 in each namespace, some dozens
// of charts, different names and times. It also exposes them as other exporters do, as a baseline for measurements.
package fleet

import (
	"fmt"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Of returns the first n releases of a fleet.
func Of(n int) []*release.Release {
	all := make([]*release.Release, n)
	for i := range all {
		all[i] = Member(i, 1+i%7)
	}
	return all
}

// Member returns release i of a fleet at one of its revisions.
func Member(i, revision int) *release.Release {
	charts := []string{
		"nginx", "postgresql", "redis", "checkout-service", "billing", "kafka", "gateway", "ingress-nginx", "cert-manager",
		"prometheus", "grafana", "loki", "payments-api", "frontend", "worker", "search", "mailer", "session-store",
	}
	chart := i % 61
	created := time.Unix(1_790_000_000+int64(i*37%5_000_000)+int64(revision)*86_400, 0)
	status := release.Deployed
	if i%50 == 7 {
		status = release.Failed
	}
	return &release.Release{
		Key:      release.Key{Namespace: fmt.Sprintf("team-%03d-%s", i/50, []string{"prod", "staging", "dev"}[i/50%3]), Name: fmt.Sprintf("%s-%d", charts[chart%len(charts)], i%50)},
		Newest:   &release.Revision{Number: revision, Status: status, Created: release.TimeOf(created), Modified: release.TimeOf(created) + release.Time(i%90)},
		Deployed: revision, Stored: 1,
		Payload: &release.Payload{
			Bytes: 9_000 + i*7919%90_000,
			Head: release.Head{LastDeployed: created.Add(-time.Second), Chart: release.Chart{
				Name: charts[chart%len(charts)], Version: fmt.Sprintf("%d.%d.%d", chart%9, (chart+revision)%20, i%4), AppVersion: fmt.Sprintf("%d.%d", chart%5, revision),
			}},
		},
	}
}
