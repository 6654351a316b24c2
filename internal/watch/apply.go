package watch

import (
	"context"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// apply brings changes into the index and publishes the releases that they
// concern. An update can bring another key or UID: labels are edited by hand,
// and events that were missed merge a delete and a create. With whole set, the
// changes are all that the source knows of.
func (w *Watcher) apply(s *source, changes []change, whole bool) {
	for _, c := range changes {
		if c.is != nil {
			w.report(c.is)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := make(map[release.Key]struct{})
	if whole && s.now().listed { // else there is nothing of it
		for _, key := range w.retain(s, changes) {
			changed[key] = struct{}{}
		}
	}
	for _, c := range changes {
		if c.leaves() && w.index.Remove(c.was.key(), c.was.revision.UID) {
			changed[c.was.key()] = struct{}{}
		}
		if c.is != nil && c.is.usable() && w.index.Insert(c.is.key(), &c.is.revision) {
			changed[c.is.key()] = struct{}{}
		}
	}
	for key := range changed {
		w.publish(key)
	}
}

// leaves reports whether what a record was is to be removed from the index.
func (c change) leaves() bool {
	return c.was != nil && (c.is == nil || !c.is.usable() || c.was.release != c.is.release || c.was.revision.UID != c.is.revision.UID)
}

// retain forgets what a source told before and no longer knows of. It requires
// mu.
func (w *Watcher) retain(s *source, changes []change) []release.Key {
	known := make(map[release.UID]release.Key, len(changes))
	for _, c := range changes {
		if c.leaves() {
			delete(known, c.was.revision.UID)
		}
		if c.is != nil && c.is.usable() {
			known[c.is.revision.UID] = c.is.key()
		}
	}
	return w.index.Retain(s.storage, s.namespace, func(key release.Key, uid release.UID) bool { return known[uid] == key })
}

// report counts what is odd about a record.
func (w *Watcher) report(r *record) {
	for _, flaw := range r.flaws.labels() {
		w.cfg.Telemetry.RecordFlawed(flaw)
		w.cfg.Logger.Debug("Odd record", "namespace", r.GetNamespace(), "object", r.GetName(), "flaw", flaw)
	}
}

// publish tells the sink how a release is now, and asks for its payload if
// that is still to be read. It requires mu, which keeps the sink's calls in
// the order of the changes.
func (w *Watcher) publish(key release.Key) {
	w.changes++
	w.sorted = nil
	r := w.index.Get(key)
	if r == nil {
		w.cfg.Sink.Remove(key)
		delete(w.untried, key)
		if w.fetcher != nil {
			w.fetcher.forget(key)
		}
		return
	}
	w.cfg.Sink.Set(r)
	if w.fetcher != nil && r.Payload == nil {
		w.fetcher.queue.Add(key)
	}
}

// read reads the payloads of newest revisions until the context ends.
func (w *Watcher) read(ctx context.Context) {
	w.fetcher.run(ctx, w.cfg.FetchConcurrency, func(r *reader, key release.Key) error {
		rev := w.unread(key)
		if rev == nil {
			w.fetcher.forget(key)
			return nil
		}
		payload, err := w.fetcher.fetch(ctx, r, key, rev)
		if payload != nil {
			w.setPayload(key, rev, *payload)
		}
		if ctx.Err() == nil {
			w.tried(key)
		}
		return err
	})
}

// unread returns the newest revision of a release if its payload is still to
// be read, else nil.
func (w *Watcher) unread(key release.Key) *release.Revision {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.index.Get(key)
	if r == nil || r.Payload != nil {
		return nil
	}
	return r.Newest
}

// setPayload records what a payload told.
func (w *Watcher) setPayload(key release.Key, read *release.Revision, p release.Payload) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.index.SetPayload(key, read, p) {
		w.publish(key)
	}
}

// tried counts a release of the initial lists as tried.
func (w *Watcher) tried(key release.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.untried, key)
}
