package watch_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/watch"
)

func TestInitialListReadsOnePayloadPerRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "old")
		c.write("a", 2, release.Failed, "a2", "new")
		c.write("b", 1, release.Deployed, "b1", "other")
		w := c.start()
		if got := c.total(); got != 2 || c.count("a", 1) != 0 {
			t.Errorf("%d GETs, %d of them of an older revision; want one per release, of the newest", got, c.count("a", 1))
		}
		if w.chart("a") != "new" || w.chart("b") != "other" {
			t.Errorf("charts %q and %q", w.chart("a"), w.chart("b"))
		}
		if w.synced != 1 {
			t.Errorf("synced %d times", w.synced)
		}
		if err := w.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
	})
}

func TestUpgradeCostsOneGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		w := c.start()
		c.write("a", 2, release.PendingUpgrade, "a2", "two")
		synctest.Wait()
		c.write("a", 2, release.Deployed, "a2", "two")
		synctest.Wait()
		if number, status := w.newest("a"); number != 2 || status != release.Deployed || w.chart("a") != "two" {
			t.Errorf("shows %d %s %q", number, status, w.chart("a"))
		}
		if c.count("a", 2) != 1 || c.total() != 2 {
			t.Errorf("%d GETs of the new revision, %d in all; want 1 and 2", c.count("a", 2), c.total())
		}
		c.delete("a", 2)
		synctest.Wait()
		if w.chart("a") != "one" || c.total() != 2 {
			t.Errorf("after the newest was deleted: chart %q after %d GETs; the older one was read before", w.chart("a"), c.total())
		}
	})
}

func TestPayloadNeverMeansNoGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		w := c.start(func(cfg *watch.Config) { cfg.FetchConcurrency = 0 })
		if number, _ := w.newest("a"); number != 1 || c.total() != 0 || w.Ready() != nil {
			t.Errorf("shows %d after %d GETs, ready: %v", number, c.total(), w.Ready())
		}
	})
}

func TestForbiddenPayloadsCostOneGetNowAndThenAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		names := strings.Split("abcdefghij", "")
		for _, name := range names {
			c.write(name, 1, release.Deployed, name, "chart")
		}
		c.answer(http.StatusForbidden)
		w := c.start(func(cfg *watch.Config) { cfg.FetchConcurrency = 1 })
		if got := c.total(); got != 1 {
			t.Errorf("%d GETs for 10 releases of a namespace that must not be read, want 1", got)
		}
		if err := w.Ready(); err != nil {
			t.Errorf("not ready although all that can be done is done: %v", err)
		}
		advance(time.Minute)
		if got := c.total(); got < 10 || got > 20 {
			t.Errorf("%d GETs after a minute, want a probe now and then", got)
		}
		c.delete("a", 1)
		c.answer(0)
		advance(5 * time.Second) // one that is tried again succeeds, and all others follow at once
		for _, name := range names[1:] {
			if w.chart(name) != "chart" {
				t.Errorf("%s is not read", name)
			}
		}
	})
}

func TestAForbiddenNamespaceWithoutReleasesIsNotAProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		c.answer(http.StatusForbidden)
		w := c.start()
		if problems(w) == "" {
			t.Error("no problem although payloads are forbidden")
		}
		c.delete("a", 1)
		advance(30 * time.Second)
		if got := problems(w); got != "" {
			t.Errorf("problems %q without any release", got)
		}
	})
}

func TestPassingErrorsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		c.answer(http.StatusInternalServerError)
		w := c.start()
		if w.chart("a") != "" || w.metric(fetchErrors) == 0 || w.Ready() != nil {
			t.Errorf("chart %q, %v errors, ready: %v", w.chart("a"), w.metric(fetchErrors), w.Ready())
		}
		c.answer(0)
		advance(time.Minute)
		if w.chart("a") != "one" {
			t.Error("not retried")
		}
	})
}

func TestPayloadsAreReadSoonAfterAnErrorThatLasted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		w := c.start()
		for n := 1; n <= 20; n++ {
			c.answer([]int{http.StatusInternalServerError, http.StatusTooManyRequests}[n%2])
			c.write("a", n, release.Deployed, fmt.Sprint("a", n), fmt.Sprint("chart-", n))
			advance(30*time.Second + time.Duration(n)*300*time.Millisecond)
			c.answer(0)
			ended := time.Now()
			for w.chart("a") != fmt.Sprint("chart-", n) {
				if advance(100 * time.Millisecond); time.Since(ended) > 4500*time.Millisecond {
					t.Fatalf("the payload has not been read %s after the errors", time.Since(ended))
				}
			}
		}
	})
}

func TestAnUndecodablePayloadIsReadAgainOnlyWhenItIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "garbage")
		w := c.start()
		advance(time.Hour)
		if c.total() != 1 || w.metric(notJSON) != 1 {
			t.Errorf("%d GETs, %v decode errors; want one of each", c.total(), w.metric(notJSON))
		}
		c.write("a", 1, release.Deployed, "a1", "repaired")
		synctest.Wait()
		if w.chart("a") != "repaired" {
			t.Error("not read again")
		}
	})
}

