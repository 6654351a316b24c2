package watch

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// requestsPerSecond bounds the LISTs and WATCHes of all sources together,
	// and probesPerSecond those while no request succeeds.
	requestsPerSecond = 400
	probesPerSecond   = 10
)

// awayBackoff is the time between two attempts of a request while the API
// server is away, refusedBackoff while it refuses what somebody has to allow.
var (
	awayBackoff    = wait.Backoff{Duration: 100 * time.Millisecond, Cap: 1500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8}
	refusedBackoff = wait.Backoff{Duration: time.Second, Cap: 4 * time.Second, Factor: 2, Jitter: 0.2, Steps: 8}
)

// retries decides when the requests of all sources are made, so that they do
// not come in step: not at the start, and not after an outage, at whose end
// each namespace is watched again.
type retries struct {
	requests *rate.Limiter
	probes   *rate.Limiter

	mu   sync.Mutex
	back chan struct{} // guarded by mu; closed and replaced when a request succeeds
}

func newRetries() *retries {
	return &retries{
		requests: rate.NewLimiter(requestsPerSecond, requestsPerSecond/4),
		probes:   rate.NewLimiter(probesPerSecond, probesPerSecond),
		back:     make(chan struct{}),
	}
}

// do makes a request until it succeeds, the server rejects it for good, or the
// context ends, and returns the last error. The reflector of client-go would
// wait for up to a minute between two attempts, and list anew.
func (r *retries) do(ctx context.Context, request func() error) error {
	away, refused := awayBackoff, refusedBackoff
	for {
		if err := r.requests.Wait(ctx); err != nil {
			return err
		}
		err := request()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			r.succeeded()
			return nil
		case isRefused(err):
			r.pause(ctx, refused.Step(), nil)
		case isUnavailable(err):
			r.mu.Lock()
			back := r.back
			r.mu.Unlock()
			r.pause(ctx, max(away.Step(), suggestedDelay(err)), back)
		default:
			return err
		}
	}
}

// pause waits until the delay has passed and a probe is allowed, the server is
// back, or the context ends.
func (r *retries) pause(ctx context.Context, delay time.Duration, back <-chan struct{}) {
	ticker := time.NewTicker(delay)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if r.probes.Allow() {
				return
			}
		case <-back:
			return
		case <-ctx.Done():
			return
		}
	}
}

// succeeded lets those go on who wait for the server to be back.
func (r *retries) succeeded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.back)
	r.back = make(chan struct{})
}

// isRefused reports whether somebody has to grant a right, or a credential has
// to be renewed, before a request can succeed.
func isRefused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

// isUnavailable reports whether a request failed for a reason that passes by
// itself: there was no answer, or the server is overloaded or not ready.
func isUnavailable(err error) bool {
	if isTooNew(err) {
		return false
	}
	code := statusCode(err)
	return code == 0 || code == http.StatusTooManyRequests || code >= http.StatusInternalServerError
}

// isTooNew reports whether the server does not know the resource version that
// was asked for, as after a restore of its data; client-go then asks for the
// latest one instead.
func isTooNew(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// statusCode returns the HTTP status of an error, 0 if there was no answer.
func statusCode(err error) int {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return int(status.Status().Code)
	}
	return 0
}

// suggestedDelay returns how long the server asks to wait.
func suggestedDelay(err error) time.Duration {
	seconds, _ := apierrors.SuggestsClientDelay(err)
	return time.Duration(seconds) * time.Second
}
