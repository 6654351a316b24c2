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
	fetcher *fetcher      // nil if payloads are never read
	moved   chan struct{} // holds one value if a source's state may have changed

	mu      sync.Mutex
	index   *index                   // guarded by mu
	synced  bool                     // guarded by mu; the initial lists are in
	untried map[release.Key]struct{} // guarded by mu; releases of the initial lists whose payload has not been tried
	changes uint64                   // guarded by mu; how often anything was published
	sorted  []*release.Release       // guarded by mu; what Releases returns, nil if a change came since
}

// New returns a watcher that has not been started.
func New(cfg Config) *Watcher {
	w := &Watcher{cfg: cfg, moved: make(chan struct{}, 1), index: newIndex(), untried: make(map[release.Key]struct{})}
	if cfg.FetchConcurrency > 0 {
		w.fetcher = newFetcher(cfg.Core, cfg.Telemetry, cfg.Logger)
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
				retries:    retries,
				telemetry:  cfg.Telemetry,
				log:        cfg.Logger,
				apply:      w.apply,
				moved:      w.sourceMoved,
			})
			cfg.Telemetry.WatchAlive(storage, namespace, false)
		}
	}
	return w
}

// Run watches until the context ends, and returns once all that it started has
// ended. It is called once.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	if w.fetcher != nil {
		defer w.fetcher.queue.ShutDown()
	}
	for _, s := range w.sources {
		running.Go(func() {
			if err := s.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	for !w.settled() {
		select {
		case <-w.moved:
		case <-ctx.Done():
			return ended(ctx)
		}
	}
	w.setSynced()
	// Payloads are read only now: before, the newest revision of a release may
	// not be known, and reading an older one would be a GET in vain.
	if w.fetcher != nil {
		running.Go(func() { w.read(ctx) })
	}
	<-ctx.Done()
	return ended(ctx)
}

// ended returns why a context ended, nil if it was told to from outside.
func ended(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// sourceMoved makes Run look at the sources again.
func (w *Watcher) sourceMoved() {
	select {
	case w.moved <- struct{}{}:
	default: // it is about to anyway
	}
}

// settled reports whether every list has been delivered, but for those that
// are refused: one namespace without a role keeps nobody from the others.
func (w *Watcher) settled() bool {
	listed := false
	for _, s := range w.sources {
		state := s.now()
		if !state.listed && !state.refused() {
			return false
		}
		listed = listed || state.listed
	}
	return listed
}

func (w *Watcher) setSynced() {
	w.mu.Lock()
	w.synced = true
	if w.fetcher != nil {
		for key, e := range w.index.entries {
			if e.shown.Payload == nil {
				w.untried[key] = struct{}{}
			}
		}
	}
	releases := len(w.index.entries)
	w.cfg.Sink.Synced()
	w.mu.Unlock()
	w.cfg.Logger.Info("Initial list is in", "releases", releases)
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
		state := s.now()
		if state.listed {
			continue
		}
		err := fmt.Errorf("waiting for the initial list of %s %s", s.storage, s.where())
		if state.failure != nil {
			err = fmt.Errorf("%w: %w", err, state.failure)
		}
		waiting = append(waiting, err)
	}
	if len(waiting) == 0 {
		return errors.New("waiting for the initial lists to be taken in")
	}
	return errors.Join(waiting...)
}
