package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// failing is a round tripper that fails.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func errorOf(rt http.RoundTripper, req *http.Request) error {
	resp, err := rt.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close() // it is empty
	}
	return err
}

// TestNoErrorIsRepeatedByClientGo asks client-go's own functions about each error that they know.
func TestNoErrorIsRepeatedByClientGo(t *testing.T) {
	for _, err := range []error{
		io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded, fmt.Errorf("read: %w", syscall.ECONNRESET),
		errors.New("http: can't write HTTP request on broken connection"),
		errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=1"),
		errors.New("http2: client connection lost"), errors.New("read tcp: use of closed network connection"),
	} {
		req, bad := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://cluster.invalid", nil)
		if bad != nil {
			t.Fatal(bad)
		}
		got := errorOf(transport{failing{err}}, req)
		if got == nil {
			t.Fatalf("%v is no error any more", err)
		}
		got = &url.Error{Op: "Get", URL: req.URL.String(), Err: got} // as http.Client returns it
		if utilnet.IsProbableEOF(got) || utilnet.IsTimeout(got) || utilnet.IsConnectionReset(got) || utilnet.IsHTTP2ConnectionLost(got) {
			t.Errorf("client-go knows %q", got)
		}
		if !strings.Contains(got.Error(), "no response: ") || !isUnavailable(got) {
			t.Errorf("%q does not say that the API server is away", got)
		}
	}
}

func TestTheEndOfAContextStaysOne(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://cluster.invalid", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errorOf(transport{failing{context.Canceled}}, req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestARetryAfterIsHeard has a server reject requests as priority and fairness does, and as other parts of an API server do.
func TestARetryAfterIsHeard(t *testing.T) {
	for name, reject := range map[string]func(w http.ResponseWriter, after string){
		"text": func(w http.ResponseWriter, after string) {
			w.Header().Set("Retry-After", after)
			http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
		},
		"a status": func(w http.ResponseWriter, after string) {
			w.Header().Set("Retry-After", after)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429,"details":{"retryAfterSeconds":%s}}`, after)
		},
	} {
		for after, want := range map[string]time.Duration{"0": time.Second, "1": time.Second, "3": 3 * time.Second, "32": longestAsked} {
			t.Run(name+" "+after, func(t *testing.T) {
				requests := 0
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					requests++
					reject(w, after)
				}))
				t.Cleanup(server.Close)
				meta, core, err := Clients(&rest.Config{Host: server.URL})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				secrets := meta.Resource(resourceOf(release.Secrets))
				_, listed := secrets.List(t.Context(), metav1.ListOptions{})
				_, watched := secrets.Watch(t.Context(), metav1.ListOptions{})
				_, got := core.Get().Resource("secrets").Stream(t.Context())
				for _, err := range []error{listed, watched, got} {
					if !apierrors.IsTooManyRequests(err) || retryAfter(err) != want {
						t.Errorf("after %s, want %s: %v", retryAfter(err), want, err)
					}
				}
				if took := time.Since(began); requests != 3 || took > time.Second {
					t.Errorf("%d requests within %s", requests, took)
				}
			})
		}
	}
}

// relaying runs the relay of a streamed list in the bubble of a synctest. Nothing is buffered.
func relaying(t *testing.T, observe func(string, error)) (w *apiwatch.RaceFreeFakeWatcher, events chan apiwatch.Event) {
	w, events = apiwatch.NewRaceFreeFake(), make(chan apiwatch.Event)
	c := &client{observe: observe, heard: func() {}, end: func() {}}
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		defer close(events)
		c.relay(w, events, stop, true)
	}()
	return w, events
}

func TestASlowReaderIsNoSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, events := relaying(t, func(string, error) {})
		w.Add(&metav1.PartialObjectMetadata{})
		<-time.After(streamTimeout + time.Second)
		<-events
		synctest.Wait()
		w.Add(&metav1.PartialObjectMetadata{})
		if got := <-events; got.Type != apiwatch.Added {
			t.Errorf("got %+v", got)
		}
	})
}

func TestAnErrorInAStreamedListIsOneError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observed := 0
		w, events := relaying(t, func(string, error) { observed++ })
		status := apierrors.NewInternalError(errRefused).Status()
		w.Error(&status)
		<-events
		w.Stop()
		for range events {
			t.Error("an event after an error")
		}
		if observed != 1 {
			t.Errorf("%d errors observed", observed)
		}
	})
}
