package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// client is the metadata client of one informer, for one resource in one namespace. It observes each LIST and
// WATCH, and retries those that fail for a reason that may pass.
type client struct {
	metadata.ResourceInterface
	plainList bool   // lists are not streamed
	notBefore string // a list must not be older than this resource version
	retries   *retries
	observe   func(verb string, err error) // called with the outcome of each request
	heard     func()                       // called for each event
	end       context.CancelFunc           // ends the informer
	relays    *sync.WaitGroup
	// incomplete is the time between streamed lists that end early. After its steps, a plain one is asked for. It
	// belongs to the relay of a watch while that is open, as silent does.
	incomplete wait.Backoff
	// silent says that the last watch was given up because it brought nothing.
	silent bool
}

// Resource implements metadata.Interface.
func (c *client) Resource(schema.GroupVersionResource) metadata.Getter { return c }

// Namespace implements metadata.Getter.
func (c *client) Namespace(string) metadata.ResourceInterface { return c }

// IsWatchListSemanticsUnSupported tells client-go whether a watch can begin with the list.
func (c *client) IsWatchListSemanticsUnSupported() bool { return c.plainList }

// List implements metadata.ResourceInterface. The reflector calls it only where the server does not stream
// lists.
func (c *client) List(ctx context.Context, o metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	if o.ResourceVersion == "0" && c.notBefore != "" {
		// An informer starts with any version, which may be older than what an earlier informer saw. Pages
		// would be read from etcd.
		o.ResourceVersion, o.Limit = c.notBefore, 0
	}
	var list *metav1.PartialObjectMetadataList
	observe := func(err error) {
		if err != nil { // otherwise the watch that follows counts
			c.observe("list", err)
		}
	}
	err := c.retries.do(ctx, observe, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		list, err = c.ResourceInterface.List(ctx, o)
		return err
	})
	return list, err
}

// A proxy may lose a request or a watch, and keep the connection.
const (
	// listTimeout is how long a LIST may take. An API server gives up after a minute.
	listTimeout = 65 * time.Second
	// responseTimeout is how long the response to a WATCH may take to begin, which it does before the first event.
	responseTimeout = 30 * time.Second
	// streamTimeout is the longest time between two events of a streamed list. Then a plain one is asked for.
	streamTimeout = 5 * time.Second
	// silenceTimeout is how long a watch may bring nothing. API servers send a bookmark every minute or two.
	silenceTimeout = 3 * time.Minute
)

