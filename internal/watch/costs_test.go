package watch

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// BenchmarkOneTenant measures what 50,000 records cost that one tenant writes: as revisions of one release, none of which
// is deployed, and as releases beyond a limit.
func BenchmarkOneTenant(b *testing.B) {
	const many = 50_000
	for name, record := range map[string]func(i int) *record{
		"revisions of one release": func(i int) *record { return flood("app", 1+i, i) },
		"releases":                 func(i int) *record { return flood(fmt.Sprint("app-", i), 1, i) },
	} {
		var list []change
		for i := range many {
			list = append(list, change{is: record(i)})
		}
		slices.SortFunc(list, func(a, b change) int { return cmp.Compare(a.is.GetName(), b.is.GetName()) }) // as etcd does
		listed := func(b *testing.B) (*Watcher, *source) {
			b.Helper()
			w, _, _ := fed(b, 0, 60)
			s := w.sources[0]
			w.apply(s, list, true)
			s.set(func(state *sourceState) { state.listed = true })
			return w, s
		}
		b.Run("nothing left, and all again, "+name, func(b *testing.B) {
			w, s := listed(b)
			for b.Loop() {
				w.apply(s, nil, true)
				w.apply(s, list, true)
			}
		})
		b.Run("the same list again, "+name, func(b *testing.B) {
			w, s := listed(b)
			for b.Loop() {
				w.apply(s, list, true)
			}
		})
		b.Run("one more and gone again, "+name, func(b *testing.B) {
			w, s := listed(b)
			more := record(many)
			for b.Loop() {
				w.apply(s, []change{{is: more}}, false)
				w.apply(s, []change{{was: more}}, false)
			}
		})
		b.Run("another status of the first and the last, "+name, func(b *testing.B) {
			w, s := listed(b)
			for b.Loop() {
				for _, i := range []int{0, many - 1} {
					was, is := record(i), record(i)
					is.revision.Status = release.Superseded
					w.apply(s, []change{{was, is}}, false)
					w.apply(s, []change{{is, was}}, false)
				}
			}
		})
	}
}

// flood returns a record that was created at a time.
func flood(name string, number, at int) *record {
	o := object(at)
	o.Namespace, o.Name = "flood", release.ObjectName(name, number)
	o.Labels["name"], o.Labels["version"], o.Labels["status"] = name, fmt.Sprint(number), "failed"
	return parseRecord(release.Secrets, o, nil)
}
