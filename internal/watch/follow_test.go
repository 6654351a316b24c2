package watch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	clienttesting "k8s.io/client-go/testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/watch"
)

// line is the watch of a fake cluster, which a test can cut.
type line struct {
	c *cluster

	mu      sync.Mutex
	watches int                           // guarded by mu
	lists   int                           // guarded by mu
	current *apiwatch.RaceFreeFakeWatcher // guarded by mu
	deaf    bool                          // guarded by mu; events of the cluster are not passed on
}

// tap puts a line between the watcher and the cluster.
func tap(c *cluster) *line {
	l := &line{c: c}
	c.metadata.PrependReactor("list", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lists++
		return false, nil, nil
	})
	c.metadata.PrependWatchReactor("secrets", func(clienttesting.Action) (bool, apiwatch.Interface, error) {
		events, err := c.metadata.Tracker().Watch(secrets, "ns")
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watches++
		l.deaf = false
		fake := apiwatch.NewRaceFreeFake()
		l.current = fake
		go func() {
			for e := range events.ResultChan() {
				l.mu.Lock()
				if !l.deaf && l.current == fake {
					fake.Action(e.Type, e.Object)
				}
				l.mu.Unlock()
			}
		}()
		c.t.Cleanup(events.Stop)
		return true, fake, err
	})
	return l
}

// cut keeps what happens from the watcher until it watches again.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = true
}

// tell sends an error to the watcher.
func (l *line) tell(status metav1.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current.Error(&status)
}

func (l *line) counts() (lists, watches int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lists, l.watches
}

func TestARejectedWatchStartsOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("gone", 1, release.Deployed, "gone1", "one")
		c.write("kept", 1, release.Deployed, "kept1", "one")
		c.write("again", 1, release.Deployed, "again1", "one")
		l := tap(c)
		w := c.start()
		for range 5 { // the reflector of client-go would wait longer each time
			advance(10 * time.Second)
			l.cut()
			c.delete("gone", 1)
			c.write("kept", 2, release.Failed, "kept2", "two")
			c.delete("again", 1)
			c.write("again", 1, release.Failed, "again2", "other")
			l.tell(apierrors.NewResourceExpired("too old").Status())
			advance(100 * time.Millisecond)
			if number, _ := w.newest("gone"); number != 0 {
				t.Fatal("a release is still shown whose end the watch missed")
			}
			if number, status := w.newest("kept"); number != 2 || status != release.Failed || w.chart("kept") != "two" {
				t.Fatalf("shows %d %s %q", number, status, w.chart("kept"))
			}
			if w.chart("again") != "other" {
				t.Fatalf("shows the chart %q of a record that was replaced", w.chart("again"))
			}
			c.write("gone", 1, release.Deployed, "gone1", "one")
			c.delete("kept", 2)
			c.delete("again", 1)
			c.write("again", 1, release.Deployed, "again1", "one")
			synctest.Wait()
		}
		w.expect(t, watchExpired, 5)
	})
}

// TestAWatchThatStartsOverAgainAndAgainIsSoonRight has a watch rejected as soon as it is right again. After ten times in
// a row, sparing the API server matters more.
func TestAWatchThatStartsOverAgainAndAgainIsSoonRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := tap(c)
		w := c.start()
		for n := 1; n <= 15; n++ {
			l.cut()
			c.write("a", n, release.Deployed, fmt.Sprint("a", n), "chart")
			rejected := time.Now()
			l.tell(apierrors.NewResourceExpired("too old").Status())
			for number := 0; number != n; number, _ = w.newest("a") {
				advance(10 * time.Millisecond)
			}
			synctest.Wait()
			if took := time.Since(rejected); n <= 10 && took > 4*time.Second || n > 10 && (took < 30*time.Second || took > 40*time.Second) {
				t.Errorf("right %s after the watch was rejected for time %d", took, n)
			}
		}
		if lists, _ := l.counts(); lists != 16 {
			t.Errorf("%d lists", lists)
		}
	})
}

// TestAnAPIServerThatListsSlowlyIsNotListedAllTheTime has each list take 6 s, and each watch rejected, as by an API
// server whose watch cache is too small.
func TestAnAPIServerThatListsSlowlyIsNotListedAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := tap(c)
		var enough atomic.Bool
		c.metadata.PrependWatchReactor("secrets", func(clienttesting.Action) (bool, apiwatch.Interface, error) {
			return !enough.Load(), nil, apierrors.NewResourceExpired("too old")
		})
		w := c.start(func(cfg *watch.Config) {
			cfg.Metadata = delayed{Interface: cfg.Metadata, before: func(ctx context.Context, _ string) error {
				return pass(ctx, 6*time.Second)
			}}
		})
		advance(10 * time.Minute)
		if lists, _ := l.counts(); lists < 20 || lists > 26 { // ten, and then one every 36 to 45 s
			t.Errorf("%d lists within ten minutes", lists)
		}
		w.expect(t, watchUp, 0)
		enough.Store(true)
		advance(time.Minute)
		w.expect(t, watchUp, 1) // and lived for long
		for range 3 {
			l.tell(apierrors.NewResourceExpired("too old").Status())
			advance(7 * time.Second)
			w.expect(t, watchUp, 1)
		}
	})
}

