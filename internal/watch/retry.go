package watch

import (
	"context"
	"errors"
	"fmt"
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
	// concurrentRequests bounds how many LISTs and WATCHes of all sources wait for a response at once. Each
	// more would open a connection of its own.
	concurrentRequests = 8
	// probesPerSecond bounds them while the API server is away, and refusalsPerSecond those that have been
	// refused more than once.
	probesPerSecond   = 10
	refusalsPerSecond = 20
)

// awayBackoff is the time between two attempts of a request that fails for a reason that passes by itself.
func awayBackoff() wait.Backoff {
	return wait.Backoff{Duration: 100 * time.Millisecond, Cap: 1500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8}
}

// refusedBackoff is the same for a request that somebody has to allow, or that the server is too busy for.
func refusedBackoff() wait.Backoff {
	return wait.Backoff{Duration: time.Second, Cap: 3 * time.Second, Factor: 2, Jitter: 0.2, Steps: 8}
}

// longestAsked bounds for how long a server is not asked again because it asks for that. Priority and fairness asks for 1
// to 32 s, but metrics have to be right within 5 s after the server has become less busy.
const longestAsked = 4 * time.Second

// retryAfter returns for how long a server asks not to be asked again, within bounds.
func retryAfter(err error) time.Duration {
	if !apierrors.IsTooManyRequests(err) {
		return 0
	}
	seconds, _ := apierrors.SuggestsClientDelay(err)
	return min(max(time.Duration(seconds)*time.Second, time.Second), longestAsked)
}

// retries decides when the requests of all sources are made, so that they are spread out: at the start, and
// after an outage, when every watch begins again.
type retries struct {
	requests chan struct{} // one for each that waits for a response
	probes   *rate.Limiter
	refusals *rate.Limiter
	log      *slog.Logger

	mu    sync.Mutex
	back  chan struct{} // guarded by mu; nil unless the API server is away, closed when it is back
	cause error         // guarded by mu; why it is away
}

func newRetries(log *slog.Logger) *retries {
	return &retries{
		log:      log,
		requests: make(chan struct{}, concurrentRequests),
		probes:   rate.NewLimiter(probesPerSecond, 1),
		refusals: rate.NewLimiter(refusalsPerSecond, 1),
	}
}

// lateAfter is how long a response may take before it is observed that there is none.
const lateAfter = 5 * time.Second

// errAway is why nothing is known of a request: it is not made for now, or takes long.
var errAway = errors.New("no answer for now")

// do makes a request until it succeeds, the server rejects it for good, or the context ends, and returns the
// last error. It calls observe with each outcome, and with errAway and the cause if the request cannot be made for
// now, or has not been answered for long. The reflector of client-go would wait for up to a minute between two
// attempts, and list again.
func (r *retries) do(ctx context.Context, observe func(error), request func() error) error {
	away, busy, refused := awayBackoff(), refusedBackoff(), refusedBackoff()
	observed := false
	// asked is for how long the server asks to wait. When it has accepted the request of another source, the rest of
	// that is not waited for: it is not too busy any more, and few requests are made at once.
	var asked time.Duration
	for refusals := 0; ctx.Err() == nil; {
		probe := false
		if back, cause := r.outage(); back != nil {
			if !observed { // otherwise the cause has been observed
				observe(fmt.Errorf("%w: %w", errAway, cause))
				observed = true
			}
			probe = r.pause(ctx, max(away.Step(), asked), back)
		} else {
			sleep(ctx, asked)
		}
		asked = 0
		// A watch that waits for one of the places is down, too.
		ended := afterDelay(lateAfter, func() {
			observe(fmt.Errorf("%w: waited %s for a response, or for its turn to ask", errAway, lateAfter))
		})
		made, err := r.attempt(ctx, probe, request)
		ended()
		if ctx.Err() != nil || !made {
			continue
		}
		observe(err)
		observed = true
		switch {
		case isRefused(err):
			sleep(ctx, refused.Step())
			if refusals++; refusals > 1 {
				_ = r.refusals.Wait(ctx) // it fails with the context
			}
		case apierrors.IsTooManyRequests(err):
			asked = max(busy.Step(), retryAfter(err))
		case isAway(err): // the next turn pauses
		case isUnavailable(err):
			sleep(ctx, away.Step())
		default:
			return err
		}
	}
	return ctx.Err()
}

// afterDelay calls f after some time unless stop is called before. When stop returns, f does not run any more.
func afterDelay(delay time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	timer := time.AfterFunc(delay, func() {
		defer close(done)
		f()
	})
	return func() {
		if !timer.Stop() {
			<-done
		}
	}
}

// attempt makes a request when one of the places is free, unless the API server turns out to be away meanwhile.
func (r *retries) attempt(ctx context.Context, probe bool, request func() error) (made bool, err error) {
	select {
	case r.requests <- struct{}{}:
		defer func() { <-r.requests }()
	case <-ctx.Done():
		return false, nil
	}
	if back, _ := r.outage(); back != nil && !probe {
		return false, nil
	}
	if err = request(); ctx.Err() == nil {
		r.note(err)
	}
	return true, err
}

// pause waits until the delay has passed, the server is back, or the context ends. It reports whether a probe
// may be made.
func (r *retries) pause(ctx context.Context, delay time.Duration, back <-chan struct{}) (probe bool) {
	select {
	case <-time.After(delay):
		return r.probes.Allow()
	case <-back:
	case <-ctx.Done():
	}
	return false
}

// sleep waits until the delay, which may be 0, has passed, or the context ends.
func sleep(ctx context.Context, delay time.Duration) {
	if delay <= 0 {
		return // A timer costs more, and the race detector of Go 1.26 crashes on one of no length in synctest.
	}
	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}
}

// note records whether the API server is away, and logs changes: once for all sources.
func (r *retries) note(err error) {
	away := isAway(err)
	r.mu.Lock()
	before := r.back
	if away && before == nil {
		r.back, r.cause = make(chan struct{}), err
	}
	if !away && before != nil {
		close(before)
		r.back = nil
	}
	r.mu.Unlock()
	switch {
	case away && before == nil && statusCode(err) != 0:
		r.log.Error("The API server cannot be used, will keep trying", "err", err)
	case away && before == nil:
		r.log.Error("The API server does not answer, will keep trying", "err", err)
	case !away && before != nil:
		r.log.Info("The API server answers again")
	}
}

// outage returns nil unless the API server is away, otherwise a channel that is closed when it is back, and the cause.
func (r *retries) outage() (back <-chan struct{}, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.back, r.cause
}

// isAway reports whether there was no response, one of a proxy in place of the server, or one that asks for fewer
// requests.
func isAway(err error) bool {
	switch statusCode(err) {
	case 0:
		return err != nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable:
		return true
	}
	return false
}

// isRefused reports whether somebody has to grant a right, or to renew a credential, before a request can
// succeed.
func isRefused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

// isUnavailable reports whether a request failed for a reason that passes by itself: there was no response, or
// the server is overloaded or not ready. A resource version that the server does not know, as after a restore
// of its data, does not pass: client-go then asks for the latest version.
func isUnavailable(err error) bool {
	if err == nil || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
		return false
	}
	code := statusCode(err)
	return code == 0 || code == http.StatusTooManyRequests || code >= http.StatusInternalServerError
}

// statusCode returns the HTTP status of an error, 0 if there was no response.
func statusCode(err error) int {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return int(status.Status().Code)
	}
	return 0
}
