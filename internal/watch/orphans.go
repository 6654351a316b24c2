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
	orphans map[release.Key]orphan // guarded by w.mu
}

// orphan is a release that no watch knows.
type orphan struct {
	// last is the last tracked revision, as of the event that took it away. A
	// list of its storage must not be older, but may be served from the watch
	// cache; else some servers read all payloads of the namespace from etcd.
	last *release.Revision
	// adopted is the UID of the superseded revision that is shown, if any.
	adopted string
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
		orphans: make(map[release.Key]orphan),
	}
}

// run works on the queue until that is shut down.
func (o *orphans) run(ctx context.Context) {
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
	o.w.mu.Lock()
	known, orphaned := o.orphans[key]
	o.w.mu.Unlock()
	if !orphaned {
		o.queue.Forget(key)
		return
	}
	limited, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	newest, err := o.lookUp(limited, key, known.last)
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

// lookUp lists the records of one release and returns the newest, nil if there
// is none.
func (o *orphans) lookUp(ctx context.Context, key release.Key, last *release.Revision) (*release.Revision, error) {
	var all []revision
	for _, storage := range o.w.cfg.Storages {
		options := metav1.ListOptions{}
		if storage == last.Storage {
			options.ResourceVersion, options.ResourceVersionMatch = last.ResourceVersion, metav1.ResourceVersionMatchNotOlderThan
		}
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
	known, orphaned := o.orphans[key]
	if !orphaned {
		return false
	}
	changed := false
	if known.adopted != "" && (newest == nil || known.adopted != newest.UID) {
		changed = o.w.index.Remove(key, known.adopted)
	}
	if newest == nil {
		delete(o.orphans, key)
	} else {
		known.adopted = newest.UID
		o.orphans[key] = known
		changed = o.w.index.Insert(key, newest) || changed
	}
	if changed {
		o.w.publish(key)
	}
	return newest != nil
}

// add takes in a release whose last tracked revision is gone. It requires
// w.mu.
func (o *orphans) add(key release.Key, last *release.Revision) {
	o.orphans[key] = orphan{last: last}
	o.queue.AddRateLimited(key)
}

// again looks an adopted revision up before its time. It requires w.mu.
func (o *orphans) again(key release.Key) {
	if _, orphaned := o.orphans[key]; orphaned {
		o.queue.AddRateLimited(key)
	}
}

// disown lets go of a release because a watch brought a revision of it. It
// requires w.mu.
func (o *orphans) disown(key release.Key, uid string) {
	known, orphaned := o.orphans[key]
	if !orphaned {
		return
	}
	delete(o.orphans, key)
	if known.adopted != "" && known.adopted != uid {
		o.w.index.Remove(key, known.adopted)
	}
}