func TestALabelThatWasEditedMeanwhileMovesItsRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		l := tap(c)
		w := c.start()
		l.cut()
		c.relabel("a", 1, "b")
		l.tell(apierrors.NewResourceExpired("too old").Status())
		advance(time.Second)
		before, _ := w.newest("a")
		after, _ := w.newest("b")
		if before != 0 || after != 1 {
			t.Errorf("shows revision %d of the old release and %d of the new one", before, after)
		}
	})
}

// TestAListIsAppliedAsAWhole looks at every value that the sink gets of a release of which a watch missed many
// revisions.
func TestAListIsAppliedAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		l := tap(c)
		w := c.start()
		before := w.times()
		l.cut()
		for number := 2; number <= 50; number++ {
			c.write("a", number, release.Superseded, "a"+strings.Repeat("x", number), "many")
		}
		c.write("a", 51, release.Deployed, "a51", "last")
		l.tell(apierrors.NewResourceExpired("too old").Status())
		advance(time.Second)
		if number, _ := w.newest("a"); number != 51 || w.chart("a") != "last" {
			t.Errorf("shows %d %q", number, w.chart("a"))
		}
		// Once from the list, and once with the payload.
		if got := w.times() - before; got != 2 {
			t.Errorf("%d values of a release that changed once", got)
		}
		if c.total() != 2 {
			t.Errorf("%d GETs, want those of the first and the last revision", c.total())
		}
	})
}

func TestAConnectionThatIsLostCostsNoList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		l := tap(c)
		w := c.start()
		lost := apierrors.NewClientErrorReporter(500, "GET", "ClientWatchDecoding").AsObject(errors.New("http2: client connection lost"))
		l.tell(*lost.(*metav1.Status))
		advance(2 * time.Second)
		if lists, watches := l.counts(); lists != 1 || watches != 2 {
			t.Errorf("%d lists and %d watches, want one list and two watches", lists, watches)
		}
		w.expect(t, watchUp, 1)
		c.write("a", 2, release.Deployed, "a2", "two")
		synctest.Wait()
		if w.chart("a") != "two" {
			t.Error("the watch was not resumed")
		}
	})
}

// TestAStreamedListThatIsAlwaysCutIsReplaced has streamed lists cut off, at once or after some seconds, as by a proxy that
// ends each response.
func TestAStreamedListThatIsAlwaysCutIsReplaced(t *testing.T) {
	for _, after := range []time.Duration{0, 3 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.write("a", 1, release.Deployed, "a1", "one")
				l := tap(c)
				var streams atomic.Int64
				c.metadata.PrependWatchReactor("secrets", func(action clienttesting.Action) (bool, apiwatch.Interface, error) {
					if action.(clienttesting.WatchActionImpl).ListOptions.SendInitialEvents == nil {
						return false, nil, nil
					}
					streams.Add(1)
					fake := apiwatch.NewFakeWithChanSize(1, false)
					fake.Add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: objectName("a", 1), ResourceVersion: "1"}})
					time.AfterFunc(after, fake.Stop)
					return true, fake, nil
				})
				w := c.start(func(cfg *watch.Config) { cfg.Metadata = streaming{cfg.Metadata} })
				advance(after + time.Second)
				if err := w.Ready(); err == nil || !strings.Contains(err.Error(), "the server ended it") {
					t.Errorf("ready: %v", err)
				}
				w.expect(t, watchUp, 0)
				advance(2*after + 6*time.Second)
				lists, _ := l.counts()
				if err := w.Ready(); err != nil || streams.Load() != 3 || lists != 1 || w.chart("a") != "one" {
					t.Errorf("chart %q, ready: %v, after %d streams and %d lists", w.chart("a"), err, streams.Load(), lists)
				}
				w.expect(t, watchUp, 1)
			})
		})
	}
}

// streaming is a client of a server that streams lists.
type streaming struct{ metadata.Interface }

func TestOneBadNamespaceIsOneBadNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		var forbidden atomic.Bool
		forbidden.Store(true)
		c.metadata.PrependReactor("list", "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
			if action.GetNamespace() != "other" || !forbidden.Load() {
				return false, nil, nil
			}
			return true, nil, apierrors.NewForbidden(secrets.GroupResource(), "", errors.New("no role"))
		})
		w := c.start(func(cfg *watch.Config) { cfg.Namespaces = []string{"ns", "other"} })
		advance(5 * time.Second)
		if w.Ready() != nil || w.synced != 1 || w.chart("a") != "one" {
			t.Errorf("ready: %v, synced %d times, chart %q", w.Ready(), w.synced, w.chart("a"))
		}
		if got := problems(w); !strings.Contains(got, `never listed: secrets in "other": cannot list secrets in namespace "other"`) {
			t.Errorf("problems %q", got)
		}
		forbidden.Store(false)
		advance(5 * time.Second)
		if got := problems(w); got != "" {
			t.Errorf("problems %q after the role was granted", got)
		}
	})
}

