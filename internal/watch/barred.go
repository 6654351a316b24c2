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

// group is what one RBAC rule covers at the least.
type group struct {
	storage   release.Storage
	namespace string
}

// barred holds the releases whose payload must not be read, by group. While a
// group is barred only one of its releases is tried now and then, so that a
// missing rule does not cost a request per release, and a mended one is
// noticed. The zero value is ready for use.
type barred struct {
	mu     sync.Mutex
	groups map[group]*heldBack // guarded by mu
}

type heldBack struct {
	keys    map[release.Key]struct{}
	probe   release.Key     // let through once, the zero Key if none
	last    release.Failure // the last read that was forbidden
	backoff wait.Backoff
	due     time.Time // when the next one is tried
}

// bar bars a group because a read was forbidden, and reports whether it was
// open before.
func (b *barred) bar(g group, key release.Key, last release.Failure) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	held, known := b.groups[g]
	if !known {
		if b.groups == nil {
			b.groups = make(map[group]*heldBack)
		}
		held = &heldBack{keys: make(map[release.Key]struct{}), backoff: refusedBackoff()}
		b.groups[g] = held
	}
	held.keys[key] = struct{}{}
	held.last = last
	held.due = time.Now().Add(held.backoff.Step())
	return !known
}

// failure returns the last forbidden read of a group, nil if it is open.
func (b *barred) failure(g group) *release.Failure {
	b.mu.Lock()
	defer b.mu.Unlock()
	held, known := b.groups[g]
	if !known {
		return nil
	}
	last := held.last
	return &last
}

// list returns the groups that are barred, in order.
func (b *barred) list() []group {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Keys(b.groups), func(x, y group) int {
		return cmp.Or(cmp.Compare(x.namespace, y.namespace), cmp.Compare(x.storage, y.storage))
	})
}

// hold reports whether a release must wait because its group is barred.
func (b *barred) hold(g group, key release.Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	held, known := b.groups[g]
	if !known {
		return false
	}
	if held.probe == key {
		held.probe = release.Key{}
		delete(held.keys, key)
		return false
	}
	held.keys[key] = struct{}{}
	return true
}

// forget drops a release that is gone, or whose payload is no longer wanted.
func (b *barred) forget(key release.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for g, held := range b.groups {
		if g.namespace == key.Namespace {
			delete(held.keys, key)
		}
	}
}

// probes picks one release of each group that is due, and opens a group that
// has none left.
func (b *barred) probes() []release.Key {
	b.mu.Lock()
	defer b.mu.Unlock()
	var picked []release.Key
	for g, held := range b.groups {
		if len(held.keys) == 0 {
			delete(b.groups, g)
		}
		if time.Now().Before(held.due) {
			continue
		}
		for key := range held.keys { // any will do
			held.probe = key
			picked = append(picked, key)
			break
		}
	}
	return picked
}

// free opens a group because a read went well, and returns those that waited.
func (b *barred) free(g group) []release.Key {
	b.mu.Lock()
	defer b.mu.Unlock()
	held, known := b.groups[g]
	if !known {
		return nil
	}
	delete(b.groups, g)
	waiting := make([]release.Key, 0, len(held.keys))
	for key := range held.keys {
		waiting = append(waiting, key)
	}
	return waiting
}
