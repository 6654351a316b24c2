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

// forbidden are the groups whose payloads may not be read. Only one release of
// a group is tried now and then, so that a missing rule does not cost a request
// per release, and a rule that is added is noticed. The zero value is ready for
// use.
type forbidden struct {
	mu     sync.Mutex
	groups map[group]*refusal // guarded by mu
}

// refusal is what is known of a group that is forbidden.
type refusal struct {
	last    release.Failure
	backoff wait.Backoff
	next    time.Time // when to try again
}

// delay returns for how long a read has to wait because its group is forbidden.
// If it is time to try again it returns 0, and all others wait for the outcome.
func (f *forbidden) delay(g group) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.groups[g]
	if r == nil {
		return 0
	}
	delay := time.Until(r.next)
	if delay <= 0 {
		r.next = time.Now().Add(fetchTimeout)
	}
	return max(delay, 0)
}

// forbid notes that a read was forbidden. It returns when to try again, and
// whether the group was allowed before.
func (f *forbidden) forbid(g group, last release.Failure) (delay time.Duration, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.groups[g]
	if first = r == nil; first {
		if f.groups == nil {
			f.groups = make(map[group]*refusal)
		}
		r = &refusal{backoff: refusedBackoff()}
		f.groups[g] = r
	}
	delay = r.backoff.Step()
	r.last, r.next = last, time.Now().Add(delay)
	return delay, first
}

// allow notes that a read succeeded.
func (f *forbidden) allow(g group) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.groups, g)
}

// failure returns the last failure of a group, nil if it is allowed.
func (f *forbidden) failure(g group) *release.Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.groups[g]
	if r == nil {
		return nil
	}
	last := r.last
	return &last
}

// list returns the groups that are forbidden, by storage and namespace, without
// those that have no release any more: nothing has been tried when it was time.
func (f *forbidden) list() []group {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.groups, func(_ group, r *refusal) bool { return time.Since(r.next) > time.Minute })
	return slices.SortedFunc(maps.Keys(f.groups), func(x, y group) int {
		return cmp.Or(-cmp.Compare(x.storage, y.storage), cmp.Compare(x.namespace, y.namespace))
	})
}
