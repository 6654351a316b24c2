package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// retryMin and retryMax bound the back-off of a payload that could not be
	// read for a reason that may pass.
	retryMin = 200 * time.Millisecond
	retryMax = 5 * time.Second
	// fetchTimeout bounds one GET, answer included.
	fetchTimeout = 10 * time.Second
)

// fetcher reads and decodes the payloads of newest revisions.
type fetcher struct {
	core      rest.Interface
	telemetry Telemetry
	log       *slog.Logger
	queue     workqueue.TypedRateLimitingInterface[release.Key]
	barred    barred
	rereads   *rereads

	mu       sync.Mutex
	failures map[release.Key]release.Failure // guarded by mu; the last one of each payload that is tried again
}

func newFetcher(core rest.Interface, telemetry Telemetry, log *slog.Logger) *fetcher {
	return &fetcher{
		core:      core,
		telemetry: telemetry,
		log:       log,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[release.Key](retryMin, retryMax)),
		rereads:  newRereads(),
		failures: make(map[release.Key]release.Failure),
	}
}

// run has a number of workers process the keys of the queue until the context
// ends. What process returns says whether the API server is there.
func (f *fetcher) run(ctx context.Context, workers int, process func(*reader, release.Key) error) {
	var running sync.WaitGroup
	defer running.Wait()
	for range workers {
		running.Go(func() { f.work(ctx, process) })
	}
	probe := time.NewTicker(refusedBackoff().Duration)
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

// work owns one reader, whose buffers it uses again for each payload. It slows
// down while the API server is away, whatever number of payloads is awaited.
func (f *fetcher) work(ctx context.Context, process func(*reader, release.Key) error) {
	r, backoff := newReader(), awayBackoff()
	for {
		key, shutdown := f.queue.Get()
		if shutdown {
			return
		}
		err := process(r, key)
		f.queue.Done(key)
		if !isUnavailable(err) {
			backoff = awayBackoff()
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Step()):
		}
	}
}

// fetch reads the payload of a release's newest revision, or returns nil. A
// failure ends here: it is counted, logged once, and decides when to try
// again. It is returned if it may pass by itself.
func (f *fetcher) fetch(ctx context.Context, r *reader, key release.Key, rev *release.Revision) (*release.Payload, error) {
	g := group{rev.Storage, key.Namespace}
	if f.barred.hold(g, key) {
		return nil, nil
	}
	payload, err := f.get(ctx, r, key, rev)
	log := f.log.With("namespace", key.Namespace, "release", key.Name, "revision", rev.Number)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		f.forgive(key)
		if payload.Problem != "" {
			log.Warn("Payload cannot be decoded, status and revision are still served", "object", rev.Object(key.Name), "reason", payload.Problem)
		}
		for _, freed := range f.barred.free(g) {
			f.queue.Add(freed)
		}
		return &payload, nil
	case apierrors.IsNotFound(err), errors.Is(err, errReplaced):
		f.forgive(key) // the event that says so is under way
	case apierrors.IsForbidden(err):
		f.forgive(key)
		if f.barred.bar(g, key, failed(err)) {
			log.Error("Payloads cannot be read, status and revision are still served; grant the verb get, or run with --payload=never",
				"verb", "get", "resource", rev.Storage, "err", err)
		}
	default:
		log.Warn("Payload could not be read, will try again", "err", err)
		f.fail(key, err)
		f.queue.AddRateLimited(key)
		return nil, err
	}
	return nil, nil
}

// fail notes why a payload could not be read.
func (f *fetcher) fail(key release.Key, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures[key] = failed(err)
}

// forget drops what is remembered of a release whose payload is not wanted.
func (f *fetcher) forget(key release.Key) {
	f.forgive(key)
	f.barred.forget(key)
	f.rereads.forget(key)
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

// failed truncates the error to 512 bytes.
func failed(err error) release.Failure {
	const most = 512
	text := err.Error()
	return release.Failure{At: time.Now().UTC(), Error: strings.ToValidUTF8(text[:min(len(text), most)], "")}
}

// get does the GET and tells telemetry how it went.
func (f *fetcher) get(ctx context.Context, r *reader, key release.Key, rev *release.Revision) (release.Payload, error) {
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	got, err := r.read(limited, f.core, key, rev)
	result := fetchOK
	switch {
	case ctx.Err() != nil:
		return release.Payload{}, ctx.Err()
	case err == nil:
		f.telemetry.PayloadDecoded(got.payload.Problem, got.decoding)
	case apierrors.IsNotFound(err), errors.Is(err, errReplaced):
		result = fetchNotFound
	case apierrors.IsForbidden(err):
		result = fetchForbidden
	default:
		result = fetchError
		if statusCode(err) == 0 {
			f.hangUp()
		}
	}
	f.telemetry.PayloadFetched(result, got.payload.Bytes, time.Since(start)-got.decoding)
	if err != nil {
		err = fmt.Errorf("fetch %s %s/%s: %w", rev.Storage, key.Namespace, rev.Object(key.Name), err)
	}
	return got.payload, err
}

// hangUp closes the connections that are not in use: HTTP/1.1 has no ping, so
// each of them would have to run into its own timeout if the network between
// here and the API server has forgotten them.
func (f *fetcher) hangUp() {
	if c, ok := f.core.(*rest.RESTClient); ok && c.Client != nil {
		utilnet.CloseIdleConnectionsFor(c.Client.Transport)
	}
}
