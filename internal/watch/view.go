package watch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Releases returns every release as it is now, by namespace and name. Before
// the initial lists are in it returns an error that names the pending lists. The
// slice is shared and must not be changed.
func (w *Watcher) Releases() ([]*release.Release, error) {
	w.mu.Lock()
	if !w.synced {
		defer w.mu.Unlock()
		return nil, w.awaited()
	}
	if w.sorted != nil {
		defer w.mu.Unlock()
		return w.sorted, nil
	}
	as := w.changes
	sorted := make([]*release.Release, 0, len(w.index.entries))
	for _, e := range w.index.entries {
		sorted = append(sorted, e.shown)
	}
	w.mu.Unlock()
	// No event waits for this, which takes a tenth of a second for 100,000.
	slices.SortFunc(sorted, func(a, b *release.Release) int { return a.Compare(b.Key) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if as == w.changes {
		w.sorted = sorted
	}
	return sorted, nil
}

// Release returns all that is known of one release, or the error of Releases.
// If the release's record was written since its payload was read, that is read
// once more, which may take seconds.
func (w *Watcher) Release(ctx context.Context, key release.Key) (release.Detail, error) {
	w.refresh(ctx, key)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.synced {
		return release.Detail{}, w.awaited()
	}
	d := release.Detail{Key: key}
	e := w.index.entries[key]
	if e == nil {
		d.Absence = w.absence(key)
		return d, nil
	}
	d.Shown = e.shown
	for _, r := range e.revisions {
		d.Revisions = append(d.Revisions, r.Revision)
	}
	if w.fetcher != nil && (e.shown.Payload == nil || e.shown.Outdated()) {
		d.Failure = w.fetcher.failure(key, e.shown.Newest)
	}
	return d, nil
}

// absence says why a release is not shown.
func (w *Watcher) absence(key release.Key) string {
	switch {
	case len(w.cfg.Namespaces) > 0 && !slices.Contains(w.cfg.Namespaces, key.Namespace):
		return "This namespace is not watched: --namespaces does not name it."
	case slices.Contains(w.cfg.DeniedNamespaces, key.Namespace):
		return "This namespace is left out by --namespaces-denylist."
	}
	for _, s := range w.sources {
		state := s.now()
		if !state.listed && state.failure != nil && (s.namespace == "" || s.namespace == key.Namespace) {
			return fmt.Sprintf("Nobody knows: %v.", state.failure)
		}
	}
	storages := string(w.cfg.Storages[0])
	for _, also := range w.cfg.Storages[1:] {
		storages += " or " + string(also)
	}
	return "No record of it is in the " + storages + " of this namespace."
}

// maxNamed is how many of a kind Problems names: a missing rule concerns all
// namespaces at once.
const maxNamed = 5

// Problems returns what stands in the way of the whole view right now: watches
// that fail, and payloads that must not be read.
func (w *Watcher) Problems() []error {
	var problems []error
	failing := 0
	for _, s := range w.sources {
		state := s.now()
		if state.failure == nil {
			continue
		}
		if failing++; failing > maxNamed {
			continue
		}
		if state.listed {
			problems = append(problems, fmt.Errorf("what is shown may be old: %w", state.failure))
		} else {
			problems = append(problems, fmt.Errorf("releases are missing: %w", state.failure))
		}
	}
	if failing > maxNamed {
		problems = append(problems, fmt.Errorf("%d more watches are down", failing-maxNamed))
	}
	if w.fetcher == nil {
		return problems
	}
	namespaces := make(map[release.Storage][]string)
	for _, g := range w.fetcher.barred.list() {
		namespaces[g.storage] = append(namespaces[g.storage], g.namespace)
	}
	for _, storage := range slices.Sorted(maps.Keys(namespaces)) {
		names := namespaces[storage]
		more := ""
		if len(names) > maxNamed {
			more = fmt.Sprintf(" and %d more", len(names)-maxNamed)
			names = names[:maxNamed]
		}
		problems = append(problems, fmt.Errorf("new payloads in %s of %s%s cannot be read, so charts and versions stay unknown; grant the verb get",
			storage, strings.Join(names, ", "), more))
	}
	return problems
}
