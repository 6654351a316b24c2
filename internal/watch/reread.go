package watch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// rereadsPerSecond bounds the GETs that viewers of pages cause.
	rereadsPerSecond = 5
	// rereadTimeout is how long a viewer waits for one.
	rereadTimeout = 3 * time.Second
)

// rereads decides whether a payload is read again because somebody views its
// release: Helm creates a record when an operation begins, and writes the
// outcome into it at the end.
type rereads struct {
	flights singleflight.Group
	limiter *rate.Limiter

	mu   sync.Mutex
	last map[release.Key]uint64 // guarded by mu; the resource version that was read, or tried, last
}

func newRereads() *rereads {
	return &rereads{
		limiter: rate.NewLimiter(rereadsPerSecond, 2*rereadsPerSecond),
		last:    make(map[release.Key]uint64),
	}
}

// start reports whether this resource version may be read now, and has not been
// tried before.
func (r *rereads) start(key release.Key, version uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last[key] == version || !r.limiter.Allow() {
		return false
	}
	r.last[key] = version
	return true
}

func (r *rereads) forget(key release.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, key)
}

// reread reads the payload of a release again if its record was written since.
// Whoever asks for the same release meanwhile waits for the same GET.
func (w *Watcher) reread(ctx context.Context, key release.Key) {
	if w.fetcher == nil || w.outdated(key) == nil {
		return
	}
	_, _, _ = w.fetcher.rereads.flights.Do(key.String(), func() (any, error) {
		rev := w.outdated(key)
		if rev == nil || !w.fetcher.rereads.start(key, rev.ResourceVersion) {
			return nil, nil
		}
		// If the first viewer goes away, the others still wait.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rereadTimeout)
		defer cancel()
		payload, err := w.fetcher.get(ctx, key, rev)
		if isUnavailable(err) {
			w.fetcher.rereads.forget(key)
		}
		if payload.Problem != "" {
			err = fmt.Errorf("the payload cannot be decoded any more: %s", payload.Problem)
		}
		w.fetcher.setFailure(key, err)
		if err == nil { // otherwise the earlier values stay true
			w.setPayload(key, rev, payload)
		}
		return nil, nil
	})
}

// outdated returns the newest revision of a release if its record was written
// since its payload was read, otherwise nil.
func (w *Watcher) outdated(key release.Key) *release.Revision {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.index.Get(key)
	if r == nil || !r.Outdated() {
		return nil
	}
	return r.Newest
}
