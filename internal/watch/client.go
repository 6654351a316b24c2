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
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
)

// client is the metadata client of one informer, which asks for one resource
// in one namespace. It observes each LIST and WATCH, and repeats those that
// fail for a reason that may pass.
type client struct {
	metadata.ResourceInterface
	plainList bool   // lists are not streamed
	notBefore string // a list must not be older than this resource version
	retries   *retries
	// observe is told the outcome of each request, and heard of each event.
	observe func(verb string, err error)
	heard   func()
	// end ends the informer.
	end    context.CancelFunc
	relays *sync.WaitGroup
	// cut is the time between two streamed lists that did not come to an end.
	cut wait.Backoff
}

// Resource implements metadata.Interface.
func (c *client) Resource(schema.GroupVersionResource) metadata.Getter { return c }

// Namespace implements metadata.Getter.
func (c *client) Namespace(string) metadata.ResourceInterface { return c }

// IsWatchListSemanticsUnSupported is how client-go asks whether it can have the
// list as the beginning of a watch.
func (c *client) IsWatchListSemanticsUnSupported() bool { return c.plainList }

// List implements metadata.ResourceInterface. The reflector calls it only where
// the server does not stream lists.
func (c *client) List(ctx context.Context, o metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
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
	err := c.retries.do(ctx, observe, func() (err error) {
		list, err = c.ResourceInterface.List(ctx, o)
		return err
	})
	return list, err
}

// answerTimeout is how long a WATCH may take until the server answers: it does
// so before the first event.
const answerTimeout = 30 * time.Second

// Watch implements metadata.ResourceInterface.
func (c *client) Watch(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
	listing := o.SendInitialEvents != nil && *o.SendInitialEvents
	observe := func(err error) {
		// A watch that begins with a list is up when that is in. A server that
		// cannot stream one rejects it, and is asked for a plain one then.
		if !listing || isRefused(err) || isUnavailable(err) {
			c.observe("watch", err)
		}
	}
	var w apiwatch.Interface
	var cancel context.CancelFunc
	err := c.retries.do(ctx, observe, func() (err error) {
		var attempt context.Context
		attempt, cancel = context.WithCancel(ctx)
		late := time.AfterFunc(answerTimeout, cancel)
		if w, err = c.ResourceInterface.Watch(attempt, o); err != nil {
			cancel()
		} else if !late.Stop() {
			w.Stop()
			err = context.DeadlineExceeded
		}
		return err
	})
	if err != nil {
		if w != nil { // it began as the informer ended
			w.Stop()
		}
		if !listing {
			c.end()
		}
		return nil, err
	}
	c.heard()
	events := make(chan apiwatch.Event, 16)
	relayed := apiwatch.NewProxyWatcher(events)
	c.relays.Go(func() {
		defer close(events)
		defer cancel()
		defer w.Stop()
		c.relay(w, events, relayed.StopChan(), listing)
	})
	return relayed, nil
}

// relay passes the events of a watch on until it ends or is stopped.
func (c *client) relay(w apiwatch.Interface, to chan<- apiwatch.Event, stopped <-chan struct{}, listing bool) {
	began, passed := time.Now(), 0
	for {
		var event apiwatch.Event
		var open bool
		select {
		case event, open = <-w.ResultChan():
		case <-stopped:
			return
		}
		if !open || isConnectionLost(event) {
			hold := c.ended(event, time.Since(began), passed, listing)
			select {
			case <-time.After(hold):
			case <-stopped:
			}
			return
		}
		switch {
		case event.Type == apiwatch.Error:
			c.observe("watch", apierrors.FromObject(event.Object))
			if !listing {
				c.end()
			}
		case listing && endsList(event):
			began, passed, listing = time.Now(), 0, false
			c.observe("watch", nil)
			c.heard()
		default:
			passed++
			c.heard()
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

// ended observes how a watch ended, and returns for how long to keep that from
// the reflector: the server ends each watch after some minutes, but not before
// its list is in.
func (c *client) ended(last apiwatch.Event, lasted time.Duration, passed int, listing bool) time.Duration {
	early := listing || passed == 0 && lasted < minWatch
	switch {
	case last.Type == apiwatch.Error:
		c.observe("watch", apierrors.FromObject(last.Object))
	case early:
		c.observe("watch", fmt.Errorf("%w after %s", errEndedEarly, lasted.Round(time.Millisecond)))
	}
	switch {
	case listing: // the reflector would ask for it again at once
		return c.cut.Step()
	case early:
		return minWatch - lasted
	}
	return 0
}

var errEndedEarly = errors.New("the server ended it")

// isConnectionLost reports whether an event is client-go's own, which says that
// it cannot read the stream any more. The reflector would list anew; but the
// watch can be resumed.
func isConnectionLost(e apiwatch.Event) bool {
	return e.Type == apiwatch.Error && apierrors.HasStatusCause(apierrors.FromObject(e.Object), "ClientWatchDecoding")
}

// endsList reports whether an event is the last one of a streamed list.
func endsList(e apiwatch.Event) bool {
	m, ok := e.Object.(*metav1.PartialObjectMetadata)
	return ok && e.Type == apiwatch.Bookmark && m.Annotations[metav1.InitialEventsAnnotationKey] == "true"
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

// watchErrorReason returns "" for nil.
func watchErrorReason(err error) string {
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
	case isUnavailable(err):
		return reasonUnavailable
	}
	return reasonOther
}
