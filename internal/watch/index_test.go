package watch

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

var key = release.Key{Namespace: "team-a", Name: "my.app"}

// rev is a revision whose UID follows from its number, unless changed.
func rev(number int, status release.Status, change ...func(*release.Revision)) *release.Revision {
	r := &release.Revision{
		UID:             release.ParseUID(fmt.Sprintf("uid-%d", number)),
		Number:          number,
		Status:          status,
		Storage:         release.Secrets,
		ResourceVersion: 1,
		Created:         release.Time(number),
	}
	for _, c := range change {
		c(r)
	}
	return r
}

func uid(s string) func(*release.Revision) {
	return func(r *release.Revision) { r.UID = release.ParseUID(s) }
}

func resourceVersion(version uint64) func(*release.Revision) {
	return func(r *release.Revision) { r.ResourceVersion = version }
}

func inConfigMaps(r *release.Revision) { r.Storage = release.ConfigMaps }

// shown is what a test looks at.
type shown struct {
	Newest, Deployed, Stored, Shadowed int
	Status                             release.Status
	Storage                            release.Storage
	Chart                              string
}

func show(r *release.Release) shown {
	if r == nil {
		return shown{}
	}
	s := shown{
		Newest: r.Newest.Number, Deployed: r.Deployed, Stored: r.Stored, Shadowed: r.Shadowed,
		Status: r.Newest.Status, Storage: r.Newest.Storage,
	}
	if r.Payload != nil {
		s.Chart = r.Payload.Head.Chart.Name
	}
	return s
}

func chart(name string) release.Payload {
	return release.Payload{Head: release.Head{Chart: release.Chart{Name: name}}}
}