// Watch implements metadata.ResourceInterface.
func (c *client) Watch(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
	listing := o.SendInitialEvents != nil && *o.SendInitialEvents
	observe := func(err error) {
		// A watch that begins with a list is up when the list is complete. A server that cannot stream lists
		// rejects it, and gets a LIST instead.
		if !listing || isRefused(err) || isUnavailable(err) {
			c.observe("watch", err)
		}
	}
	var w apiwatch.Interface
	var cancel context.CancelFunc
	err := c.retries.do(ctx, observe, func() (err error) {
		var attempt context.Context
		attempt, cancel = context.WithCancel(ctx)
		late := time.AfterFunc(responseTimeout, cancel)
		if w, err = c.ResourceInterface.Watch(attempt, o); err != nil {
			cancel()
		} else if !late.Stop() {
			w.Stop()
			err = context.DeadlineExceeded
		}
		return err
	})
	if err != nil {
		if w != nil { // it began when the informer ended
			w.Stop()
		}
		if !listing {
			c.end()
		}
		return nil, err
	}
	if !c.silent { // otherwise an event has to show that this one is better
		c.heard()
	}
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

// relay passes the events of a watch on until it ends, is silent for too long, or is stopped.
func (c *client) relay(w apiwatch.Interface, to chan<- apiwatch.Event, stopped <-chan struct{}, listing bool) {
	began, passed := time.Now(), 0
	quiet := time.NewTimer(silence(listing))
	defer quiet.Stop()
	for {
		var event apiwatch.Event
		var open bool
		select {
		case event, open = <-w.ResultChan():
		case <-quiet.C:
			if c.silent = !listing; c.silent {
				return // the reflector resumes it
			}
			event, open = noEnd("stopped for "+streamTimeout.String()), true
		case <-stopped:
			return
		}
		if !open || isConnectionLost(event) {
			plain := listing && c.incomplete.Steps == 0
			hold := c.ended(event, time.Since(began), passed, listing)
			if plain {
				select {
				case to <- noEnd("was cut off again and again"):
				case <-stopped:
				}
				return
			}
			if hold > 0 { // see sleep
				select {
				case <-time.After(hold):
				case <-stopped:
				}
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
			c.silent = false
			c.heard()
		}
		select {
		case to <- event:
		case <-stopped:
			return
		}
		if event.Type == apiwatch.Error {
			return // the reflector begins another watch
		}
		quiet.Reset(silence(listing)) // not before: the reflector may be slow, too
	}
}

// silence is how long a watch may bring nothing.
func silence(listing bool) time.Duration {
	if listing {
		return streamTimeout
	}
	return silenceTimeout
}

// noEnd is the last event of a streamed list that does not come to its end. The reflector then asks for a plain one.
func noEnd(what string) apiwatch.Event {
	return apiwatch.Event{Type: apiwatch.Error, Object: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusGatewayTimeout, Reason: metav1.StatusReasonTimeout,
		Message: fmt.Sprintf("the list %s before its end", what),
	}}
}

// minWatch is the least time that a watch takes, from the end of its list. One that ends within a second
// without an event is an error to the reflector, which then waits for up to a minute, and lists again.
const minWatch = 1500 * time.Millisecond

// ended observes how a watch ended, and returns for how long to hide that from the reflector. The server ends
// each watch after some minutes, but never before its list is complete.
func (c *client) ended(last apiwatch.Event, lasted time.Duration, passed int, listing bool) time.Duration {
	early := listing || passed == 0 && lasted < minWatch
	switch {
	case last.Type == apiwatch.Error:
		c.observe("watch", apierrors.FromObject(last.Object))
	case early:
		c.observe("watch", fmt.Errorf("%w after %s", errEndedEarly, lasted.Round(time.Millisecond)))
	}
	switch {
	case listing: // the reflector would try again at once
		return c.incomplete.Step()
	case early:
		return minWatch - lasted
	}
	return 0
}

var errEndedEarly = errors.New("the server ended it")

// isConnectionLost reports whether an event is client-go's own, for a stream that it cannot read any more. The
// reflector would list again, but the watch can be resumed.
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

// dialTimeout is how long a connection may take to open. TCP sends a lost packet again after 1, 2 and 4
// seconds; a new attempt is sooner than the third of these when the network is back.
const dialTimeout = 3 * time.Second

// Clients returns the two clients that Config wants.
//
// Payloads are read over HTTP/1.1: the flow control of HTTP/2 costs a frame for every few kilobytes and a
// quarter more CPU, and the reads would share a connection with the watches. There is no limit of requests per
// second, since priority and fairness is up to the server, and no compression, which costs the server more than
// it saves.
func Clients(config *rest.Config) (metadata.Interface, rest.Interface, error) {
	config = metadata.ConfigFor(config)
	config.QPS = -1
	config.DisableCompression = true
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	config.Wrap(func(base http.RoundTripper) http.RoundTripper { return transport{base} })
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("metadata client for %s: %w", config.Host, err)
	}
	config.APIPath = "/api"
	config.GroupVersion = &schema.GroupVersion{Version: "v1"}
	config.NextProtos = []string{"http/1.1"}
	core, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, nil, fmt.Errorf("core client for %s: %w", config.Host, err)
	}
	return meta, core, nil
}

// transport keeps client-go from retrying by itself. When a connection fails, client-go tries ten times, a
// second apart, and then returns a watch without events: nobody would know for ten seconds that a watch is
// down, and hundreds of watches would retry at once. After a Retry-After it waits, too, and holds one of the
// few places for requests meanwhile, however long that is. So it does not get to see the header.
type transport struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper. It replaces errors by others with a text that
// k8s.io/apimachinery/pkg/util/net does not recognize, and makes an error of a response that is one only by its header.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil && req.Context().Err() == nil {
		return nil, errors.New("no response: " + strings.NewReplacer(
			"connection reset by peer", "connection reset",
			"use of closed network connection", "connection closed",
			"http: can't write HTTP request on broken connection", "broken connection",
			"http2: server sent GOAWAY and closed the connection", "http2: server sent GOAWAY",
			"http2: client connection lost", "http2: connection lost",
		).Replace(err.Error()))
	}
	if err != nil || resp.StatusCode < http.StatusTooManyRequests {
		return resp, err
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	resp.Header.Del("Retry-After")
	if resp.StatusCode == http.StatusTooManyRequests && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/") {
		// So says priority and fairness. Other parts of an API server send a status, which has the seconds, too.
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // otherwise the connection is closed
		_ = resp.Body.Close()
		return nil, apierrors.NewTooManyRequests("the server has received too many requests", seconds)
	}
	return resp, nil
}

// WrappedRoundTripper implements net.RoundTripperWrapper of apimachinery.
func (t transport) WrappedRoundTripper() http.RoundTripper { return t.base }
