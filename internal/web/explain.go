package web

import (
	"cmp"
	"fmt"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// headState says how far the reading of a head is.
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

// notes says, in sentences, why a release is shown the way it is.
func notes(d *release.Detail, reads bool, now time.Time) []string {
	if d.Shown == nil {
		return []string{d.Absence}
	}
	r := d.Shown
	all := []string{fmt.Sprintf("Revision %d is shown: it has the highest number of the %d stored in %s.", r.Newest.Number, r.Stored, r.Newest.Storage)}
	if r.Stored == 1 {
		all[0] = fmt.Sprintf("Revision %d is shown: it is the only one stored in %s.", r.Newest.Number, r.Newest.Storage)
	}
	if r.Shadowed > 0 {
		all = append(all, fmt.Sprintf("%d of its revisions are in another storage and not shown: Secrets win over ConfigMaps.", r.Shadowed))
	}
	if s := aboutStatus(r, now); s != "" {
		all = append(all, s)
	}
	return append(all, aboutHead(d, reads)...)
}

// aboutStatus says what a status means for metrics and people.
func aboutStatus(r *release.Release, now time.Time) string {
	since := cmp.Or(r.Newest.Modified, r.Newest.Created).Time()
	rest := "No stored revision is deployed."
	if r.Deployed > 0 {
		rest = fmt.Sprintf("Revision %d is still deployed.", r.Deployed)
	}
	switch r.Newest.Status {
	case release.Deployed:
		return ""
	case release.Failed:
		return "The last operation failed. " + rest
	case release.PendingInstall, release.PendingUpgrade, release.PendingRollback:
		return fmt.Sprintf("An operation is under way and last wrote %s; if that is long ago, its client was killed and Helm refuses the next one. %s", ago(since, now), rest)
	case release.Uninstalling:
		return fmt.Sprintf("It is being uninstalled, last written %s; if that is long ago, the uninstallation did not end.", ago(since, now))
	case release.Uninstalled:
		return "It was uninstalled with --keep-history."
	case release.Superseded:
		return "Its newest revision is superseded. " + rest
	}
	return "Its status label is missing, or none that Helm knows."
}

// aboutHead says what is known of the chart, or why nothing is.
func aboutHead(d *release.Detail, reads bool) []string {
	const absent = "helm_release_info and helm_release_updated are absent."
	r := d.Shown
	switch stateOfHead(r, reads) {
	case headNotRead:
		return []string{"Payloads are not read, since --payload=never says so or no metric needs them: " + absent}
	case headPending:
		if d.Failure == nil {
			return []string{"Its payload is about to be read; until then " + absent}
		}
		return []string{fmt.Sprintf("Its payload could not be read at %s, and is tried again; until then %s The error: %s", exact(d.Failure.At), absent, d.Failure.Error)}
	case headUndecodable:
		return []string{fmt.Sprintf("Its payload cannot be decoded (%s), and is read again when its record is written again; until then %s", r.Payload.Problem, absent)}
	}
	var all []string
	if r.Payload.Head.Chart == (release.Chart{}) {
		all = append(all, "Its chart has no metadata, hence MISSING.")
	}
	if r.Outdated() {
		outdated := "The record was written again since its payload was read: the description and the payload's size are those of that moment, while chart and versions stay as they are."
		if d.Failure != nil {
			outdated += fmt.Sprintf(" Reading it again failed at %s: %s", exact(d.Failure.At), d.Failure.Error)
		}
		all = append(all, outdated)
	}
	return all
}
