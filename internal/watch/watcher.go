// Package watch follows the metadata of Helm's records, keeps an index of
// them, and reads the payload of each new newest revision once.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Config says what to watch and whom to tell. All fields without a remark are
// required.
type Config struct {
	Metadata metadata.Interface
	// Core reads payloads; it serves the core/v1 group.
	Core rest.Interface

	Storages []release.Storage
	// Namespaces are watched one by one, with namespaced requests only. Empty
	// means all, in one watch.
	Namespaces []string
	// DeniedNamespaces are left out by the server. They matter only where all
	// namespaces are watched.
	DeniedNamespaces []string
	// History tracks superseded revisions too.
	History bool
	// ReleaseLabels are the keys of the records' own labels to keep.
	ReleaseLabels []string
	// FetchConcurrency is how many payloads are read at once; 0 means that
	// none is ever read.
	FetchConcurrency int

	Sink      Sink
	Telemetry Telemetry
	Logger    *slog.Logger
}

// Watcher is the control loop from metadata event to sink.
type Watcher struct {
	cfg     Config
	sources []*source
	fetcher *fetcher // nil if payloads are never read
	orphans *orphans // nil if superseded revisions are tracked

	mu      sync.Mutex
	index   *index                   // guarded by mu
	synced  bool                     // guarded by mu; the initial lists are in
	untried map[release.Key]struct{} // guarded by mu; releases of the initial lists whose payload has not been tried
	changes uint64                   // guarded by mu; how often anything was published
	sorted  []*release.Release       // guarded by mu; what Releases returns, nil if a change came since
}

// New returns a watcher that has not been started.
func New(cfg Config) (*Watcher, error) {
	w := &Watcher{cfg: cfg, index: newIndex(), untried: make(map[release.Key]struct{})}
	if cfg.FetchConcurrency > 0 {
		w.fetcher = newFetcher(w)
	}
	if !cfg.History {
		w.orphans = newOrphans(w)
	}
	namespaces := cfg.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, storage := range cfg.Storages {
		for _, namespace := range namespaces {
			s := &source{
				storage:   storage,
				namespace: namespace,
				client:    cfg.Metadata,
				selectors: selectorsFor(storage, cfg.DeniedNamespaces, cfg.History),
				history:   cfg.History,
				telemetry: cfg.Telemetry,
				log:       cfg.Logger,
			}
			if err := s.build(toRecords(storage, cfg.ReleaseLabels), w.handler(storage)); err != nil {
				return nil, fmt.Errorf("watch %s %s: %w", storage, s.where(), err)
			}
			w.sources = append(w.sources, s)
			cfg.Telemetry.WatchAlive(storage, namespace, false)
		}
	}
	return w, nil
}

// Run watches until the context ends, and returns once all that it started has
// ended. It is called once.
func (w *Watcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	defer w.shutDown()
	for _, s := range w.sources {
		running.Go(func() { s.informer.RunWithContext(ctx) })
	}
	for _, s := range w.sources {
		select {
		case <-s.synced:
		case <-ctx.Done():
			return nil
		}
	}
	w.setSynced()
	// Payloads are read only now: while a list comes in, the newest revision
	// of a release is not known yet, and reading an older one would be a GET
	// in vain.
	if w.fetcher != nil {
		running.Go(func() { w.fetcher.run(ctx) })
	}
	if w.orphans != nil {
		running.Go(func() { w.orphans.run(ctx) })
	}
	<-ctx.Done()
	return nil
}

// shutDown ends the queues, whose own goroutines began when they were made.
func (w *Watcher) shutDown() {
	if w.fetcher != nil {
		w.fetcher.queue.ShutDown()
	}
	if w.orphans != nil {
		w.orphans.queue.ShutDown()
	}
}

func (w *Watcher) setSynced() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.synced = true
	if w.fetcher != nil {
		for key, e := range w.index.entries {
			if e.shown.Payload == nil {
				w.untried[key] = struct{}{}
			}
		}
	}
	w.cfg.Sink.Synced()
	w.cfg.Logger.Info("Initial list is in", "releases", len(w.index.entries))
}

// Ready returns nil once the initial lists have been delivered and each
// payload that they called for has been tried once; until then, what is
// awaited. Once ready a watcher stays so.
func (w *Watcher) Ready() error {
	w.mu.Lock()
	synced, untried := w.synced, len(w.untried)
	w.mu.Unlock()
	if synced && untried == 0 {
		return nil
	}
	if synced {
		return fmt.Errorf("waiting for %d payloads to be read", untried)
	}
	return w.awaited()
}

// awaited says what keeps the watcher from being synced.
func (w *Watcher) awaited() error {
	var waiting []error
	for _, s := range w.sources {
		if s.done() {
			continue
		}
		err := fmt.Errorf("waiting for the initial list of %s %s", s.storage, s.where())
		if failure := s.lastFailure(); failure != nil {
			err = fmt.Errorf("%w: %w", err, failure)
		}
		waiting = append(waiting, err)
	}
	if len(waiting) == 0 {
		return errors.New("waiting for the initial lists to be taken in")
	}
	return errors.Join(waiting...)
}
