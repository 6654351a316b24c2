package watch

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// index has every stored revision of every release, and derives what is shown: after changes, Refresh does. It has no
// lock and does no I/O.
type index map[release.Key]*entry

// entry is one release: its stored revisions, the shown one last (see compare), and what was last made of them.
type entry struct {
	revisions []revision
	shown     *release.Release
	// created is when the release was created, 0 if that was before its oldest stored revision: Helm removes the records
	// of old ones.
	created release.Time
}

// revision is a stored revision and, once it has been read, its payload.
type revision struct {
	*release.Revision
	payload *release.Payload
}

// Get returns the release as it was when it was refreshed, nil if it had no stored revision.
func (x index) Get(key release.Key) *release.Release {
	if e := x[key]; e != nil {
		return e.shown
	}
	return nil
}

// Insert adds a revision, or replaces the one with the same UID, which must have the same number. The payload of a
// replaced revision is kept, since its chart never changes; a payload that could not be decoded is dropped when the
// record is written again.
func (x index) Insert(key release.Key, rev *release.Revision) {
	e := x[key]
	if e == nil {
		e = &entry{}
		x[key] = e
	}
	at, found := e.find(rev)
	if !found {
		e.revisions = slices.Insert(e.revisions, at, revision{Revision: rev})
		return
	}
	old := &e.revisions[at]
	if old.payload != nil && old.payload.Problem != "" && old.ResourceVersion != rev.ResourceVersion {
		old.payload = nil
	}
	old.Revision = rev
}

// Remove removes a revision. The release is gone when it is refreshed without one.
func (x index) Remove(key release.Key, rev *release.Revision) {
	e := x[key]
	if e == nil {
		return
	}
	if at, found := e.find(rev); found {
		e.revisions = slices.Delete(e.revisions, at, at+1)
	}
}

// Retain removes the revisions of a storage in a namespace ("" for all) for which keep returns false, and returns
// their releases, which are to be refreshed.
func (x index) Retain(storage release.Storage, namespace string, keep func(release.Key, *release.Revision) bool) []release.Key {
	var affected []release.Key
	for key, e := range x {
		if namespace != "" && namespace != key.Namespace {
			continue
		}
		before := len(e.revisions)
		e.revisions = slices.DeleteFunc(e.revisions, func(r revision) bool { return r.Storage == storage && !keep(key, r.Revision) })
		if len(e.revisions) < before {
			affected = append(affected, key)
		}
	}
	return affected
}

// SetPayload sets the payload of a revision and reports whether the release as shown changed. It does nothing
// if the revision is no longer stored, or was written again while an undecodable payload was read.
func (x index) SetPayload(key release.Key, read *release.Revision, p release.Payload) bool {
	e := x[key]
	if e == nil {
		return false
	}
	at, found := e.find(read)
	if !found || p.Problem != "" && e.revisions[at].ResourceVersion != read.ResourceVersion {
		return false
	}
	e.revisions[at].payload = &p
	return x.Refresh(key)
}

// find returns the position of a revision, or where it would be, and whether it is there.
func (e *entry) find(rev *release.Revision) (at int, found bool) {
	return slices.BinarySearchFunc(e.revisions, rev, func(r revision, rev *release.Revision) int { return compare(r.Revision, rev) })
}

// Refresh makes a new shown value, and reports whether it, or when the release was created, differs from the last one,
// which is shared and stays as it is. A release without a stored revision is gone.
func (x index) Refresh(key release.Key) bool {
	e := x[key]
	if e == nil {
		return false
	}
	if len(e.revisions) == 0 {
		delete(x, key)
		return e.shown != nil
	}
	newest := e.revisions[len(e.revisions)-1]
	made := release.Release{Key: key, Newest: newest.Revision, Payload: newest.payload}
	made.Shadowed, _ = slices.BinarySearchFunc(e.revisions, newest.Storage, func(r revision, s release.Storage) int { return cmp.Compare(r.Storage, s) })
	made.Stored = len(e.revisions) - made.Shadowed
	for _, r := range slices.Backward(e.revisions[made.Shadowed:]) {
		if r.Status == release.Deployed {
			made.Deployed = r.Number
			break
		}
	}
	var created release.Time
	if oldest := e.revisions[made.Shadowed]; oldest.Number == 1 {
		created = oldest.Created
	}
	if e.shown != nil && created == e.created && same(e.shown, &made) {
		return false
	}
	e.shown, e.created = &made, created
	return true
}

// compare orders revisions, the one to show last: ConfigMaps before Secrets, then by number. Numbers are unique within
// a storage unless labels were edited by hand; then the record created last wins, and the UID makes the order total.
func compare(a, b *release.Revision) int {
	return cmp.Or(
		cmp.Compare(a.Storage, b.Storage), // "configmaps" sorts before "secrets"
		cmp.Compare(a.Number, b.Number),
		cmp.Compare(a.Created, b.Created),
		bytes.Compare(a.UID[:], b.UID[:]),
	)
}

func same(a, b *release.Release) bool {
	x, y := a.Newest, b.Newest
	return a.Payload == b.Payload && a.Deployed == b.Deployed &&
		a.Stored == b.Stored && a.Shadowed == b.Shadowed &&
		x.UID == y.UID && x.Number == y.Number && x.Status == y.Status && x.Storage == y.Storage &&
		x.ResourceVersion == y.ResourceVersion && x.OtherObject == y.OtherObject &&
		x.Created == y.Created && x.Modified == y.Modified &&
		maps.Equal(x.Labels, y.Labels)
}
