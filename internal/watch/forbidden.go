package watch

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// group is the smallest set of records that an RBAC rule covers.
type group struct {
	storage   release.Storage
	namespace string
}

// forbidden holds the releases whose payload may not be read, by group. Only
// one release of a group is tried now and then, so that a missing rule does not
// cost a request per release, and a rule that is added is noticed. The zero
// value is ready for use.
type forbidden struct {
	mu     sync.Mutex
	groups map[group]*waiting // guarded by mu
}

// waiting is a group that is forbidden.
type waiting struct {
	keys    map[release.Key]struct{}
	probe   release.Key     // the one to try, the zero Key if none
	last    release.Failure // of the last try
	backoff wait.Backoff
	next    time.Time // when to try again
}

// forbid marks a group as forbidden, and reports whether it was allowed before.
func (f *forbidden) forbid(g group, key release.Key, last release.Failure) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, known := f.groups[g]
	if !known {
		if f.groups == nil {
			f.groups = make(map[group]*waiting)
		}
		w = &waiting{keys: make(map[release.Key]struct{}), backoff: refusedBackoff()}
		f.groups[g] = w
	}
	w.keys[key] = struct{}{}
	w.last = last
	w.next = time.Now().Add(w.backoff.Step())
	return !known
}

// allow ends the waiting of a group, and returns the releases that waited.
func (f *forbidden) allow(g group) []release.Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, known := f.groups[g]
	if !known {
		return nil
	}
	delete(f.groups, g)
	return slices.Collect(maps.Keys(w.keys))
}

// wait reports whether a release has to wait because its group is forbidden.
func (f *forbidden) wait(g group, key release.Key) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, known := f.groups[g]
	if !known {
		return false
	}
	if w.probe == key {
		w.probe = release.Key{}
		delete(w.keys, key)
		return false
	}
	w.keys[key] = struct{}{}
	return true
}

// forget drops a release that is gone, or whose payload is not wanted any more.
func (f *forbidden) forget(key release.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, storage := range []release.Storage{release.Secrets, release.ConfigMaps} {
		if w, known := f.groups[group{storage, key.Namespace}]; known {
			delete(w.keys, key)
		}
	}
}

// due picks one release of each group that is to be tried again, and drops the
// groups without any.
func (f *forbidden) due() []release.Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	var picked []release.Key
	for g, w := range f.groups {
		if len(w.keys) == 0 {
			delete(f.groups, g)
		}
		if time.Now().Before(w.next) {
			continue
		}
		for key := range w.keys { // any of them
			w.probe = key
			picked = append(picked, key)
			break
		}
	}
	return picked
}

// failure returns the last failure of a group, nil if it is allowed.
func (f *forbidden) failure(g group) *release.Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, known := f.groups[g]
	if !known {
		return nil
	}
	last := w.last
	return &last
}

// list returns the groups that are forbidden, by storage and namespace.
func (f *forbidden) list() []group {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Keys(f.groups), func(x, y group) int {
		return cmp.Or(-cmp.Compare(x.storage, y.storage), cmp.Compare(x.namespace, y.namespace))
	})
}
