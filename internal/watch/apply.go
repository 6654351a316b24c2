package watch

import (
	"k8s.io/client-go/tools/cache"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// handler brings all events of one storage to apply.
func (w *Watcher) handler(storage release.Storage) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { w.apply(storage, eventAdd, nil, recordOf(obj)) },
		UpdateFunc: func(old, obj any) { w.apply(storage, eventUpdate, recordOf(old), recordOf(obj)) },
		DeleteFunc: func(obj any) { w.apply(storage, eventDelete, recordOf(obj), nil) },
	}
}

// recordOf unwraps a tombstone: what a relist found gone.
func recordOf(obj any) *record {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	r, _ := obj.(*record)
	return r
}

// apply brings one event into the index: the record that was, and the one
// that is, either of which may be nil. An update can bring another key or UID:
// labels are edited by hand, and a relist merges a delete and a create.
func (w *Watcher) apply(storage release.Storage, eventType string, was, is *record) {
	w.cfg.Telemetry.WatchEvent(storage, eventType)
	w.mu.Lock()
	defer w.mu.Unlock()
	if is != nil {
		w.report(is)
		if !is.usable() {
			is = nil
		}
	}
	if was != nil && was.usable() {
		if is == nil || was.key != is.key || was.revision.UID != is.revision.UID {
			w.remove(was)
		}
	}
	if is != nil {
		w.insert(is.key, &is.revision)
	}
}

// report counts what is odd about a record.
func (w *Watcher) report(r *record) {
	for _, f := range r.flaws {
		w.cfg.Telemetry.RecordFlawed(string(f))
		w.cfg.Logger.Debug("Odd record", "namespace", r.key.Namespace, "object", r.revision.Object, "flaw", f)
	}
}

// insert requires mu.
func (w *Watcher) insert(key release.Key, rev *release.Revision) {
	if w.orphans != nil {
		w.orphans.disown(key, rev.UID)
	}
	if w.index.Insert(key, rev) {
		w.publish(key)
	}
}

// remove requires mu.
func (w *Watcher) remove(was *record) {
	if !w.index.Remove(was.key, was.revision.UID) {
		return
	}
	w.publish(was.key)
	if w.orphans != nil && w.index.Get(was.key) == nil {
		w.orphans.add(was.key, &was.revision)
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

// deliver records what a payload told.
func (w *Watcher) deliver(key release.Key, read *release.Revision, p release.Payload) {
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

// vanished looks an adopted revision up again: no watch will tell that it is
// gone.
func (w *Watcher) vanished(key release.Key) {
	if w.orphans == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orphans.again(key)
}
