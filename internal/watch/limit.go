package watch

import (
	"cmp"
	"slices"
	"strings"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// limit chooses which releases of each namespace are exposed: at most max, those created first. Only what is
// stored decides, so that all replicas choose the same ones, and choose them again after a start. It has no lock
// and does no I/O.
type limit struct {
	max        int                  // 0 for no limit
	namespaces map[string][]rank    // in order
	ranks      map[release.Key]rank // of all releases
}

// rank is where a release stands among those of its namespace.
type rank struct {
	created release.Time // 0 for one that is older than its stored revisions
	name    string
}

func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(r.created, o.created), strings.Compare(r.name, o.name))
}

func newLimit(most int) limit {
	return limit{max: most, namespaces: make(map[string][]rank), ranks: make(map[release.Key]rank)}
}

// set gives a release its rank, or takes it away if e is nil. It returns the release that is exposed or dropped
// in exchange, nil if there is none.
func (l *limit) set(key release.Key, e *entry) *release.Key {
	old, known := l.ranks[key]
	if l.max == 0 || e == nil && !known || e != nil && known && old.created == e.created {
		return nil
	}
	exposed := l.exposes(key)
	all := l.namespaces[key.Namespace]
	if known {
		at, _ := slices.BinarySearchFunc(all, old, rank.compare)
		all = slices.Delete(all, at, at+1)
		delete(l.ranks, key)
	}
	if e != nil {
		now := rank{e.created, key.Name}
		at, _ := slices.BinarySearchFunc(all, now, rank.compare)
		all = slices.Insert(all, at, now)
		l.ranks[key] = now
	}
	if l.namespaces[key.Namespace] = all; len(all) == 0 {
		delete(l.namespaces, key.Namespace)
	}
	var other rank
	switch {
	case exposed && !l.exposes(key) && len(all) >= l.max:
		other = all[l.max-1]
	case !exposed && l.exposes(key) && len(all) > l.max:
		other = all[l.max]
	default:
		return nil
	}
	return &release.Key{Namespace: key.Namespace, Name: other.name}
}

// exposes reports whether a release is exposed, if it exists.
func (l *limit) exposes(key release.Key) bool {
	if l.max == 0 {
		return true
	}
	r, known := l.ranks[key]
	at, _ := slices.BinarySearchFunc(l.namespaces[key.Namespace], r, rank.compare)
	return known && at < l.max
}

// dropped returns how many releases of a namespace are not exposed.
func (l *limit) dropped(namespace string) int {
	if l.max == 0 {
		return 0
	}
	return max(len(l.namespaces[namespace])-l.max, 0)
}
