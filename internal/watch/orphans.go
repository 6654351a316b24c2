package watch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/workqueue"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// lookupsPerSecond bounds the LISTs that follow a wave of removals.
	lookupsPerSecond = 10
	// lookupInterval is how often an adopted revision is looked up again: no
	// watch tells of what happens to a superseded record.
	lookupInterval = 5 * time.Minute
)

// orphans looks after releases whose last tracked revision is gone. Superseded
// revisions are not watched, so one LIST tells whether any is left; the newest
// of them is then the release, as helm history would say.
type orphans struct {
	w       *Watcher
	queue   workqueue.TypedRateLimitingInterface[release.Key]
	adopted map[release.Key]string // UIDs; guarded by w.mu
}

func newOrphans(w *Watcher) *orphans {
	return &orphans{
		w: w,
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedMaxOfRateLimiter(
			workqueue.NewTypedItemExponentialFailureRateLimiter[release.Key](time.Millisecond, retryMax),
			&workqueue.TypedBucketRateLimiter[release.Key]{
				Limiter: rate.NewLimiter(lookupsPerSecond, lookupsPerSecond),
			},
		)),
		adopted: make(map[release.Key]string),
	}
}

// run works on the queue until the context ends.
func (o *orphans) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, o.queue.ShutDown)
	defer stop()
	for {
		key, shutdown := o.queue.Get()
		if shutdown {
			return
		}
		o.process(ctx, key)
		o.queue.Done(key)
	}
}

func (o *orphans) process(ctx context.Context, key release.Key) {
	if !o.orphaned(key) {
		o.queue.Forget(key)
		return
	}
	limited, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	newest, err := o.lookUp(limited, key)
	if err != nil {
		if ctx.Err() == nil {
			o.w.cfg.Logger.Warn("Cannot look for superseded revisions, will try again",
				"namespace", key.Namespace, "release", key.Name, "err", err)
			o.queue.AddRateLimited(key)
		}
		return
	}
	o.queue.Forget(key)
	if o.adopt(key, newest) {
		o.queue.AddAfter(key, lookupInterval)
	}
}

// orphaned reports whether no watch has brought a revision of the release.
func (o *orphans) orphaned(key release.Key) bool {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	_, adopted := o.adopted[key]
	return adopted || o.w.index.Get(key) == nil
}

// lookUp lists the records of one release and returns the newest, nil if there
// is none.
func (o *orphans) lookUp(ctx context.Context, key release.Key) (*release.Revision, error) {
	var all []revision
	for _, storage := range o.w.cfg.Storages {
		options := metav1.ListOptions{}
		selectorsFor(storage, nil, true).apply(&options)
		options.LabelSelector += "," + labels.Set{nameLabel: key.Name}.String()
		list, err := o.w.cfg.Metadata.Resource(resource(storage)).Namespace(key.Namespace).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("list %s of %s: %w", storage, key, err)
		}
		for i := range list.Items {
			r := parseRecord(storage, &list.Items[i], o.w.cfg.ReleaseLabels)
			if r.usable() && r.key == key {
				all = append(all, revision{Revision: &r.revision})
			}
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return slices.MinFunc(all, better).Revision, nil
}

// adopt shows what a look-up found, unless a watch brought a revision
// meanwhile, and reports whether the release has to be looked up again.
func (o *orphans) adopt(key release.Key, newest *release.Revision) bool {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	before, adopted := o.adopted[key]
	if !adopted && o.w.index.Get(key) != nil {
		return false
	}
	changed := false
	if adopted && (newest == nil || before != newest.UID) {
		delete(o.adopted, key)
		changed = o.w.index.Remove(key, before)
	}
	if newest != nil {
		o.adopted[key] = newest.UID
		changed = o.w.index.Insert(key, newest) || changed
	}
	if changed {
		o.w.publish(key)
	}
	return newest != nil
}

// disown lets go of an adopted revision because a watch brought a revision of
// its release. It requires w.mu.
func (o *orphans) disown(key release.Key, uid string) {
	before, adopted := o.adopted[key]
	if !adopted {
		return
	}
	delete(o.adopted, key)
	if before != uid {
		o.w.index.Remove(key, before)
	}
}
