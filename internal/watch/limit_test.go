package watch

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// TestLimitAgreesWithASort makes releases come, go and change their age, and compares with sorting them all anew.
// What a change exposes or drops besides must be told.
func TestLimitAgreesWithASort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLimit(rapid.IntRange(0, 4).Draw(t, "max"))
		created := make(map[release.Key]release.Time)
		exposed := make(map[release.Key]bool)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := release.Key{
				Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace"),
				Name:      rapid.StringMatching("[a-h]").Draw(t, "name"),
			}
			var e *entry
			delete(created, key)
			if rapid.Bool().Draw(t, "exists") {
				created[key] = release.Time(rapid.IntRange(1, 5).Draw(t, "created"))
				e = &entry{created: created[key]}
			}
			for _, k := range []*release.Key{l.set(key, e), &key} {
				if k == nil {
					continue
				}
				if delete(exposed, *k); l.exposes(*k) && created[*k] != 0 {
					exposed[*k] = true
				}
			}
			if diff := cmp.Diff(oldest(created, l.max), exposed); diff != "" {
				t.Fatalf("exposed (-want +got):\n%s", diff)
			}
			for _, namespace := range []string{"a", "b"} {
				all := 0
				for k := range created {
					if k.Namespace == namespace {
						all++
					}
				}
				if got, want := l.dropped(namespace), max(all-l.max, 0); l.max > 0 && got != want {
					t.Fatalf("%d are dropped in %s, want %d", got, namespace, want)
				}
			}
		}
	})
}

// TestAReleaseWithoutItsFirstRevisionIsOld upgrades the older of two releases until Helm removes its first record.
func TestAReleaseWithoutItsFirstRevisionIsOld(t *testing.T) {
	x, l := make(index), newLimit(1)
	live, young := release.Key{Namespace: "a", Name: "live"}, release.Key{Namespace: "a", Name: "young"}
	insert := func(key release.Key, number int, at release.Time) {
		x.Insert(key, rev(number, release.Deployed, func(r *release.Revision) { r.Created = at }))
		x.Refresh(key)
		l.set(key, x[key])
	}
	insert(live, 1, 1)
	insert(young, 1, 5)
	insert(live, 2, 9)
	x.Remove(live, rev(1, release.Deployed))
	x.Refresh(live)
	l.set(live, x[live])
	if !l.exposes(live) || l.exposes(young) {
		t.Errorf("live is exposed: %t, young: %t", l.exposes(live), l.exposes(young))
	}
}

// oldest returns the releases of each namespace that were created first, all if most is 0.
func oldest(created map[release.Key]release.Time, most int) map[release.Key]bool {
	byNamespace := make(map[string][]string)
	for key, at := range created {
		byNamespace[key.Namespace] = append(byNamespace[key.Namespace], fmt.Sprintf("%d%s", at, key.Name))
	}
	chosen := make(map[release.Key]bool)
	for namespace, all := range byNamespace {
		slices.Sort(all)
		if most > 0 {
			all = all[:min(most, len(all))]
		}
		for _, s := range all {
			chosen[release.Key{Namespace: namespace, Name: s[1:]}] = true
		}
	}
	return chosen
}

// BenchmarkLimit adds and removes the oldest release of a namespace that has 50,000.
func BenchmarkLimit(b *testing.B) {
	l := newLimit(100)
	e := &entry{created: 2}
	for i := range 50_000 {
		l.set(release.Key{Namespace: "a", Name: fmt.Sprint("r", i)}, e)
	}
	first := release.Key{Namespace: "a", Name: "first"}
	was := &entry{created: 1}
	for b.Loop() {
		l.set(first, was)
		l.set(first, nil)
	}
}
