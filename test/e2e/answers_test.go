package e2e_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tally sums values of the releases for which a condition holds, by labels, as aggregations of PromQL do.
func (s seed) tally(holds func(fact) bool, labels func(fact) map[string]string, value func(fact) float64) answer {
	sums := make(series)
	for _, f := range s.facts {
		if holds(f) {
			sums[seriesName("", labels(f))] += value(f)
		}
	}
	return answer{series: sums}
}

func one(fact) float64 { return 1 }

// rows returns series without a name. Each has the given labels and one more, whose values are the keys.
func rows(label string, values map[string]float64, more map[string]string) series {
	all := make(series)
	for key, value := range values {
		labels := maps.Clone(more)
		if labels == nil {
			labels = make(map[string]string)
		}
		labels[label] = key
		all.add(value, "", labels)
	}
	return all
}

// number is an answer without labels that adds up over clusters.
func number(n int) answer { return answer{series: series{"": float64(n)}, scope: ofAll} }

// total is the number of releases for which a condition holds.
func (s seed) total(holds func(fact) bool) answer {
	n := 0
	for _, f := range s.facts {
		if holds(f) {
			n++
		}
	}
	return number(n)
}

// each has one series for each release for which a condition holds.
func (s seed) each(holds func(fact) bool, value func(fact) float64) answer {
	return s.tally(holds, func(f fact) map[string]string { return map[string]string{"namespace": f.Namespace, "name": f.Name} }, value)
}

func every(fact) bool          { return true }
func failed(f fact) bool       { return f.Status == "failed" }
func pending(f fact) bool      { return strings.HasPrefix(f.Status, "pending-") }
func uninstalling(f fact) bool { return f.Status == "uninstalling" }
func bad(f fact) bool          { return failed(f) || pending(f) || uninstalling(f) }
func badButRuns(f fact) bool   { return bad(f) && f.deployed > 0 }
func notDeployed(f fact) bool  { return f.deployed == 0 }

// isUndecodable says whether a release is that of writeUndecodable, of which Helm tells no chart.
func isUndecodable(f fact) bool { return f.Chart == "" }
func isDecoded(f fact) bool     { return f.Chart != "" }

func revision(f fact) float64 { return float64(f.Revision) }

// lastWrite is the time of the last write to the record, or of its creation if that is not known.
func lastWrite(f fact) float64 {
	return float64(max(f.record.modified().Unix(), f.record.meta.CreationTimestamp.Unix()))
}

// section is that of the runbook for a bad release.
func section(f fact) string {
	switch {
	case pending(f):
		return "helmreleasestuckpending"
	case uninstalling(f):
		return "helmreleasestuckuninstalling"
	case f.deployed > 0:
		return "helmreleaseupgradefailed"
	}
	return "helmreleasefailed"
}

func hasRepository(f fact) bool { return isDecoded(f) && !strings.HasPrefix(f.Chart, "hook-") }
func noRepository(f fact) bool  { return strings.HasPrefix(f.Chart, "hook-") }
func isBehind(f fact) bool      { return hasRepository(f) && level(f) != "none" }

// level is how far behind 9.0.0 a release is, according to the rules of the fleet.
func level(f fact) string {
	switch chartVersion.FindStringSubmatch(f.Chart)[1] {
	case "web":
		return "major"
	case "deprecated":
		return "none"
	}
	return "minor"
}

