package watch

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// index has every stored revision of every release, and derives what is shown. It has no lock and does no I/O.
type index map[release.Key]*entry

// entry is one release: its stored revisions, the shown one first (see better), and the value last made of
// them.
type entry struct {
	revisions []revision
	shown     *release.Release
}

// revision is a stored revision and, once it has been read, its payload.
type revision struct {
	*release.Revision
	payload *release.Payload
}

// Get returns the release as it is now, nil if it has no stored revision.
func (x index) Get(key release.Key) *release.Release {
	if e := x[key]; e != nil {
		return e.shown
	}
	return nil
}

// Insert adds a revision, or replaces the one with the same UID, and reports whether the release as shown
// changed. The payload of a replaced revision is kept, since its chart never changes; a payload that could not
// be decoded is dropped when the record is written again.
func (x index) Insert(key release.Key, rev *release.Revision) bool {
	e := x[key]
	if e == nil {
		e = &entry{}
		x[key] = e
	}
	added := revision{Revision: rev}
	if i := e.find(rev.UID); i >= 0 {
		old := e.revisions[i]
		if old.payload != nil && (old.payload.Problem == "" || old.ResourceVersion == rev.ResourceVersion) {
			added.payload = old.payload
		}
		e.revisions = slices.Delete(e.revisions, i, i+1)
	}
	at, _ := slices.BinarySearchFunc(e.revisions, added, better)
	e.revisions = slices.Insert(e.revisions, at, added)
	return e.refresh(key)
}

// Remove removes a revision and reports whether the release as shown changed. The release is gone when its last
// revision is.
func (x index) Remove(key release.Key, uid release.UID) bool {
	e := x[key]
	if e == nil {
		return false
	}
	i := e.find(uid)
	if i < 0 {
		return false
	}
	if len(e.revisions) == 1 {
		delete(x, key)
		return true
	}
	e.revisions = slices.Delete(e.revisions, i, i+1)
	return e.refresh(key)
}

// Retain removes the revisions of a storage in a namespace ("" for all) for which keep returns false, and
// returns the releases that changed as shown.
func (x index) Retain(storage release.Storage, namespace string, keep func(release.Key, release.UID) bool) []release.Key {
	var changed []release.Key
	for key, e := range x {
		if namespace != "" && namespace != key.Namespace {
			continue
		}
		var gone []release.UID
		for _, r := range e.revisions {
			if r.Storage == storage && !keep(key, r.UID) {
				gone = append(gone, r.UID)
			}
		}
		shown := false
		for _, uid := range gone {
			shown = x.Remove(key, uid) || shown
		}
		if shown {
			changed = append(changed, key)
		}
	}
	return changed
}

// SetPayload sets the payload of a revision and reports whether the release as shown changed. It does nothing
// if the revision is no longer stored, or was written again while an undecodable payload was read.
func (x index) SetPayload(key release.Key, read *release.Revision, p release.Payload) bool {
	e := x[key]
	if e == nil {
		return false
	}
	i := e.find(read.UID)
	if i < 0 || p.Problem != "" && e.revisions[i].ResourceVersion != read.ResourceVersion {
		return false
	}
	e.revisions[i].payload = &p
	return e.refresh(key)
}

// created returns when the release was created, 0 if that was before its oldest stored revision: Helm removes the
// records of old ones.
func (e *entry) created() release.Time {
	if oldest := e.revisions[e.shown.Stored-1]; oldest.Number == 1 {
		return oldest.Created
	}
	return 0
}

// find returns the position of the revision with this UID, -1 if there is none.
func (e *entry) find(uid release.UID) int {
	return slices.IndexFunc(e.revisions, func(r revision) bool { return r.UID == uid })
}

// refresh makes a new shown value, and reports whether it differs from the last one, which is shared and stays
// as it is.
func (e *entry) refresh(key release.Key) bool {
	newest := e.revisions[0]
	made := release.Release{Key: key, Newest: newest.Revision, Payload: newest.payload}
	for _, r := range e.revisions {
		if r.Storage != newest.Storage {
			made.Shadowed++
			continue
		}
		made.Stored++
		if r.Status == release.Deployed {
			made.Deployed = max(made.Deployed, r.Number)
		}
	}
	if e.shown != nil && same(e.shown, &made) {
		return false
	}
	e.shown = &made
	return true
}

// better orders revisions, the one to show first: Secrets before ConfigMaps, then the highest number. Numbers
// are unique within a storage unless labels were edited by hand; then the record created last wins, and the UID
// makes the order total.
func better(a, b revision) int {
	return cmp.Or(
		-cmp.Compare(a.Storage, b.Storage), // "secrets" sorts behind "configmaps"
		cmp.Compare(b.Number, a.Number),
		cmp.Compare(b.Created, a.Created),
		bytes.Compare(b.UID[:], a.UID[:]),
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