// TestAnUndecodablePayloadIsReadTwicePerSecond writes a record again and again. To write a label costs nothing, and to
// read a payload up to a mebibyte. Whoever repairs a record once need not wait.
func TestAnUndecodablePayloadIsReadTwicePerSecond(t *testing.T) {
	for _, bad := range []string{"garbage", "garbage behind the beginning"} {
		t.Run(bad, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.write("a", 1, release.Deployed, "a1", bad)
				w := c.start()
				for range 100 {
					advance(50 * time.Millisecond)
					c.write("a", 1, release.Deployed, "a1", bad)
				}
				advance(time.Second)
				if got := c.total(); got < 5 || got > 14 {
					t.Errorf("%d GETs for 100 writes in 5 s", got)
				}
				c.write("b", 1, release.Deployed, "b1", bad)
				synctest.Wait()
				c.write("b", 1, release.Deployed, "b1", "good")
				synctest.Wait()
				if w.chart("b") != "good" {
					t.Error("a record that is repaired at once has to wait")
				}
				c.write("a", 1, release.Deployed, "a1", "repaired")
				c.write("a", 2, release.Deployed, "a2", "next")
				synctest.Wait()
				if w.chart("a") != "next" {
					t.Error("the next revision has to wait")
				}
			})
		})
	}
}

func TestAListThatFailsIsNamedUntilItHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		var failing atomic.Bool
		failing.Store(true)
		c.metadata.PrependReactor("list", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
			if !failing.Load() {
				return false, nil, nil
			}
			return true, nil, apierrors.NewForbidden(secrets.GroupResource(), "", errors.New("no rule"))
		})
		w := c.start(func(cfg *watch.Config) { cfg.Namespaces = []string{"ns"} })
		err := w.Ready()
		if err == nil || !strings.Contains(err.Error(), `cannot list secrets in namespace "ns"`) {
			t.Errorf("ready: %v; want what cannot be done, and where", err)
		}
		if w.synced != 0 || w.metric(watchForbidden) == 0 {
			t.Errorf("synced %d times, %v failures counted", w.synced, w.metric(watchForbidden))
		}
		failing.Store(false)
		advance(2 * time.Minute)
		if err := w.Ready(); err != nil || w.synced != 1 {
			t.Errorf("not healed: %v", err)
		}
	})
}

func TestWhatAWatchTellsIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		var first atomic.Pointer[apiwatch.FakeWatcher]
		c.metadata.PrependWatchReactor("secrets", func(clienttesting.Action) (bool, apiwatch.Interface, error) {
			fake := apiwatch.NewFake()
			return first.CompareAndSwap(nil, fake), fake, nil
		})
		w := c.start()
		now := func() float64 { return float64(time.Now().UnixNano()) / 1e9 }
		w.expect(t, watchUp, 1)
		w.expect(t, lastEvent, now())
		advance(time.Second)
		first.Load().Action(apiwatch.Bookmark, &metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{ResourceVersion: "9"},
		})
		synctest.Wait()
		w.expect(t, lastEvent, now())
		expired := apierrors.NewResourceExpired("too old").Status()
		first.Load().Error(&expired)
		synctest.Wait()
		w.expect(t, watchExpired, 1)
		w.expect(t, watchUp, 0)
		before := now()
		advance(time.Minute)
		w.expect(t, watchUp, 1)
		if got := w.metric(lastEvent); got <= before {
			t.Errorf("last event at %v, want one after %v", got, before)
		}
	})
}

// TestAPayloadThatWaitsIsNotRead writes a record again and again, whose payload waits for others that take long.
func TestAPayloadThatWaitsIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("slow", 1, release.Deployed, "s1", "bomb")
		w := c.start()
		for range 80 {
			c.write("a", 1, release.Deployed, "a1", "bomb")
			advance(50 * time.Millisecond)
		}
		if got := c.count("a", 1); got != 1 {
			t.Errorf("%d GETs for 80 writes", got)
		}
		advance(5 * time.Second)
		if got := c.count("a", 1); got != 2 || w.chart("a") != "bomb" {
			t.Errorf("%d GETs, and the chart is %q", got, w.chart("a"))
		}
	})
}

// TestPayloadsThatTakeLongDelayNoOthers lets somebody write payloads that take long to decode, before another one is
// written.
func TestPayloadsThatTakeLongDelayNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		order := &decodedOrder{}
		w := c.start(func(cfg *watch.Config) { order.Sink = cfg.Sink; cfg.Sink = order })
		const bombs = 20
		for i := range bombs {
			c.write(fmt.Sprint("bomb-", i), 1, release.Deployed, fmt.Sprint("u", i), "bomb")
		}
		c.write("app", 1, release.Deployed, "u", "web")
		advance(time.Minute)
		if at := slices.Index(order.names, "app"); at < 0 || at > bombs/2 {
			t.Errorf("it is the %d. of %v", at+1, order.names)
		}
		if w.chart("bomb-0") != "bomb" || len(order.names) != bombs+1 {
			t.Errorf("decoded are %v", order.names)
		}
		if err := w.Ready(); err != nil {
			t.Error(err)
		}
	})
}

// decodedOrder notes in which order payloads are decoded.
type decodedOrder struct {
	watch.Sink
	names []string
}

func (o *decodedOrder) Set(r *release.Release) {
	if r.Payload != nil {
		o.names = append(o.names, r.Name)
	}
	o.Sink.Set(r)
}
