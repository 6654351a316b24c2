package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
)

// client is the metadata client of one informer, which asks for one resource
// in one namespace. It observes each LIST and WATCH, and repeats those that
// fail for a reason that may pass.
type client struct {
	metadata.ResourceInterface
	plainList bool // lists are not streamed
	notBefore string
	source    *source
	// ctx ends with the informer, and end ends it.
	ctx    context.Context
	end    context.CancelFunc
	relays *sync.WaitGroup
}

// Resource implements metadata.Interface.
func (c *client) Resource(schema.GroupVersionResource) metadata.Getter { return c }

// Namespace implements metadata.Getter.
func (c *client) Namespace(string) metadata.ResourceInterface { return c }

// IsWatchListSemanticsUnSupported is how client-go asks whether it can have the
// list as the beginning of a watch.
func (c *client) IsWatchListSemanticsUnSupported() bool { return c.plainList }

// observe passes the outcome of a request on, unless it failed because the
// informer ends.
func (c *client) observe(verb string, err error) {
	if c.ctx.Err() == nil {
		c.source.observe(verb, err)
	}
}

// List implements metadata.ResourceInterface. The reflector calls it with a
// context that never ends, and only where the server does not stream lists.
func (c *client) List(_ context.Context, o metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	if o.ResourceVersion == "0" && c.notBefore != "" {
		// Any version, as an informer asks for at its start, may be older than
		// what an earlier informer saw. A page at a time would be read from etcd.
		o.ResourceVersion, o.Limit = c.notBefore, 0
	}
	var list *metav1.PartialObjectMetadataList
	observe := func(err error) {
		if err != nil { // else the watch that follows is what counts
			c.observe("list", err)
		}
	}
	err := c.source.retries.do(c.ctx, observe, func() (err error) {
		list, err = c.ResourceInterface.List(c.ctx, o)
		return err
	})
	return list, err
}

// Watch implements metadata.ResourceInterface.
func (c *client) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	var w watch.Interface
	observe := func(err error) { c.observe("watch", err) }
	err := c.source.retries.do(ctx, observe, func() (err error) {
		w, err = c.ResourceInterface.Watch(ctx, o)
		return err
	})
	listing := o.SendInitialEvents != nil && *o.SendInitialEvents
	if err != nil {
		if !listing {
			c.end()
		}
		return nil, err
	}
	c.source.heard()
	events := make(chan watch.Event, 16)
	relayed := watch.NewProxyWatcher(events)
	c.relays.Go(func() {
		defer close(events)
		defer w.Stop()
		c.relay(w, events, relayed.StopChan(), listing)
	})
	return relayed, nil
}

// relay passes the events of a watch on until it ends or is stopped.
func (c *client) relay(w watch.Interface, to chan<- watch.Event, stopped <-chan struct{}, listing bool) {
	began, passed := time.Now(), 0
	for {
		var event watch.Event
		var open bool
		select {
		case event, open = <-w.ResultChan():
		case <-stopped:
			return
		}
		if !open || isConnectionLost(event) {
			c.ended(event, time.Since(began), passed, stopped)
			return
		}
		switch {
		case event.Type == watch.Error:
			c.observe("watch", apierrors.FromObject(event.Object))
			if !listing {
				c.end()
			}
		case listing && endsList(event):
			began, passed, listing = time.Now(), 0, false
			c.source.heard()
		default:
			passed++
			c.source.heard()
		}
		select {
		case to <- event:
		case <-stopped:
			return
		}
	}
}

// minWatch is how long a watch lasts at least, from the end of its list. One
// that lasted less than a second and told nothing is an error to the reflector,
// which waits for up to a minute then, and lists anew.
const minWatch = 1500 * time.Millisecond

// ended observes how a watch ended: the server ends each after some minutes.
func (c *client) ended(last watch.Event, lasted time.Duration, passed int, stopped <-chan struct{}) {
	if last.Type == watch.Error {
		c.observe("watch", apierrors.FromObject(last.Object))
	}
	if passed > 0 || lasted >= minWatch {
		return
	}
	if last.Type != watch.Error {
		c.observe("watch", fmt.Errorf("%w after %s", errEndedEarly, lasted.Round(time.Millisecond)))
	}
	select {
	case <-time.After(minWatch - lasted):
	case <-stopped:
	}
}

var errEndedEarly = errors.New("the server ended it")

// isConnectionLost reports whether an event is client-go's own, which says that
// it cannot read the stream any more. The reflector would list anew; but the
// watch can be resumed.
func isConnectionLost(e watch.Event) bool {
	return e.Type == watch.Error && apierrors.HasStatusCause(apierrors.FromObject(e.Object), "ClientWatchDecoding")
}

// endsList reports whether an event is the last one of a streamed list.
func endsList(e watch.Event) bool {
	m, ok := e.Object.(*metav1.PartialObjectMetadata)
	return ok && e.Type == watch.Bookmark && m.Annotations[metav1.InitialEventsAnnotationKey] == "true"
}

// The reasons of a failed LIST or WATCH.
const (
	reasonForbidden    = "forbidden"
	reasonUnauthorized = "unauthorized"
	reasonExpired      = "expired"
	reasonThrottled    = "throttled"
	reasonUnavailable  = "unavailable"
	reasonOther        = "other"
)

// ErrorReasons returns every reason that Telemetry.WatchFailed may see.
func ErrorReasons() []string {
	return []string{reasonForbidden, reasonUnauthorized, reasonExpired, reasonThrottled, reasonUnavailable, reasonOther}
}

// watchErrorReason returns "" for nil.
func watchErrorReason(err error) string {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return ""
	case apierrors.IsForbidden(err):
		return reasonForbidden
	case apierrors.IsUnauthorized(err):
		return reasonUnauthorized
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return reasonExpired
	case apierrors.IsTooManyRequests(err):
		return reasonThrottled
	case !errors.As(err, &status), apierrors.IsServiceUnavailable(err), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return reasonUnavailable
	}
	return reasonOther
}
