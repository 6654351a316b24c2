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
	// rereadsPerSecond bounds the GETs that people cause.
	rereadsPerSecond = 5
	// rereadTimeout is how long a person waits for one.
	rereadTimeout = 3 * time.Second
)

// rereads decides whether a payload is read again because somebody looks at
// its release: Helm creates a record when an operation begins, and writes its
// outcome into it at the end.
type rereads struct {
	flights singleflight.Group
	limiter *rate.Limiter

	mu   sync.Mutex
	last map[release.Key]uint64 // guarded by mu; the resource version that was read last, or tried
}

func newRereads() *rereads {
	return &rereads{
		limiter: rate.NewLimiter(rereadsPerSecond, 2*rereadsPerSecond),
		last:    make(map[release.Key]uint64),
	}
}

// due reports whether this resource version has not been tried yet and may be,
// and notes that it is.
func (r *rereads) due(key release.Key, version uint64) bool {
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

// refresh reads the payload of a release once more if its record was written
// since it was read. Whoever asks meanwhile for the same release waits for the
// same GET.
func (w *Watcher) refresh(ctx context.Context, key release.Key) {
	if w.fetcher == nil || w.outdated(key) == nil {
		return
	}
	_, _, _ = w.fetcher.rereads.flights.Do(key.String(), func() (any, error) {
		rev := w.outdated(key)
		if rev == nil || !w.fetcher.rereads.due(key, rev.ResourceVersion) {
			return nil, nil
		}
		// If the one who asked first goes away, the others still wait.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rereadTimeout)
		defer cancel()
		payload, err := w.fetcher.get(ctx, newReader(), key, rev)
		if payload.Problem != "" {
			err = fmt.Errorf("the payload cannot be decoded any more: %s", payload.Problem)
		}
		if err != nil { // what the first read told stays true
			w.fetcher.fail(key, err)
			if isUnavailable(err) {
				w.fetcher.rereads.forget(key)
			}
			return nil, nil
		}
		w.fetcher.forgive(key)
		w.setPayload(key, rev, payload)
		return nil, nil
	})
}

// outdated returns the newest revision of a release if its record was written
// since its payload was read, else nil.
func (w *Watcher) outdated(key release.Key) *release.Revision {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.index.Get(key)
	if r == nil || !r.Outdated() {
		return nil
	}
	return r.Newest
}
