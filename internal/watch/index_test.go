package watch

import (
	"bytes"
	"cmp"
	"fmt"
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
	insert := func(r *release.Revision) step { return func(x index) bool { return x.Insert(key, r) } }
	remove := func(uid string) step { return func(x index) bool { return x.Remove(key, release.ParseUID(uid)) } }
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
				insert(rev(2, release.PendingUpgrade)), remove("uid-2"),
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
				insert(rev(1, release.Deployed)), insert(rev(2, release.Deployed)), remove("uid-1"),
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
				remove("uid-1"), insert(rev(1, release.Deployed, uid("other"))),
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
			steps: []step{insert(rev(1, release.Deployed, uid("other"))), remove("uid-1")},
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
				insert(rev(7, release.Failed, inConfigMaps)), insert(rev(2, release.Deployed)), remove("uid-2"),
			},
			changed: true,
			want:    shown{Newest: 7, Stored: 1, Status: release.Failed, Storage: release.ConfigMaps},
		},
		"a release is gone with its last revision": {
			steps:   []step{insert(rev(1, release.Uninstalling)), remove("uid-1")},
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
	if x.Get(key).Payload == nil {
		t.Fatal("forgotten although the record is the same")
	}
	x.Insert(key, rev(1, release.Deployed, resourceVersion(2)))
	if p := x.Get(key).Payload; p != nil {
		t.Fatalf("still holds %+v after the record was written again", p)
	}
	if x.SetPayload(key, first, release.Payload{Problem: "gzip"}) {
		t.Fatal("took the problem of a record that was written again meanwhile")
	}
}

// TestIndexAgainstModel runs random operations against the plainest model: a set of revisions, looked through
// each time.
func TestIndexAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := make(index)
		model := map[string]revision{} // by UID
		published := x.Get(key)
		numbers := rapid.IntRange(1, 12)
		steps := rapid.IntRange(1, 40).Draw(t, "steps")
		for range steps {
			id := fmt.Sprintf("uid-%d", numbers.Draw(t, "uid"))
			var changed bool
			switch rapid.IntRange(0, 3).Draw(t, "operation") {
			case 0:
				r := rev(numbers.Draw(t, "number"), rapid.SampledFrom(release.Statuses()).Draw(t, "status"), uid(id))
				r.Storage = rapid.SampledFrom([]release.Storage{release.Secrets, release.ConfigMaps}).Draw(t, "storage")
				changed = x.Insert(key, r)
				model[id] = revision{Revision: r, payload: model[id].payload}
			case 1:
				changed = x.Remove(key, release.ParseUID(id))
				delete(model, id)
			case 3:
				storage := rapid.SampledFrom([]release.Storage{release.Secrets, release.ConfigMaps}).Draw(t, "storage")
				namespace := rapid.SampledFrom([]string{"", key.Namespace, "another"}).Draw(t, "namespace")
				kept := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("uid-%d", numbers.Draw(t, "kept")) })
				known := rapid.SliceOf(kept).Draw(t, "known")
				changed = len(x.Retain(storage, namespace, func(k release.Key, uid release.UID) bool {
					return k == key && slices.ContainsFunc(known, func(id string) bool { return release.ParseUID(id) == uid })
				})) > 0
				for id, r := range model {
					if r.Storage == storage && namespace != "another" && !slices.Contains(known, id) {
						delete(model, id)
					}
				}
			case 2:
				p := chart(id)
				changed = x.SetPayload(key, &release.Revision{UID: release.ParseUID(id)}, p)
				if r, ok := model[id]; ok {
					r.payload = &p
					model[id] = r
				}
			}
			got := x.Get(key)
			if changed == (got == published) {
				t.Fatalf("changed = %v, but the shown value went from %p to %p", changed, published, got)
			}
			published = got
			if diff := gocmp.Diff(naive(model), show(got)); diff != "" {
				t.Fatalf("shown (-want +got):\n%s", diff)
			}
		}
	})
}

// naive derives what is shown from all revisions of a release.
func naive(model map[string]revision) shown {
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
