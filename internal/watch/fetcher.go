package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// retryMin and retryMax bound the back-off of a payload that could not be
	// read for a reason that may pass.
	retryMin = 200 * time.Millisecond
	retryMax = 5 * time.Minute
	// probeInterval is how often one forbidden read is tried again for each
	// group of them.
	probeInterval = 15 * time.Second
	// fetchTimeout bounds one GET, answer included.
	fetchTimeout = time.Minute
)

// fetcher reads and decodes the payloads of newest revisions.
type fetcher struct {
	w      *Watcher
	queue  workqueue.TypedRateLimitingInterface[release.Key]
	barred barred

	mu       sync.Mutex
	failures map[release.Key]release.Failure // guarded by mu; the last one of each payload that is tried again
}

func newFetcher(w *Watcher) *fetcher {
	return &fetcher{
		w: w,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[release.Key](retryMin, retryMax)),
		failures: make(map[release.Key]release.Failure),
	}
}

// run works on the queue until the context ends.
func (f *fetcher) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for range f.w.cfg.FetchConcurrency {
		running.Go(func() { f.work(ctx) })
	}
	probe := time.NewTicker(probeInterval)
	defer probe.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-probe.C:
			for _, key := range f.barred.probes() {
				f.queue.Add(key)
			}
		}
	}
}

// work owns one decoder, whose buffers it uses again for each payload.
func (f *fetcher) work(ctx context.Context) {
	r := newReader()
	for {
		key, shutdown := f.queue.Get()
		if shutdown {
			return
		}
		f.process(ctx, r, key)
		f.queue.Done(key)
	}
}

// process reads the payload of a release's newest revision, if that is still
// to be done. A failure ends here: it is counted, logged once, and decides
// when to try again.
func (f *fetcher) process(ctx context.Context, r *reader, key release.Key) {
	rev := f.w.unread(key)
	if rev == nil {
		f.forget(key)
		return
	}
	g := group{rev.Storage, key.Namespace}
	if f.barred.hold(g, key) {
		f.w.tried(key)
		return
	}
	payload, err := f.fetch(ctx, r, key, rev)
	log := f.w.cfg.Logger.With("namespace", key.Namespace, "release", key.Name, "revision", rev.Number)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		f.forgive(key)
		f.w.deliver(key, rev, payload)
		if payload.Problem != "" {
			log.Warn("Payload cannot be decoded, status and revision are still served", "object", rev.Object, "reason", payload.Problem)
		}
		for _, freed := range f.barred.free(g) {
			f.queue.Add(freed)
		}
	case apierrors.IsNotFound(err), errors.Is(err, errReplaced):
		f.forgive(key) // the event that says so is under way
		f.w.vanished(key)
	case apierrors.IsForbidden(err):
		f.forgive(key)
		if f.barred.bar(g, key, failed(err)) {
			log.Error("Payloads must not be read, status and revision are still served; grant the verb get, or run with --payload=never",
				"verb", "get", "resource", rev.Storage, "err", err)
		}
	default:
		log.Warn("Payload could not be read, will try again", "err", err)
		f.mu.Lock()
		f.failures[key] = failed(err)
		f.mu.Unlock()
		f.queue.AddRateLimited(key)
	}
	f.w.tried(key)
}

// forget drops what is remembered of a release whose payload is not wanted.
func (f *fetcher) forget(key release.Key) {
	f.forgive(key)
	f.barred.forget(key)
}

// forgive drops the failures of a release, so that the next one is its first.
func (f *fetcher) forgive(key release.Key) {
	f.queue.Forget(key)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.failures, key)
}

// failure returns why a payload that is still to be read has not been, nil if
// nothing has gone wrong so far.
func (f *fetcher) failure(key release.Key, rev *release.Revision) *release.Failure {
	if last := f.barred.failure(group{rev.Storage, key.Namespace}); last != nil {
		return last
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if last, known := f.failures[key]; known {
		return &last
	}
	return nil
}

// failed bounds what a server can make us keep.
func failed(err error) release.Failure {
	const most = 512
	text := err.Error()
	return release.Failure{At: time.Now().UTC(), Error: strings.ToValidUTF8(text[:min(len(text), most)], "")}
}

// fetch does the GET and tells telemetry how it went.
func (f *fetcher) fetch(ctx context.Context, r *reader, key release.Key, rev *release.Revision) (release.Payload, error) {
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	got, err := r.read(limited, f.w.cfg.Core, key.Namespace, rev)
	result := fetchOK
	switch {
	case ctx.Err() != nil:
		return release.Payload{}, ctx.Err()
	case err == nil:
		f.w.cfg.Telemetry.PayloadDecoded(got.payload.Problem, got.decoding)
	case apierrors.IsNotFound(err), errors.Is(err, errReplaced):
		result = fetchNotFound
	case apierrors.IsForbidden(err):
		result = fetchForbidden
	default:
		result = fetchError
	}
	f.w.cfg.Telemetry.PayloadFetched(result, got.payload.Bytes, time.Since(start)-got.decoding)
	if err != nil {
		err = fmt.Errorf("fetch %s %s/%s: %w", rev.Storage, key.Namespace, rev.Object, err)
	}
	return got.payload, err
}