func (c scene) answersAboutReleases(t *testing.T) map[string]answer {
	t.Helper()
	statuses := strings.Fields("deployed failed pending-install pending-rollback pending-upgrade")
	if c.allStatuses {
		statuses = append(statuses, "superseded", "uninstalled", "uninstalling", "unknown")
	}
	byStatus := c.tally(every, func(f fact) map[string]string { return map[string]string{"status": f.Status} }, one)
	byStatus.scope = ofAll
	for _, status := range statuses {
		byStatus.series[seriesName("", map[string]string{"status": status})] += 0
	}
	now := float64(time.Now().Unix())
	inState := c.tally(bad, func(f fact) map[string]string {
		return map[string]string{"namespace": f.Namespace, "name": f.Name, "status": f.Status, "runbook": section(f)}
	}, func(f fact) float64 { return now - lastWrite(f) })
	inState.within = 2 * patience.Seconds()
	// Without rules the thresholds are quarters of an hour, and a number of revisions that no release has.
	stuck, limit := c.total, 1.
	if !c.thresholds {
		stuck, limit = func(func(fact) bool) answer { return number(0) }, 20
	}
	sizes := c.each(every, func(f fact) float64 { return float64(len(f.record.payload)) / (1 << 20) })
	sizes.within = 512. / (1 << 20) // See sizeWhenRead.
	charts := c.versions(isDecoded, "chart").series
	var levels, unresolved, behind answer
	if c.Server == c.fleet {
		levels = c.tally(hasRepository, func(f fact) map[string]string { return map[string]string{"level": level(f)} }, one)
		levels.scope = ofAll
		unresolved = c.total(noRepository)
		behind = c.tally(isBehind, func(f fact) map[string]string {
			chart := chartVersion.FindStringSubmatch(f.Chart)
			return map[string]string{
				"namespace": f.Namespace, "name": f.Name, "chart": chart[1], "chart_version": chart[2],
				"latest_version": "9.0.0", "level": level(f), "repository": "stable",
			}
		}, one)
	}
	return map[string]answer{
		"Releases/A":                   c.total(every),
		"Charts/A":                     {series: series{"": float64(len(charts))}, scope: ofAny},
		"Failed/A":                     c.total(failed),
		"Pending/A":                    c.total(pending),
		"Stuck pending/A":              stuck(pending),
		"Stuck uninstalling/A":         stuck(uninstalling),
		"Not deployed/A":               c.total(notDeployed),
		"Exporters out of date/A":      number(c.stale),
		"Releases by status/A":         byStatus,
		"Failing and stuck releases/A": inState,
		"Failing and stuck releases/B": c.each(bad, revision),
		"Failing and stuck releases/C": c.each(badButRuns, func(f fact) float64 { return float64(f.deployed) }),
		"Failing and stuck releases/D": c.versions(bad, "namespace", "name", "chart", "chart_version"),
		"Firing alerts/A":              c.firing(),
		"Charts and versions/A":        c.versions(isDecoded, "chart", "chart_version", "app_version"),
		"Charts in several versions/A": c.inSeveralVersions(),
		"Where each version runs/A":    c.versions(isDecoded, "chart", "chart_version", "app_version", "namespace", "name", "revision"),
		"Deprecated charts/A": c.versions(func(f fact) bool { return f.Name == "dated" },
			"namespace", "name", "chart", "chart_version"),
		"Releases by level/A":                      levels,
		"Releases by level/B":                      unresolved,
		"Releases behind their chart repository/A": behind,
		"Recent changes/A":                         c.each(every, func(f fact) float64 { return 1000 * lastWrite(f) }),
		"Recent changes/B":                         c.each(isDecoded, func(f fact) float64 { return 1000 * float64(f.Updated.unix(t)) }),
		"Recent changes/C":                         c.each(every, revision),
		"Releases that changed/A":                  c.total(every),
		"Largest records/A":                        sizes,
		"Most stored revisions/A":                  c.each(every, func(f fact) float64 { return float64(f.stored) / limit }),
		"Payloads that cannot be decoded/A": c.tally(isUndecodable, func(f fact) map[string]string {
			return map[string]string{"namespace": f.Namespace, "name": f.Name, "reason": "base64"}
		}, one),
	}
}

// versions counts releases by the given labels of helm_release_info.
func (s seed) versions(holds func(fact) bool, labels ...string) answer {
	return s.tally(holds, func(f fact) map[string]string {
		chart := chartVersion.FindStringSubmatch(f.Chart)
		all := map[string]string{
			"namespace": f.Namespace, "name": f.Name, "revision": strconv.Itoa(f.Revision),
			"chart": chart[1], "chart_version": chart[2], "app_version": f.AppVersion,
		}
		maps.DeleteFunc(all, func(label, _ string) bool { return !slices.Contains(labels, label) })
		return all
	}, one)
}

// inSeveralVersions has the charts with several versions, and how many. Clusters may have the same ones.
func (c scene) inSeveralVersions() answer {
	count := make(series)
	for name := range c.versions(isDecoded, "chart", "chart_version").series {
		chart, _, _ := strings.Cut(name, ",")
		count[chart+"}"]++
	}
	maps.DeleteFunc(count, func(_ string, n float64) bool { return n == 1 })
	return answer{series: count, scope: ofAny}
}

// firing has the alerts that fire now, according to Prometheus.
func (c scene) firing() answer {
	if !c.alerts {
		return answer{}
	}
	return answer{holds: func(got series) bool {
		alerts, err := readAlerts(c.Server)
		if err != nil {
			return false
		}
		want := make(series)
		for _, a := range alerts {
			chosen := func(f fact) bool { return f.Namespace == a.Labels["namespace"] && f.Name == a.Labels["name"] }
			if a.State != "firing" || !slices.ContainsFunc(c.facts, chosen) {
				continue
			}
			maps.DeleteFunc(a.Labels, func(label, _ string) bool {
				return !slices.Contains([]string{"alertname", "severity", "namespace", "name"}, label)
			})
			a.Labels["runbook"] = a.Labels["alertname"] // Grafana makes it lower-case.
			want.add(1, "", a.Labels)
		}
		return len(want) > 0 && maps.Equal(want, got)
	}}
}

