// Package watch follows the metadata of Helm's records, keeps an index of them, and reads the payload of each
// new newest revision once.
package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Config says what to watch and where the results go. All fields without a remark are required.
type Config struct {
	Metadata metadata.Interface
	// Core reads payloads; it serves the core/v1 group.
	Core rest.Interface

	Storages []release.Storage
	// Namespaces are watched one by one, with namespaced requests only. Empty means all namespaces, in one
	// watch.
	Namespaces []string
	// DeniedNamespaces are excluded by the server, where all namespaces are watched.
	DeniedNamespaces []string
	// ReleaseLabels are the keys of the records' own labels to keep.
	ReleaseLabels []string
	// MaxReleases is how many releases of each namespace go to the sink, those created first; 0 means all.
	MaxReleases int
	// Only the releases of this shard, of TotalShards, are kept; TotalShards 0 means 1.
	Shard, TotalShards int
	// FetchConcurrency is how many payloads are read at once; 0 means that none is ever read.
	FetchConcurrency int

	Sink Sink
	// Registerer gets the watcher's own metrics, once.
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Sink receives what the releases are. Calls come one at a time, in the order of the changes, and must not
// block.
type Sink interface {
	// Set says that a release is now like this. The value is shared and immutable.
	Set(r *release.Release)
	// Remove says that a release is gone.
	Remove(key release.Key)
	// Synced says, once, that every initial list has been delivered.
	Synced()
}

// Watcher is the control loop from a metadata event to the sink. Its methods are safe for concurrent use.
type Watcher struct {
	cfg          Config
	sources      []*source
	fetcher      *fetcher // nil if payloads are never read
	metrics      *telemetry
	stateChanged chan struct{} // holds a value if the state of a source may have changed

	mu      sync.Mutex
	index   index                                             // guarded by mu
	limit   limit                                             // guarded by mu
	synced  bool                                              // guarded by mu; every initial list has been delivered
	queue   workqueue.TypedRateLimitingInterface[release.Key] // guarded by mu; nil until synced, or if payloads are never read
	untried map[release.Key]struct{}                          // guarded by mu; releases of the initial lists whose payload has not been tried
	changes uint64                                            // guarded by mu; how often anything was published
	sorted  []*release.Release                                // guarded by mu; what Releases returns, nil if a change came since
}

// New returns a Watcher. It starts nothing.
func New(cfg Config) *Watcher {
	metrics := newTelemetry(cfg)
	w := &Watcher{
		cfg: cfg, metrics: metrics, stateChanged: make(chan struct{}, 1),
		index: make(index), limit: newLimit(cfg.MaxReleases), untried: make(map[release.Key]struct{}),
	}
	if cfg.FetchConcurrency > 0 {
		w.fetcher = newFetcher(cfg.Core, metrics, cfg.Logger)
	}
	namespaces := cfg.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	retries := newRetries(cfg.Logger)
	for _, storage := range cfg.Storages {
		for _, namespace := range namespaces {
			w.sources = append(w.sources, &source{
				storage:    storage,
				namespace:  namespace,
				client:     cfg.Metadata,
				selectors:  selectorsFor(storage, cfg.DeniedNamespaces),
				keepLabels: cfg.ReleaseLabels,
				isOurs:     w.isOurs,
				retries:    retries,
				metrics:    metrics,
				log:        cfg.Logger,
				apply:      w.apply,
				changed:    w.sourceChanged,
			})
			metrics.setWatchUp(storage, namespace, false)
		}
	}
	return w
}

// Run watches until the context ends, and returns when all that it started has ended. It is called once.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	for _, s := range w.sources {
		running.Go(func() {
			if err := s.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	for !w.listed() {
		select {
		case <-w.stateChanged:
		case <-ctx.Done():
			return cause(ctx)
		}
	}
	queue, releases := w.setSynced()
	w.cfg.Logger.Info("Initial lists delivered", "releases", releases)
	if queue != nil {
		running.Go(func() { w.readPayloads(ctx, queue) })
	}
	<-ctx.Done()
	return cause(ctx)
}

// cause returns why a context ended, nil if its parent ended it.
func cause(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// sourceChanged makes Run check the sources again.
func (w *Watcher) sourceChanged() {
	select {
	case w.stateChanged <- struct{}{}:
	default: // Run is about to check anyway
	}
}

// listed reports whether every list has been delivered, except for those that are forbidden: a namespace
// without a Role must not delay all others.
func (w *Watcher) listed() bool {
	listed := false
	for _, s := range w.sources {
		state := s.now()
		if !state.listed && !state.isForbidden() {
			return false
		}
		listed = listed || state.listed
	}
	return listed
}

// setSynced returns the number of releases, and the queue of those whose payload is to be read, nil if payloads
// are never read. The queue is created only now: until the lists are in, the newest revision of a release may
// be unknown, and the payload of an older one would be read for nothing.
func (w *Watcher) setSynced() (queue workqueue.TypedRateLimitingInterface[release.Key], releases int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.synced = true
	w.cfg.Sink.Synced()
	if w.fetcher == nil {
		return nil, len(w.index)
	}
	w.queue = newQueue()
	for key, e := range w.index {
		if e.shown.Payload == nil && w.limit.exposes(key) {
			w.untried[key] = struct{}{}
			w.queue.Add(key)
		}
	}
	return w.queue, len(w.index)
}

// Ready returns nil once the initial lists have been delivered and each payload of theirs has been tried once,
// or is known to be forbidden; until then, an error that says what is pending. Once ready, a Watcher stays
// ready.
func (w *Watcher) Ready() error {
	w.mu.Lock()
	synced, untried := w.synced, len(w.untried)
	w.mu.Unlock()
	switch {
	case !synced:
		return w.pendingLists()
	case untried > 0:
		return fmt.Errorf("waiting for %d payloads to be read", untried)
	}
	return nil
}

// pendingLists returns an error that names the initial lists that are pending.
func (w *Watcher) pendingLists() error {
	var pending []error
	for _, s := range w.sources {
		state := s.now()
		if state.listed {
			continue
		}
		err := fmt.Errorf("waiting for the initial list of %s %s", s.storage, s.where())
		if state.failure != nil {
			err = fmt.Errorf("%w: %w", err, state.failure)
		}
		pending = append(pending, err)
	}
	if len(pending) == 0 {
		return errors.New("waiting for the initial lists to be processed")
	}
	return errors.Join(pending...)
}

// apply brings changes into the index and publishes the releases that changed. An update can bring another
// release or UID: labels are edited by hand, and events that were missed merge a delete and a create. With
// whole set, the changes are all records that the source has.
func (w *Watcher) apply(s *source, changes []change, whole bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := make(map[release.Key]struct{})
	if whole && s.now().listed { // otherwise the index has nothing of this source
		for _, key := range w.retain(s, changes) {
			changed[key] = struct{}{}
		}
	}
	for _, c := range changes {
		if c.leaves() {
			w.index.Remove(c.was.key(), &c.was.revision)
			changed[c.was.key()] = struct{}{}
		}
		if c.is.usable() {
			w.index.Insert(c.is.key(), &c.is.revision)
			changed[c.is.key()] = struct{}{}
		}
	}
	maps.DeleteFunc(changed, func(key release.Key, _ struct{}) bool { return !w.index.Refresh(key) })
	// In order, so that the sink has the releases of a namespace together. With a limit, the oldest come first, so that
	// none is exposed only until an older one comes; and the youngest go first, which is cheap: they are the last in order.
	created := func(key release.Key) release.Time {
		switch e := w.index[key]; {
		case w.cfg.MaxReleases == 0:
			return 0
		case e == nil:
			return -w.limit.ranks[key].created
		default:
			return e.created
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(changed), func(a, b release.Key) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), cmp.Compare(created(a), created(b)), strings.Compare(a.Name, b.Name))
	}) {
		w.publish(key)
	}
}

// leaves reports whether what a record was is to be removed from the index, also because it comes to another place.
func (c change) leaves() bool {
	return c.was != nil && (!c.is.usable() || c.was.release != c.is.release ||
		c.was.revision.UID != c.is.revision.UID || c.was.revision.Number != c.is.revision.Number)
}

// retain removes what a source delivered before and does not have any more. It requires mu.
func (w *Watcher) retain(s *source, changes []change) []release.Key {
	known := make(map[release.UID]*record, len(changes))
	for _, c := range changes {
		if c.leaves() {
			delete(known, c.was.revision.UID)
		}
		if c.is.usable() {
			known[c.is.revision.UID] = c.is
		}
	}
	return w.index.Retain(s.storage, s.namespace, func(key release.Key, rev *release.Revision) bool {
		r := known[rev.UID]
		return r != nil && r.key() == key && r.revision.Number == rev.Number
	})
}

// isOurs reports whether a release belongs to this shard.
func (w *Watcher) isOurs(key release.Key) bool {
	return w.cfg.TotalShards < 2 || key.Shard(w.cfg.TotalShards) == w.cfg.Shard
}

// publish tells the sink how a release is now, and the one that is exposed or dropped in exchange. It requires mu,
// which keeps the sink's calls in the order of the changes.
func (w *Watcher) publish(key release.Key) {
	w.changes++
	w.sorted = nil
	if other := w.limit.set(key, w.index[key]); other != nil {
		w.expose(*other, promotionDelay)
	}
	w.expose(key, 0)
	if w.cfg.MaxReleases > 0 {
		w.metrics.setDropped(key.Namespace, w.limit.dropped(key.Namespace))
	}
}

// promotionDelay is when the payload is read of a release that takes the place of another. If the whole namespace is
// being deleted, it is gone by then.
const promotionDelay = time.Second

// expose tells the sink how a release is now, and queues it after a delay if its payload is still to be read. It
// requires mu.
func (w *Watcher) expose(key release.Key, delay time.Duration) {
	r := w.index.Get(key)
	if r == nil || !w.limit.exposes(key) {
		w.cfg.Sink.Remove(key)
		delete(w.untried, key)
		if w.fetcher != nil {
			w.fetcher.forget(key)
		}
		return
	}
	w.cfg.Sink.Set(r)
	if w.queue != nil && r.Payload == nil {
		w.queue.AddAfter(key, delay)
	}
}

// readPayloads reads the payloads of newest revisions until the context ends. Those whose head is not at their
// beginning wait in a queue of their own: anybody can write some that take a second each.
func (w *Watcher) readPayloads(ctx context.Context, queue workqueue.TypedRateLimitingInterface[release.Key]) {
	var running sync.WaitGroup
	defer running.Wait()
	far := newQueue()
	for range w.cfg.FetchConcurrency {
		running.Go(func() { w.work(ctx, queue, far) })
	}
	running.Go(func() { w.work(ctx, far, nil) })
	<-ctx.Done()
	queue.ShutDown()
	far.ShutDown()
}

func newQueue() workqueue.TypedRateLimitingInterface[release.Key] {
	return workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[release.Key](retryMin, retryMax))
}

