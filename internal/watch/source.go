package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/watchlist"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// secretType is the type of every Secret that Helm keeps a record in.
const secretType = "helm.sh/release.v1"

// source follows the records of one storage in one namespace, or in all: first a list, which it delivers as a
// whole, then each event of a watch. It also knows whether the watch is up.
type source struct {
	storage    release.Storage
	namespace  string // "" for all
	client     metadata.Interface
	selectors  func(*metav1.ListOptions)
	keepLabels []string
	isOurs     func(release.Key) bool // others are not kept
	retries    *retries
	metrics    *telemetry
	log        *slog.Logger
	// apply receives the changes, in order. Those of a list come in one call, with whole set: a record that is
	// not among them is gone.
	apply func(s *source, changes []change, whole bool)
	// changed is called when state may have changed.
	changed func()

	mu    sync.Mutex
	state sourceState // guarded by mu
}

// sourceState is the state of a source.
type sourceState struct {
	// listed says that a list has been delivered.
	listed bool
	// failure is why the watch is down, nil if it is up or has not been tried yet; reason is the label value of the
	// last answer.
	failure error
	reason  string
	// forbidden is how many requests in a row were forbidden.
	forbidden int
}

// isForbidden reports whether somebody has to grant a right first. One response is not enough: an API server
// that has just started forbids what it is about to allow.
func (s sourceState) isForbidden() bool { return s.forbidden > 1 }

// change is what happened to one record: what it was and what it is now, either of which may be nil.
type change struct{ was, is *record }

// selectorsFor returns the selectors for a storage. Metadata has no type, so only the server can select Helm's
// Secrets. Nothing that can change in the life of a record is selected by: a record that is not selected any
// more makes no events.
func selectorsFor(storage release.Storage, denied []string) func(*metav1.ListOptions) {
	var terms []fields.Selector
	if storage == release.Secrets {
		terms = append(terms, fields.OneTermEqualSelector("type", secretType))
	}
	for _, namespace := range denied {
		terms = append(terms, fields.OneTermNotEqualSelector("metadata.namespace", namespace))
	}
	selected := fields.AndSelectors(terms...).String()
	return func(o *metav1.ListOptions) { o.LabelSelector, o.FieldSelector = "owner=helm", selected }
}

// run follows the records until the context ends. When a watch cannot be resumed, it starts a new informer. The
// reflector of client-go would list again by itself, but up to a minute later, and it delivers a list record by
// record, so that a release would be seen with some of its revisions.
func (s *source) run(ctx context.Context) error {
	version, short := "", 0
	for ctx.Err() == nil {
		var lived time.Duration
		var err error
		if version, lived, err = s.follow(ctx, version); err != nil {
			return fmt.Errorf("watch %s %s: %w", s.storage, s.where(), err)
		}
		switch {
		case lived > longEnough:
			short = 0
		case lived > atOnce:
			short = min(short, quickFollows-1)
		}
		short++
		sleep(ctx, followDelay(short))
	}
	return nil
}

const (
	// quickFollows is after how many short watches in a row the time between two informers becomes long.
	quickFollows = 10
	// A watch that lived for less than atOnce was rejected at once; one that lived for more than longEnough was not short.
	atOnce     = 200 * time.Millisecond
	longEnough = 5 * time.Second
)

// followDelay is the time between two informers, after some in a row whose watch was short. Each of them lists. A fault
// of some seconds is soon over for the exporter, too; one that lasts must not cost the API server many lists.
func followDelay(short int) time.Duration {
	delay := 30 * time.Second
	if short <= quickFollows {
		delay = min(10*time.Millisecond*time.Duration(math.Pow(3, float64(short-1))), 3*time.Second)
	}
	return wait.Jitter(delay, 0.3)
}

// follow runs one informer until its watch cannot be resumed, or the context ends. It lists no version older
// than notBefore, and returns the last one seen, and for how long the watch lived after the list.
func (s *source) follow(ctx context.Context, notBefore string) (version string, lived time.Duration, err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	var running sync.WaitGroup
	defer running.Wait()
	var first sync.Once
	var up time.Time // since when the watch is up

	c := &client{
		ResourceInterface: s.client.Resource(resourceOf(s.storage)).Namespace(s.namespace),
		plainList:         watchlist.DoesClientNotSupportWatchListSemantics(s.client),
		notBefore:         notBefore,
		retries:           s.retries,
		observe: func(verb string, err error) {
			if ctx.Err() != nil {
				return // it failed because the informer ends
			}
			if err == nil {
				first.Do(func() { up = time.Now() })
			}
			s.observe(verb, err)
		},
		heard:      s.heard,
		end:        end,
		relays:     &running,
		incomplete: wait.Backoff{Duration: minWatch, Factor: 2, Jitter: 0.3, Steps: 2},
	}
	informer := metadatainformer.NewFilteredMetadataInformer(c, resourceOf(s.storage), s.namespace, 0, nil, s.selectors).Informer()
	h := &handler{source: s}
	registration, err := informer.AddEventHandler(h)
	err = errors.Join(err, informer.SetTransform(toRecords(s.storage, s.keepLabels, s.isOurs)),
		informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			s.log.Debug("Reflector starts over", "err", err) // the client has observed what failed
		}))
	if err != nil {
		return "", 0, fmt.Errorf("set up the informer: %w", err)
	}
	running.Go(func() {
		select {
		case <-registration.HasSyncedChecker().Done():
			h.listed()
		case <-ctx.Done():
		}
	})
	informer.RunWithContext(ctx)
	end()
	running.Wait()
	if !up.IsZero() {
		lived = time.Since(up)
	}
	return informer.LastSyncResourceVersion(), lived, nil
}