func TestIndex(t *testing.T) {
	type step func(index) bool
	insert := func(r *release.Revision) step {
		return func(x index) bool { x.Insert(key, r); return x.Refresh(key) }
	}
	remove := func(r *release.Revision) step {
		return func(x index) bool { x.Remove(key, r); return x.Refresh(key) }
	}
	read := func(r *release.Revision, p release.Payload) step {
		return func(x index) bool { return x.SetPayload(key, r, p) }
	}
	for name, tc := range map[string]struct {
		steps   []step
		changed bool // by the last step
		want    shown
	}{
		"an upgrade shows the newest revision and keeps the deployed one in mind": {
			steps:   []step{insert(rev(1, release.Deployed)), insert(rev(2, release.PendingUpgrade))},
			changed: true,
			want:    shown{Newest: 2, Deployed: 1, Stored: 2, Status: release.PendingUpgrade, Storage: release.Secrets},
		},
		"numbers are compared as numbers": {
			steps:   []step{insert(rev(10, release.Deployed)), insert(rev(9, release.Failed))},
			changed: true,
			want:    shown{Newest: 10, Deployed: 10, Stored: 2, Status: release.Deployed, Storage: release.Secrets},
		},
		"an event that says the same again changes nothing": {
			steps: []step{insert(rev(1, release.Deployed)), insert(rev(1, release.Deployed))},
			want:  shown{Newest: 1, Deployed: 1, Stored: 1, Status: release.Deployed, Storage: release.Secrets},
		},
		"deleting the newest revision makes the one below it the newest, with its payload": {
			steps: []step{
				insert(rev(1, release.Deployed)), read(rev(1, release.Deployed), chart("a")),
				insert(rev(2, release.PendingUpgrade)), remove(rev(2, release.Deployed)),
			},
			changed: true,
			want:    shown{Newest: 1, Deployed: 1, Stored: 1, Status: release.Deployed, Storage: release.Secrets, Chart: "a"},
		},
		"a new revision never shows the chart of the one before it": {
			steps: []step{
				insert(rev(1, release.Deployed)), read(rev(1, release.Deployed), chart("a")),
				insert(rev(2, release.PendingUpgrade)),
			},
			changed: true,
			want:    shown{Newest: 2, Deployed: 1, Stored: 2, Status: release.PendingUpgrade, Storage: release.Secrets},
		},
		"a payload of a revision that is gone is dropped": {
			steps: []step{
				insert(rev(1, release.Deployed)), insert(rev(2, release.Deployed)), remove(rev(1, release.Deployed)),
				read(rev(1, release.Deployed), chart("a")),
			},
			want: shown{Newest: 2, Deployed: 2, Stored: 1, Status: release.Deployed, Storage: release.Secrets},
		},
		"a payload of an older revision is kept but not shown": {
			steps: []step{
				insert(rev(1, release.Deployed)), insert(rev(2, release.Failed)),
				read(rev(1, release.Deployed), chart("a")),
			},
			want: shown{Newest: 2, Deployed: 1, Stored: 2, Status: release.Failed, Storage: release.Secrets},
		},
		"uninstall and install make revision 1 again under another UID": {
			steps: []step{
				insert(rev(1, release.Deployed)), read(rev(1, release.Deployed), chart("a")),
				remove(rev(1, release.Deployed)), insert(rev(1, release.Deployed, uid("other"))),
			},
			changed: true,
			want:    shown{Newest: 1, Deployed: 1, Stored: 1, Status: release.Deployed, Storage: release.Secrets},
		},
		"a status change keeps the payload": {
			steps: []step{
				insert(rev(1, release.PendingInstall)), read(rev(1, release.PendingInstall), chart("a")),
				insert(rev(1, release.Deployed, resourceVersion(2))),
			},
			changed: true,
			want:    shown{Newest: 1, Deployed: 1, Stored: 1, Status: release.Deployed, Storage: release.Secrets, Chart: "a"},
		},
		"a late delete of an earlier record does not touch the one that replaced it": {
			steps: []step{insert(rev(1, release.Deployed, uid("other"))), remove(rev(1, release.Deployed))},
			want:  shown{Newest: 1, Deployed: 1, Stored: 1, Status: release.Deployed, Storage: release.Secrets},
		},
		"Secrets win over ConfigMaps with a higher number": {
			steps: []step{
				insert(rev(7, release.Failed, inConfigMaps)), insert(rev(2, release.Deployed)),
			},
			changed: true,
			want:    shown{Newest: 2, Deployed: 2, Stored: 1, Shadowed: 1, Status: release.Deployed, Storage: release.Secrets},
		},
		"ConfigMaps are shown once the Secrets are gone": {
			steps: []step{
				insert(rev(7, release.Failed, inConfigMaps)), insert(rev(2, release.Deployed)), remove(rev(2, release.Deployed)),
			},
			changed: true,
			want:    shown{Newest: 7, Stored: 1, Status: release.Failed, Storage: release.ConfigMaps},
		},
		"a release is gone with its last revision": {
			steps:   []step{insert(rev(1, release.Uninstalling)), remove(rev(1, release.Deployed))},
			changed: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := make(index)
			changed := false
			for _, s := range tc.steps {
				changed = s(x)
			}
			if changed != tc.changed {
				t.Errorf("last step: changed = %v, want %v", changed, tc.changed)
			}
			if diff := gocmp.Diff(tc.want, show(x.Get(key))); diff != "" {
				t.Errorf("shown (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIndexForgetsAnUndecodablePayloadWhenTheRecordIsWrittenAgain(t *testing.T) {
	x := make(index)
	first := rev(1, release.Deployed)
	x.Insert(key, first)
	x.SetPayload(key, first, release.Payload{Problem: "gzip"})
	x.Insert(key, first)
	x.Refresh(key)
	if x.Get(key).Payload == nil {
		t.Fatal("forgotten although the record is the same")
	}
	x.Insert(key, rev(1, release.Deployed, resourceVersion(2)))
	x.Refresh(key)
	if p := x.Get(key).Payload; p != nil {
		t.Fatalf("still holds %+v after the record was written again", p)
	}
	if x.SetPayload(key, first, release.Payload{Problem: "gzip"}) {
		t.Fatal("took the problem of a record that was written again meanwhile")
	}
}

// TestIndexAgainstModel runs random operations against the plainest model: a set of revisions, looked through
// each time. At times several operations come before what is shown is made of them.
func TestIndexAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := make(index)
		model := map[release.UID]revision{}
		published := x.Get(key)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			changed := changeBoth(t, x, model)
			if rapid.IntRange(0, 3).Draw(t, "refresh") > 0 {
				changed = x.Refresh(key) || changed
			} else if !changed {
				continue
			}
			got := x.Get(key)
			if changed == (got == published) {
				t.Fatalf("changed = %v, but the shown value went from %p to %p", changed, published, got)
			}
			published = got
			if diff := gocmp.Diff(naive(model), show(got)); diff != "" {
				t.Fatalf("shown (-want +got):\n%s", diff)
			}
			if _, kept := x[key]; kept != (len(model) > 0) {
				t.Fatal("the index keeps a release without revisions")
			}
		}
	})
}

