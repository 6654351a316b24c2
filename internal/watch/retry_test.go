package watch

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var errRefused = errors.New("connection refused")

func ignore(error) {}

func TestManyRequestsAreFewDuringAnOutageAndAllThereSoonAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const watches = 900
		const outage = time.Minute
		began := time.Now()
		var attempts, answered atomic.Int64
		r := newRetries(slog.New(slog.DiscardHandler))
		var running sync.WaitGroup
		for range watches {
			running.Go(func() {
				_ = r.do(t.Context(), ignore, func() error {
					attempts.Add(1)
					if time.Since(began) < outage {
						return errRefused
					}
					answered.Add(1)
					return nil
				})
			})
		}
		<-time.After(outage - time.Nanosecond)
		synctest.Wait()
		// Some begin before the first has failed.
		if got := attempts.Load(); got > concurrentRequests+probesPerSecond*61 {
			t.Errorf("%d attempts within %s by %d watches", got, outage, watches)
		}
		running.Wait()
		if took := time.Since(began) - outage; took > 4*time.Second || answered.Load() != watches {
			t.Errorf("%d of %d watches answered %s after the outage", answered.Load(), watches, took)
		}
	})
}

// TestRequestsThatHangAreFewToo has each attempt take the time of a connection that nobody answers.
func TestRequestsThatHangAreFewToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const watches = 900
		const outage = time.Minute
		began := time.Now()
		var attempts, known atomic.Int64
		r := newRetries(slog.New(slog.DiscardHandler))
		var running sync.WaitGroup
		for range watches {
			down := false
			observe := func(err error) {
				if err != nil && !down {
					down = true
					known.Add(1)
				}
			}
			running.Go(func() {
				_ = r.do(t.Context(), observe, func() error {
					attempts.Add(1)
					if time.Since(began) < outage {
						<-time.After(dialTimeout)
						return errRefused
					}
					return nil
				})
			})
		}
		<-time.After(2 * dialTimeout)
		synctest.Wait()
		if got := known.Load(); got != watches {
			t.Errorf("%d of %d watches are known to be down", got, watches)
		}
		running.Wait()
		if got := attempts.Load() - watches; got > int64(concurrentRequests*(outage/dialTimeout+1)) {
			t.Errorf("%d attempts during the outage", got)
		}
		if took := time.Since(began) - outage; took > 5*time.Second {
			t.Errorf("all are back %s after the outage", took)
		}
	})
}

// TestARequestThatWaitsForAnAnswerIsNotUp has a watch resumed by a request that is not answered for long.
func TestARequestThatWaitsForAnAnswerIsNotUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var down, up time.Duration
		err := newRetries(slog.New(slog.DiscardHandler)).do(t.Context(), func(err error) {
			switch {
			case err == nil:
				up = time.Since(began)
			case errors.Is(err, errAway) && down == 0: // it has not failed, so it does not count
				down = time.Since(began)
			default:
				t.Errorf("observed %v", err)
			}
		}, func() error {
			<-time.After(20 * time.Second)
			return nil
		})
		if err != nil || down != lateAfter || up != 20*time.Second {
			t.Errorf("down after %s, up after %s, error %v", down, up, err)
		}
	})
}

// TestAServerThatIsTooBusyIsLeftInPeace has all watches rejected by 429 for a time, as priority and fairness does, with
// a Retry-After that is longer than that.
func TestAServerThatIsTooBusyIsLeftInPeace(t *testing.T) {
	for _, watches := range []int{1, 900} {
		synctest.Test(t, func(t *testing.T) {
			const busy = time.Minute
			began := time.Now()
			var attempts atomic.Int64
			r := newRetries(slog.New(slog.DiscardHandler))
			var running sync.WaitGroup
			for range watches {
				running.Go(func() {
					observe := func(err error) {
						if reason := watchErrorReason(err); err != nil && reason != reasonThrottled {
							t.Errorf("the reason of %v is %s", err, reason)
						}
					}
					_ = r.do(t.Context(), observe, func() error {
						attempts.Add(1)
						if time.Since(began) < busy {
							return apierrors.NewTooManyRequests("busy", 300)
						}
						return nil
					})
				})
			}
			<-time.After(busy - time.Nanosecond)
			synctest.Wait()
			if got := attempts.Load(); got > int64(concurrentRequests+probesPerSecond*61) {
				t.Errorf("%d attempts within %s by %d watches", got, busy, watches)
			}
			running.Wait()
			if took := time.Since(began) - busy; took > longestAsked+500*time.Millisecond {
				t.Errorf("%d watches are back %s after the server was too busy", watches, took)
			}
		})
	}
}

func TestTheLogSaysWhetherTheServerAnswers(t *testing.T) {
	for want, err := range map[string]error{
		"The API server does not answer,": errRefused,
		"The API server cannot be used,":  apierrors.NewTooManyRequests("busy", 1),
	} {
		var log strings.Builder
		newRetries(slog.New(slog.NewTextHandler(&log, nil))).note(err)
		if !strings.Contains(log.String(), want) {
			t.Errorf("got %q, want %q", log.String(), want)
		}
	}
}

func TestOneBadRequestIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRetries(slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		attempts := 0
		var running sync.WaitGroup
		running.Go(func() {
			_ = r.do(ctx, ignore, func() error {
				attempts++
				return apierrors.NewInternalError(errRefused)
			})
		})
		for range 1_000 {
			<-time.After(50 * time.Millisecond)
			if err := r.do(ctx, func(err error) {
				if err != nil {
					t.Fatalf("observed %v", err)
				}
			}, func() error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		running.Wait()
		if attempts > 100 {
			t.Errorf("%d attempts within a minute, because others succeed", attempts)
		}
	})
}

func TestOneWatchTriesAgainSoonHoweverLongTheOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, last := time.Now(), time.Now()
		err := newRetries(slog.New(slog.DiscardHandler)).do(t.Context(), ignore, func() error {
			if waited := time.Since(last); waited > 2500*time.Millisecond {
				t.Errorf("%s between two attempts", waited)
			}
			last = time.Now()
			if time.Since(began) < 3*time.Minute {
				return errRefused
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsTriedAgain(t *testing.T) {
	secrets := schema.GroupResource{Resource: "secrets"}
	tooNew := apierrors.NewTimeoutError("Too large resource version", 1)
	tooNew.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge}}
	for name, tc := range map[string]struct {
		err   error
		again bool
	}{
		"no answer":                     {errRefused, true},
		"an overloaded server":          {apierrors.NewTooManyRequests("busy", 1), true},
		"a server that is not ready":    {apierrors.NewServiceUnavailable("starting"), true},
		"an error of the server":        {apierrors.NewInternalError(errRefused), true},
		"a right that is missing":       {apierrors.NewForbidden(secrets, "", errRefused), true},
		"a token that has expired":      {apierrors.NewUnauthorized("expired"), true},
		"a version that is gone":        {apierrors.NewResourceExpired("too old"), false},
		"a version that is yet to come": {tooNew, false},
		"an option that is not known":   {apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "watch", secrets, "", "", 0, true), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				err := newRetries(slog.New(slog.DiscardHandler)).do(t.Context(), ignore, func() error {
					if attempts++; attempts == 1 {
						return tc.err
					}
					return nil
				})
				if tc.again != (err == nil) || tc.again != (attempts == 2) {
					t.Errorf("%d attempts, error %v", attempts, err)
				}
			})
		})
	}
}

func TestRetriesEndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := newRetries(slog.New(slog.DiscardHandler)).do(ctx, ignore, func() error { return errRefused }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