// handler receives the events of one informer.
type handler struct {
	source *source

	mu       sync.Mutex
	live     bool     // guarded by mu; the list has been delivered
	gathered []change // guarded by mu; the changes before that
}

// OnAdd, OnUpdate and OnDelete implement cache.ResourceEventHandler.
func (h *handler) OnAdd(is any, _ bool) { h.take(eventAdd, change{is: recordOf(is)}) }
func (h *handler) OnUpdate(was, is any) { h.take(eventUpdate, change{recordOf(was), recordOf(is)}) }
func (h *handler) OnDelete(was any)     { h.take(eventDelete, change{was: recordOf(was)}) }

// recordOf unwraps a tombstone, which stands for a record that a list does not have any more.
func recordOf(obj any) *record {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	r, _ := obj.(*record)
	return r
}

func (h *handler) take(event string, c change) {
	h.source.metrics.events.WithLabelValues(string(h.source.storage), event).Inc()
	h.source.report(c.is)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.live {
		h.gathered = append(h.gathered, c)
		return
	}
	h.source.apply(h.source, []change{c}, false)
}

// listed delivers the list, and what has changed since.
func (h *handler) listed() {
	h.mu.Lock()
	h.source.apply(h.source, h.gathered, true)
	h.live, h.gathered = true, nil
	h.mu.Unlock()
	h.source.set(func(state *sourceState) { state.listed = true })
}

// set updates the state.
func (s *source) set(update func(*sourceState)) {
	s.mu.Lock()
	update(&s.state)
	s.mu.Unlock()
	s.changed()
}

func (s *source) now() sourceState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// observe records the outcome of a request. It logs only changes: without a Role every request fails the same
// way.
func (s *source) observe(verb string, err error) {
	reason, answered := watchErrorReason(err), !errors.Is(err, errAway)
	if err != nil {
		if answered {
			s.metrics.watchErrors.WithLabelValues(string(s.storage), reason).Inc()
		}
		err = fmt.Errorf("cannot %s %s %s: %w", verb, s.storage, s.where(), err)
	}
	var before sourceState
	s.set(func(state *sourceState) {
		before = *state
		state.failure = err
		if !answered {
			return // the last answer still counts
		}
		state.reason = reason
		if reason == reasonForbidden {
			state.forbidden++
		} else {
			state.forbidden = 0
		}
	})
	s.metrics.setWatchUp(s.storage, s.namespace, err == nil)
	if !answered || reason == before.reason {
		return
	}
	log := s.log.With("verb", verb, "resource", s.storage, "namespace", s.namespace)
	switch {
	case err == nil && passes(before.reason):
		log.Debug("Watching again")
	case err == nil:
		log.Info("Watching again")
	case passes(reason):
		log.Debug("Watch failed, will keep trying", "err", err)
	default:
		log.Error("Watch failed, will keep trying", "err", err)
	}
}

// passes reports whether a failure passes by itself and concerns all sources at once: retries logs an outage
// once.
func passes(reason string) bool {
	return reason == "" || reason == reasonUnavailable || reason == reasonThrottled || reason == reasonExpired
}

// heard notes that the watch began or received an event.
func (s *source) heard() {
	s.metrics.lastEvent.WithLabelValues(s.namespace, string(s.storage)).SetToCurrentTime()
}

func (s *source) where() string {
	if s.namespace == "" {
		return "in all namespaces"
	}
	return fmt.Sprintf("in namespace %q", s.namespace)
}

func resourceOf(storage release.Storage) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: string(storage)}
}

// report counts a record that deviates from what Helm writes.
func (s *source) report(r *record) {
	if r == nil || r.deviation == 0 || r.deviation&otherShard != 0 {
		return
	}
	for _, label := range r.deviation.names() {
		s.metrics.fallbacks.WithLabelValues(label).Inc()
	}
	if !r.usable() {
		s.metrics.skipped.WithLabelValues(skippedReason).Inc()
	}
	s.log.Debug("Record differs from what Helm writes", "namespace", r.GetNamespace(), "object", r.GetName(), "labels", r.deviation.names(), "usable", r.usable())
}