func (c scene) answersAboutTheExporter(*testing.T) map[string]answer {
	zero := func(keys string) map[string]float64 {
		values := make(map[string]float64)
		for _, key := range strings.Fields(keys) {
			values[key] = 0
		}
		return values
	}
	// rates has exactly these series, those of a counter. The ones that are named are above 0, and the others are 0.
	// They are about those of one exporter, or of all shards if these share the work.
	rates := func(counter string, shared bool, all series, some ...string) answer {
		return answer{holds: func(got series) bool {
			parts, err := evaluateParts(c.Server, c.substitute("rate("+counter+"{cluster=~'$cluster'}[$__rate_interval])"))
			want := make(series)
			for _, part := range parts {
				for name, rate := range part {
					if shared && c.shards > 1 {
						want[name] += rate
					} else {
						want[name] = max(want[name], rate)
					}
				}
			}
			for name := range all {
				rate, ok := got[name]
				if !ok || rate > 0 != slices.Contains(some, name) || rate > 1.3*want[name] || rate < want[name]/1.3 {
					return false
				}
			}
			return err == nil && len(got) == len(all)
		}}
	}
	// between has one series of each exporter with a value in a range.
	between := func(name string, low, high float64) answer {
		return answer{scope: ofInstance, holds: func(got series) bool { return len(got) == 1 && got[name] > low && got[name] < high }}
	}
	secrets := map[string]string{"storage": "secrets"}
	watches := rows("namespace", map[string]float64{c.shop.namespace: 1, c.team.namespace: 1}, secrets)
	// Bookmarks come about once per minute.
	silence := rows("namespace", map[string]float64{c.shop.namespace: 60, c.team.namespace: 60}, secrets)
	ordinals := make(map[string]float64)
	for i := range c.shards {
		ordinals[strconv.Itoa(i)] = float64(c.shards)
	}
	scrapes, dropped, lost, undecodable, releases := answer{}, answer{}, 0, c.total(isUndecodable), len(c.facts)
	if c.guarded {
		scrapes = rates("helm_state_metrics_auth_requests_total", false,
			rows("result", zero("allowed invalid unauthorized forbidden unavailable"), nil), `{result="allowed"}`)
		dropped = c.tally(every, func(f fact) map[string]string { return map[string]string{"namespace": f.Namespace} }, one)
		for name := range dropped.series {
			dropped.series[name] -= limited
			lost += int(dropped.series[name])
		}
		undecodable, releases = number(0), releases-lost // What cannot be decoded is newer than others.
	}
	share := answer{scope: ofShard, holds: func(got series) bool {
		sum := 0.
		for _, n := range got {
			sum += n
		}
		return len(got) == c.shards && sum == float64(releases)
	}}
	return map[string]answer{
		"Exporters that answer/A":           number(c.exporters),
		"Watches down/A":                    number(0),
		"Payloads to be read/A":             number(0),
		"Payloads that cannot be decoded/A": undecodable,
		"Releases dropped/A":                number(lost),
		"Shards missing/A":                  number(0),
		"Watches/A":                         {series: watches, scope: ofInstance},
		"Silence of the watches/A":          {series: silence, within: 60, scope: ofInstance},
		"Watch events/A": rates("helm_state_metrics_watch_events_total", false, rows("type", zero("add update delete"), secrets),
			`{storage="secrets",type="add"}`, `{storage="secrets",type="update"}`),
		"Watch errors/A": {series: rows("reason", zero("expired forbidden other throttled unauthorized unavailable"), secrets)},
		"Payload reads/A": rates("helm_state_metrics_payload_fetches_total", true,
			rows("result", zero("ok not_found forbidden error"), nil), `{result="ok"}`),
		"Authorized scrapes/A":            scrapes,
		"Releases dropped by namespace/A": dropped,
		"Shards/A":                        {series: rows("shard_ordinal", ordinals, nil), scope: ofShard},
		"Shards/B":                        share,
		"CPU/A":                           between("", 0, 2),
		"Memory/A":                        between("process_resident_memory_bytes", 5e6, 5e8),
		"Scrape duration/A":               between("scrape_duration_seconds", 0, 1),
		"Samples per scrape/A":            between("scrape_samples_scraped", 100, 1000),
	}
}