// work reads one payload after the other. Those whose head is not at the beginning it leaves to the queue far, if there
// is one. It slows down while the API server is away, however many payloads are pending.
func (w *Watcher) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[release.Key], far workqueue.TypedInterface[release.Key]) {
	backoff := awayBackoff()
	for {
		key, shutdown := queue.Get()
		if shutdown {
			return
		}
		err := w.readNewest(ctx, queue, key, far == nil)
		if errors.Is(err, decode.ErrFar) {
			far.Add(key)
			err = nil
		}
		if err != nil {
			queue.AddRateLimited(key)
		} else {
			queue.Forget(key)
		}
		queue.Done(key)
		if !isUnavailable(err) {
			backoff = awayBackoff()
			continue
		}
		sleep(ctx, max(backoff.Step(), retryAfter(err)))
	}
}

// readNewest reads the payload of a release's newest revision, unless it has been read. An error means that it
// is to be tried again.
func (w *Watcher) readNewest(ctx context.Context, queue workqueue.TypedRateLimitingInterface[release.Key], key release.Key, far bool) error {
	rev := w.newestIf(key, func(r *release.Release) bool { return r.Payload == nil })
	if rev == nil {
		w.fetcher.forget(key)
		return nil
	}
	got, err := w.fetcher.fetch(ctx, key, rev, far)
	if got.payload != nil {
		w.setPayload(key, rev, *got.payload)
	}
	if got.delay > 0 {
		queue.AddAfter(key, got.delay)
	}
	if got.allowed {
		w.queueUnread(func(r *release.Release) bool { return r.Namespace == key.Namespace && r.Newest.Storage == rev.Storage })
	}
	if ctx.Err() == nil {
		w.mu.Lock()
		delete(w.untried, key)
		w.mu.Unlock()
	}
	return err
}

// queueUnread queues the releases of a selection whose payload is still to be read.
func (w *Watcher) queueUnread(selected func(*release.Release) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, e := range w.index {
		if e.shown.Payload == nil && w.limit.exposes(key) && selected(e.shown) {
			w.queue.Add(key)
		}
	}
}

// newestIf returns the newest revision of a release if it is exposed and a condition holds for it, otherwise nil.
func (w *Watcher) newestIf(key release.Key, condition func(*release.Release) bool) *release.Revision {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.index.Get(key); r != nil && w.limit.exposes(key) && condition(r) {
		return r.Newest
	}
	return nil
}

func (w *Watcher) setPayload(key release.Key, read *release.Revision, p release.Payload) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.index.SetPayload(key, read, p) {
		w.publish(key)
	}
}
