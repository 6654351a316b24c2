package watch

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// concurrentRequests bounds how many LISTs and WATCHes of all sources wait
	// for an answer at once. Each of more would open a connection of its own.
	concurrentRequests = 8
	// probesPerSecond bounds them while the API server is away, or refuses.
	probesPerSecond = 10
)

// awayBackoff is the time between two attempts of a request while the API
// server is away.
func awayBackoff() wait.Backoff {
	return wait.Backoff{Duration: 100 * time.Millisecond, Cap: 1500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8}
}

// refusedBackoff is the same while it refuses what somebody has to allow.
func refusedBackoff() wait.Backoff {
	return wait.Backoff{Duration: time.Second, Cap: 4 * time.Second, Factor: 2, Jitter: 0.2, Steps: 8}
}

// retries decides when the requests of all sources are made, so that they do
// not come in step: not at the start, and not after an outage, at whose end
// each namespace is watched again.
type retries struct {
	requests chan struct{} // one for each that waits for an answer
	probes   *rate.Limiter
	log      *slog.Logger

	mu   sync.Mutex
	back chan struct{} // guarded by mu; nil unless the API server is away, closed when it is back
}

func newRetries(log *slog.Logger) *retries {
	return &retries{
		log:      log,
		requests: make(chan struct{}, concurrentRequests),
		probes:   rate.NewLimiter(probesPerSecond, 1),
	}
}

// errAway is what keeps a request from being made at all.
var errAway = errors.New("the API server does not answer")

// do makes a request until it succeeds, the server rejects it for good, or the
// context ends, and returns the last error. Each outcome is observed. The
// reflector of client-go would wait for up to a minute between two attempts,
// and list anew.
func (r *retries) do(ctx context.Context, observe func(error), request func() error) error {
	away, refused := awayBackoff(), refusedBackoff()
	var err error
	for suggested := time.Duration(0); ; {
		if back := r.outage(); back != nil {
			if err == nil {
				observe(errAway)
			}
			r.pause(ctx, max(away.Step(), suggested), back)
		}
		select {
		case r.requests <- struct{}{}:
			err = request()
			<-r.requests
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		observe(err)
		switch {
		case isRefused(err):
			r.outcome(nil)
			r.pause(ctx, refused.Step(), nil)
		case isUnavailable(err):
			r.outcome(err)
			suggested = suggestedDelay(err)
		default:
			r.outcome(nil)
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

// outcome notes why the API server is away, or that it is not, and logs when
// that changes: once for all sources.
func (r *retries) outcome(err error) {
	r.mu.Lock()
	was := r.back
	switch {
	case err != nil && was == nil:
		r.back = make(chan struct{})
	case err == nil && was != nil:
		close(was)
		r.back = nil
	}
	r.mu.Unlock()
	switch {
	case err != nil && was == nil:
		r.log.Error("The API server does not answer, will keep trying", "err", err)
	case err == nil && was != nil:
		r.log.Info("The API server answers again")
	}
}

// outage returns nil unless the API server is away, else what ends with that.
func (r *retries) outage() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.back
}

// isRefused reports whether somebody has to grant a right, or a credential has
// to be renewed, before a request can succeed.
func isRefused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

// isUnavailable reports whether a request failed for a reason that passes by
// itself: there was no answer, or the server is overloaded or not ready.
func isUnavailable(err error) bool {
	if err == nil || isTooNew(err) {
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
