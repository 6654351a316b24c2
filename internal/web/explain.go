package web

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/serve"
)

// headState says whether a head has been read.
type headState string

const (
	headDecoded     headState = "decoded"
	headPending     headState = "pending"
	headUndecodable headState = "undecodable"
	headNotRead     headState = "not_read" // no payload is ever read
)

func stateOfHead(r *release.Release, reads bool) headState {
	switch {
	case r.Payload == nil && !reads:
		return headNotRead
	case r.Payload == nil:
		return headPending
	case r.Payload.Problem != "":
		return headUndecodable
	}
	return headDecoded
}

// maxNamed is how many of a kind problemTexts names: a missing RBAC rule can concern thousands of namespaces.
const maxNamed = 5

// problemTexts describes problems in sentences.
func problemTexts(problems []release.Problem) []string {
	var texts []string
	down := 0
	var dropped []string
	forbidden := make(map[release.Storage][]string) // namespaces
	for _, p := range problems {
		switch p.Kind {
		case release.PayloadsForbidden:
			forbidden[p.Storage] = append(forbidden[p.Storage], p.Namespace)
			continue
		case release.ReleasesDropped:
			dropped = append(dropped, fmt.Sprintf("%s (%d)", p.Namespace, p.Dropped))
			continue
		}
		if down++; down > maxNamed {
			continue
		}
		if p.Kind == release.NeverListed {
			texts = append(texts, fmt.Sprintf("releases are missing: %v", p.Err))
		} else {
			texts = append(texts, fmt.Sprintf("what is shown may be out of date: %v", p.Err))
		}
	}
	if down > maxNamed {
		texts = append(texts, fmt.Sprintf("%d more watches are down", down-maxNamed))
	}
	for _, storage := range slices.Sorted(maps.Keys(forbidden)) {
		texts = append(texts, fmt.Sprintf("new payloads in %s of %s cannot be read, so charts and versions are unknown; grant the verb get",
			storage, list(forbidden[storage])))
	}
	if len(dropped) > 0 {
		texts = append(texts, fmt.Sprintf("releases beyond --metrics.max-releases-per-namespace are not shown, in namespace %s", list(dropped)))
	}
	return texts
}

// list names the first few of many.
func list(names []string) string {
	if len(names) > maxNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
	}
	return strings.Join(names, ", ")
}

// absenceText says why a release is not shown.
func absenceText(a release.Absence) string {
	switch a.Cause {
	case release.NamespaceNotWatched:
		return "This namespace is not watched: --namespaces does not name it."
	case release.NamespaceDenied:
		return "This namespace is not watched: --namespaces-denylist names it."
	case release.OtherShard:
		return fmt.Sprintf("If there is such a release, shard %d has it: see --shard.", a.Shard)
	case release.OverLimit:
		return fmt.Sprintf("It is not shown: --metrics.max-releases-per-namespace shows only the %d releases of this namespace that were created first.", a.Limit)
	case release.ListFailed:
		return fmt.Sprintf("It is unknown whether there is such a release: %v.", a.Err)
	}
	var storages []string
	for _, s := range a.Storages {
		storages = append(storages, string(s))
	}
	return "There is no record of it in the " + strings.Join(storages, " or ") + " of this namespace."
}

// notes says, in sentences, why a release is shown the way it is.
func notes(d *release.Detail, reads bool, now time.Time) []string {
	r := d.Shown
	all := []string{fmt.Sprintf("Revision %d is shown: it has the highest number of the %d stored in %s.", r.Newest.Number, r.Stored, r.Newest.Storage)}
	if r.Stored == 1 {
		all[0] = fmt.Sprintf("Revision %d is shown: it is the only one stored in %s.", r.Newest.Number, r.Newest.Storage)
	}
	if r.Shadowed > 0 {
		all = append(all, fmt.Sprintf("%d more revisions are in another storage, and are not shown.", r.Shadowed))
	}
	if s := aboutStatus(r, now); s != "" {
		all = append(all, s)
	}
	return append(all, aboutHead(d, reads)...)
}

// aboutStatus says what a status means for metrics and people.
func aboutStatus(r *release.Release, now time.Time) string {
	since := serve.Ago(cmp.Or(r.Newest.Modified, r.Newest.Created).Time(), now)
	deployed := "No stored revision is deployed."
	if r.Deployed > 0 {
		deployed = fmt.Sprintf("Revision %d is still deployed.", r.Deployed)
	}
	switch r.Newest.Status {
	case release.Deployed:
		return ""
	case release.Failed:
		return "The last operation failed. " + deployed
	case release.PendingInstall, release.PendingUpgrade, release.PendingRollback:
		return fmt.Sprintf("An operation is in progress, and wrote the record %s. If that is long ago, its client was stopped, and Helm refuses to upgrade the release. %s", since, deployed)
	case release.Uninstalling:
		return fmt.Sprintf("It is being uninstalled, and its record was written %s. If that is long ago, the uninstallation was stopped.", since)
	case release.Uninstalled:
		return "It was uninstalled with --keep-history."
	case release.Superseded:
		return "Its newest revision is superseded. " + deployed
	}
	return "Its status label is missing, or is not a status of Helm."
}

// aboutHead says what is known of the chart, or why nothing is known.
func aboutHead(d *release.Detail, reads bool) []string {
	const absent = "helm_release_info and helm_release_updated are absent."
	r := d.Shown
	switch stateOfHead(r, reads) {
	case headNotRead:
		return []string{"Payloads are not read, because of --payload=never or because no metric needs them: " + absent}
	case headPending:
		if d.Failure == nil {
			return []string{"Its payload has not been read yet; until then " + absent}
		}
		return []string{fmt.Sprintf("Its payload could not be read at %s, and will be tried again; until then %s The error: %s", serve.Exact(d.Failure.At), absent, d.Failure.Error)}
	case headUndecodable:
		return []string{fmt.Sprintf("Its payload cannot be decoded (%s), and will be read again when its record changes; until then %s", r.Payload.Problem, absent)}
	}
	var all []string
	if r.Payload.Head.Chart == (release.Chart{}) {
		all = append(all, "Its chart has no metadata, so it is shown as MISSING.")
	}
	if r.Outdated() {
		outdated := "The record was written again after its payload was read. The description and the payload's size may be out of date; chart and versions never change."
		if d.Failure != nil {
			outdated += fmt.Sprintf(" Reading it again failed at %s: %s", serve.Exact(d.Failure.At), d.Failure.Error)
		}
		all = append(all, outdated)
	}
	return all
}
