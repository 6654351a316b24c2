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
	// probesPerSecond bounds them while the API server is away, and
	// refusalsPerSecond those that have been refused more than once.
	probesPerSecond   = 10
	refusalsPerSecond = 20
)

// awayBackoff is the time between two attempts of a request that fails for a
// reason that passes by itself.
func awayBackoff() wait.Backoff {
	return wait.Backoff{Duration: 100 * time.Millisecond, Cap: 1500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8}
}

// refusedBackoff is the same for one that somebody has to allow, or that the
// server is too busy for.
func refusedBackoff() wait.Backoff {
	return wait.Backoff{Duration: time.Second, Cap: 4 * time.Second, Factor: 2, Jitter: 0.2, Steps: 8}
}

// retries decides when the requests of all sources are made, so that they do
// not come in step: not at the start, and not after an outage, at whose end
// each namespace is watched again.
type retries struct {
	requests chan struct{} // one for each that waits for an answer
	probes   *rate.Limiter
	refusals *rate.Limiter
	log      *slog.Logger

	mu   sync.Mutex
	back chan struct{} // guarded by mu; nil unless the API server is away, closed when it is back
}

func newRetries(log *slog.Logger) *retries {
	return &retries{
		log:      log,
		requests: make(chan struct{}, concurrentRequests),
		probes:   rate.NewLimiter(probesPerSecond, 1),
		refusals: rate.NewLimiter(refusalsPerSecond, 1),
	}
}

// errAway is what keeps a request from being made at all.
var errAway = errors.New("the API server does not answer")

// do makes a request until it succeeds, the server rejects it for good, or the
// context ends, and returns the last error. Each outcome is observed, and
// errAway if there is none for now. The reflector of client-go would wait for
// up to a minute between two attempts, and list anew.
func (r *retries) do(ctx context.Context, observe func(error), request func() error) error {
	away, busy, refused := awayBackoff(), refusedBackoff(), refusedBackoff()
	observed := false
	for refusals := 0; ctx.Err() == nil; {
		probe := false
		if back := r.outage(); back != nil {
			if !observed { // else it is known why
				observe(errAway)
				observed = true
			}
			probe = r.pause(ctx, away.Step(), back)
		}
		made, err := r.attempt(ctx, probe, request)
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
			sleep(ctx, max(busy.Step(), suggestedDelay(err)))
		case isAway(err): // the next turn waits
		case isUnavailable(err):
			sleep(ctx, away.Step())
		default:
			return err
		}
	}
	return ctx.Err()
}

// attempt makes a request when it is its turn, unless the API server turns out
// to be away while it waits for that.
func (r *retries) attempt(ctx context.Context, probe bool, request func() error) (made bool, err error) {
	select {
	case r.requests <- struct{}{}:
		defer func() { <-r.requests }()
	case <-ctx.Done():
		return false, nil
	}
	if !probe && r.outage() != nil {
		return false, nil
	}
	if err = request(); ctx.Err() == nil {
		r.outcome(err)
	}
	return true, err
}

// pause waits until the delay has passed and a probe is allowed, which it
// reports, the server is back, or the context ends.
func (r *retries) pause(ctx context.Context, delay time.Duration, back <-chan struct{}) (probe bool) {
	ticker := time.NewTicker(delay)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if r.probes.Allow() {
				return true
			}
		case <-back:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func sleep(ctx context.Context, delay time.Duration) {
	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}
}

// outcome notes whether the API server is away, and logs when that changes:
// once for all sources.
func (r *retries) outcome(err error) {
	away := isAway(err)
	r.mu.Lock()
	was := r.back
	switch {
	case away && was == nil:
		r.back = make(chan struct{})
	case !away && was != nil:
		close(was)
		r.back = nil
	}
	r.mu.Unlock()
	switch {
	case away && was == nil:
		r.log.Error("The API server does not answer, will keep trying", "err", err)
	case !away && was != nil:
		r.log.Info("The API server answers again")
	}
}

// outage returns nil unless the API server is away, else what ends with that.
func (r *retries) outage() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.back
}

// isAway reports whether nobody answered, or a proxy in place of the server.
func isAway(err error) bool {
	switch statusCode(err) {
	case 0:
		return err != nil
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return true
	}
	return false
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