// TestANamespaceThatIsForbiddenSlowlyIsNotWaitedFor has each 403 take longer than a response may before the watch is
// down.
func TestANamespaceThatIsForbiddenSlowlyIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCluster(t).start(func(cfg *watch.Config) {
			cfg.Namespaces = []string{"ns", "other"}
			cfg.Metadata = delayed{Interface: cfg.Metadata, before: func(ctx context.Context, namespace string) error {
				if namespace != "other" {
					return nil
				}
				return errors.Join(pass(ctx, 6*time.Second), apierrors.NewForbidden(secrets.GroupResource(), "", errors.New("no role")))
			}}
		})
		advance(20 * time.Second)
		if err := w.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
	})
}

func TestANamespaceThatIsUnavailableIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.metadata.PrependReactor("list", "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
			return action.GetNamespace() == "other", nil, apierrors.NewServiceUnavailable("starting")
		})
		w := c.start(func(cfg *watch.Config) { cfg.Namespaces = []string{"ns", "other"} })
		advance(time.Hour)
		if err := w.Ready(); err == nil || w.synced != 0 {
			t.Errorf("ready: %v, synced %d times", err, w.synced)
		}
	})
}

// TestAStreamedListThatNeverEndsIsReplaced has a server that streams the records of a list, and never says that it is
// complete.
func TestAStreamedListThatNeverEndsIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		l := tap(c)
		c.metadata.PrependWatchReactor("secrets", func(action clienttesting.Action) (bool, apiwatch.Interface, error) {
			if action.(clienttesting.WatchActionImpl).ListOptions.SendInitialEvents == nil {
				return false, nil, nil
			}
			fake := apiwatch.NewFakeWithChanSize(1, false)
			fake.Add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: objectName("a", 1), ResourceVersion: "1"}})
			return true, fake, nil
		})
		w := c.start(func(cfg *watch.Config) { cfg.Metadata = streaming{cfg.Metadata} })
		advance(4 * time.Second)
		if lists, _ := l.counts(); lists != 0 || w.Ready() == nil {
			t.Errorf("%d lists, ready: %v, although the stream may go on", lists, w.Ready())
		}
		advance(2 * time.Second)
		if err := w.Ready(); err != nil || w.chart("a") != "one" {
			t.Errorf("chart %q, ready: %v", w.chart("a"), err)
		}
		w.expect(t, watchUp, 1)
	})
}

// TestASilentWatchIsResumed has a watch that stays open and brings nothing any more, not even bookmarks, like that of a
// proxy that has lost the API server.
func TestASilentWatchIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		l := tap(c)
		w := c.start()
		began := w.metric(lastEvent)
		l.cut()
		advance(150 * time.Second)
		if _, watches := l.counts(); watches != 1 {
			t.Errorf("%d watches, although bookmarks come every minute or two", watches)
		}
		advance(time.Minute)
		if lists, watches := l.counts(); lists != 1 || watches != 2 {
			t.Errorf("%d lists and %d watches, want one list and two watches", lists, watches)
		}
		if heard := w.metric(lastEvent) - began; heard != 0 {
			t.Errorf("the last event came %v s after the first watch began, although there was none", heard)
		}
		w.expect(t, watchUp, 1)
		c.write("a", 2, release.Deployed, "a2", "two")
		synctest.Wait()
		if w.chart("a") != "two" || w.metric(lastEvent) == began {
			t.Error("the watch was not resumed")
		}
	})
}

// delayed is a client of a server that does not stream lists. Each list waits for before, and fails if that does.
type delayed struct {
	metadata.Interface
	metadata.ResourceInterface
	before    func(ctx context.Context, namespace string) error
	namespace string
}

func (d delayed) Resource(resource schema.GroupVersionResource) metadata.Getter {
	d.ResourceInterface = d.Interface.Resource(resource)
	return d
}

func (d delayed) IsWatchListSemanticsUnSupported() bool { return true }

func (d delayed) Namespace(namespace string) metadata.ResourceInterface {
	d.namespace = namespace
	return d
}

func (d delayed) List(ctx context.Context, o metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	if err := d.before(ctx, d.namespace); err != nil {
		return nil, err
	}
	return d.ResourceInterface.List(ctx, o)
}

// pass waits until some time has passed, or the context ends.
func pass(ctx context.Context, some time.Duration) error {
	select {
	case <-time.After(some):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestAListWithoutAnAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		var left atomic.Int64
		left.Store(1)
		w := c.start(func(cfg *watch.Config) {
			cfg.Metadata = delayed{Interface: cfg.Metadata, before: func(ctx context.Context, _ string) error {
				if left.Add(-1) >= 0 {
					<-ctx.Done()
				}
				return ctx.Err()
			}}
		})
		advance(time.Minute)
		if w.chart("a") != "" {
			t.Error("a list is given up that the server may still answer")
		}
		advance(10 * time.Second)
		if err := w.Ready(); err != nil || w.chart("a") != "one" {
			t.Errorf("chart %q, ready: %v", w.chart("a"), err)
		}
	})
}
