package watch

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// exposed is a sink that keeps what it is told.
type exposed map[release.Key]*release.Release

func (x exposed) Set(r *release.Release) { x[r.Key] = r }
func (x exposed) Remove(key release.Key) { delete(x, key) }
func (x exposed) Synced()                {}

// TestApplyAgainstModel writes, relabels, replaces and deletes records of both storages at random, and delivers that
// as informers do: by an event, which may merge several changes of a record; or by the list of a new informer, which may
// have an older state of a record first. What is exposed must be what the delivered records call for.
func TestApplyAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sink, most := make(exposed), rapid.IntRange(0, 2).Draw(t, "limit")
		w := New(Config{
			Storages: []release.Storage{release.Secrets, release.ConfigMaps}, MaxReleases: most,
			Sink: sink, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		})
		var records [2]stock
		for i := range records {
			records[i] = stock{make(map[string]*record), make(map[string]*record), make(map[string]*record)}
		}
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			i := rapid.IntRange(0, 1).Draw(t, "storage")
			s, kept := w.sources[i], records[i]
			name := rapid.SampledFrom([]string{"a.v1", "a.v2", "a.v3", "b.v1", "b.v2", "c.v1"}).Draw(t, "object")
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				kept.deliver(t, w, s)
			case 1:
				kept.set(name, nil)
			default:
				kept.set(name, draw(t, s.storage, name, step, kept.server[name]))
			}
			if s.now().listed && rapid.Bool().Draw(t, "event") {
				was, is := kept.delivered[name], kept.server[name]
				if is == nil {
					delete(kept.delivered, name)
				} else {
					kept.delivered[name] = is
				}
				if was != nil || is != nil {
					w.apply(s, []change{{was, is}}, false)
				}
			}
			if diff := cmp.Diff(calledFor(most, records[0].delivered, records[1].delivered), shownBy(sink)); diff != "" {
				t.Fatalf("exposed (-want +got):\n%s", diff)
			}
		}
	})
}

// stock is the records of one storage by name: as the API server has them, as they were before that, and as an informer
// has delivered them.
type stock struct{ server, before, delivered map[string]*record }

func (k stock) set(name string, r *record) {
	k.before[name], k.server[name] = k.server[name], r
	if r == nil {
		delete(k.server, name)
	}
}

// deliver lists all records.
func (k stock) deliver(t *rapid.T, w *Watcher, s *source) {
	clear(k.delivered)
	var list []change
	for _, name := range []string{"a.v1", "a.v2", "a.v3", "b.v1", "b.v2", "c.v1"} {
		before, is := k.before[name], k.server[name]
		if before != nil && rapid.Bool().Draw(t, "older first") {
			list = append(list, change{is: before}, change{before, is})
		} else if is != nil {
			list = append(list, change{is: is})
		}
		if is != nil {
			k.delivered[name] = is
		}
	}
	w.apply(s, list, true)
	s.set(func(state *sourceState) { state.listed = true })
}

// draw returns a record, which is a new one or the old one with other labels.
func draw(t *rapid.T, storage release.Storage, name string, step int, old *record) *record {
	meta := metav1.ObjectMeta{Namespace: "ns", Name: "sh.helm.release.v1." + name, Labels: map[string]string{
		"name":    rapid.SampledFrom([]string{name[:1], name[:1], "", "b", "c"}).Draw(t, "name"),
		"version": rapid.SampledFrom([]string{name[3:], name[3:], "", "x", "1", "2"}).Draw(t, "version"),
		"status":  string(rapid.SampledFrom(release.Statuses()).Draw(t, "status")),
	}}
	r := parseRecord(storage, &metav1.PartialObjectMetadata{ObjectMeta: meta}, nil)
	if old != nil && rapid.IntRange(0, 3).Draw(t, "same") > 0 {
		r.revision.UID, r.revision.Created = old.revision.UID, old.revision.Created
	} else {
		r.revision.UID = release.ParseUID(fmt.Sprint(storage, name, step))
		r.revision.Created = release.Time(rapid.IntRange(1, 5).Draw(t, "created"))
	}
	return r
}

// calledFor returns what records call for, at most a number of releases.
func calledFor(most int, stocks ...map[string]*record) map[release.Key]shown {
	revisions := make(map[release.Key]map[release.UID]revision)
	for _, records := range stocks {
		for _, r := range records {
			if revisions[r.key()] == nil {
				revisions[r.key()] = make(map[release.UID]revision)
			}
			revisions[r.key()][r.revision.UID] = revision{Revision: &r.revision}
		}
	}
	all, created := make(map[release.Key]shown), make(map[release.Key]release.Time)
	for key, of := range revisions {
		all[key], created[key] = naive(of), 0
		first := slices.MinFunc(slices.Collect(maps.Values(of)), func(a, b revision) int {
			if a.Storage != b.Storage && a.Storage == release.Secrets {
				return -1
			} else if a.Storage != b.Storage {
				return 1
			}
			return compare(a.Revision, b.Revision)
		})
		if first.Number == 1 {
			created[key] = first.Created
		}
	}
	exposed := oldest(created, most)
	maps.DeleteFunc(all, func(key release.Key, _ shown) bool { return !exposed[key] })
	return all
}

func shownBy(sink exposed) map[release.Key]shown {
	all := make(map[release.Key]shown)
	for key, r := range sink {
		all[key] = show(r)
	}
	return all
}

func TestAListForgetsARecordThatIsOfNoUseAnyMore(t *testing.T) {
	object := func(version string) *record {
		return parseRecord(release.Secrets, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "by-hand", UID: "u", Labels: map[string]string{"name": "a", "version": version},
		}}, nil)
	}
	w := &Watcher{index: make(index)}
	was, is := object("1"), object("none")
	w.index.Insert(was.key(), &was.revision)
	w.index.Refresh(was.key())
	for _, key := range w.retain(&source{storage: release.Secrets}, []change{{is: is}}) {
		w.index.Refresh(key)
	}
	if got := w.index.Get(was.key()); got != nil {
		t.Errorf("still shows revision %d of a record whose number nobody knows", got.Newest.Number)
	}
}
