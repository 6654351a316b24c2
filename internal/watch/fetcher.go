package watch

import (
	"context"
	"errors"
	"fmt"
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
}

func newFetcher(w *Watcher) *fetcher {
	return &fetcher{
		w: w,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[release.Key](retryMin, retryMax)),
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
		f.queue.Forget(key)
		f.w.deliver(key, rev, payload)
		if payload.Problem != "" {
			log.Warn("Payload cannot be decoded, status and revision are still served", "object", rev.Object, "reason", payload.Problem)
		}
		for _, freed := range f.barred.free(g) {
			f.queue.Add(freed)
		}
	case apierrors.IsNotFound(err), errors.Is(err, errReplaced):
		f.queue.Forget(key) // the event that says so is under way
		f.w.vanished(key)
	case apierrors.IsForbidden(err):
		f.queue.Forget(key)
		if f.barred.bar(g, key) {
			log.Error("Payloads must not be read, status and revision are still served; grant the verb get, or run with --payload=never",
				"verb", "get", "resource", rev.Storage, "err", err)
		}
	default:
		log.Warn("Payload could not be read, will try again", "err", err)
		f.queue.AddRateLimited(key)
	}
	f.w.tried(key)
}

// forget drops what is remembered of a release whose payload is not wanted.
func (f *fetcher) forget(key release.Key) {
	f.queue.Forget(key)
	f.barred.forget(key)
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