// changeBoth does a random operation on the index and the model. It reports whether the index says that the release as
// shown changed.
func changeBoth(t *rapid.T, x index, model map[release.UID]revision) bool {
	storages := rapid.SampledFrom([]release.Storage{release.Secrets, release.ConfigMaps})
	uids := rapid.Map(rapid.IntRange(1, 12), func(n int) release.UID { return release.ParseUID(fmt.Sprint("uid-", n)) })
	id := uids.Draw(t, "uid")
	old, known := model[id]
	switch rapid.IntRange(0, 3).Draw(t, "operation") {
	case 0:
		r := rev(rapid.IntRange(1, 12).Draw(t, "number"), rapid.SampledFrom(release.Statuses()).Draw(t, "status"))
		r.UID, r.Storage = id, storages.Draw(t, "storage")
		if known && compare(old.Revision, r) != 0 {
			x.Remove(key, old.Revision)
			old.payload = nil
		}
		x.Insert(key, r)
		model[id] = revision{Revision: r, payload: old.payload}
	case 1:
		if known {
			x.Remove(key, old.Revision)
		} else {
			x.Remove(key, &release.Revision{UID: id})
		}
		delete(model, id)
	case 2:
		p := chart(fmt.Sprint(id))
		if !known {
			return x.SetPayload(key, &release.Revision{UID: id}, p)
		}
		model[id] = revision{old.Revision, &p}
		return x.SetPayload(key, old.Revision, p)
	case 3:
		storage, kept := storages.Draw(t, "storage"), rapid.SliceOf(uids).Draw(t, "kept")
		namespace := rapid.SampledFrom([]string{"", key.Namespace, "another"}).Draw(t, "namespace")
		x.Retain(storage, namespace, func(k release.Key, r *release.Revision) bool { return k == key && slices.Contains(kept, r.UID) })
		maps.DeleteFunc(model, func(id release.UID, r revision) bool {
			return r.Storage == storage && namespace != "another" && !slices.Contains(kept, id)
		})
	}
	return false
}

// naive derives what is shown from all revisions of a release.
func naive(model map[release.UID]revision) shown {
	var all []revision
	for _, r := range model {
		all = append(all, r)
	}
	if len(all) == 0 {
		return shown{}
	}
	slices.SortFunc(all, func(a, b revision) int {
		if a.Storage != b.Storage {
			if a.Storage == release.Secrets {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Created, b.Created), bytes.Compare(a.UID[:], b.UID[:]))
	})
	newest := all[len(all)-1]
	s := shown{Newest: newest.Number, Status: newest.Status, Storage: newest.Storage}
	if newest.payload != nil {
		s.Chart = newest.payload.Head.Chart.Name
	}
	for _, r := range all {
		switch {
		case r.Storage != newest.Storage:
			s.Shadowed++
			continue
		case r.Status == release.Deployed && r.Number > s.Deployed:
			s.Deployed = r.Number
		}
		s.Stored++
	}
	return s
}
