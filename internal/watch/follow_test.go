package watch_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// TestAWatchThatStartsOverAgainAndAgainIsSoonRight has a watch rejected as soon as it is right again.
func TestAWatchThatStartsOverAgainAndAgainIsSoonRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := tap(c)
		w := c.start()
		for n := 1; n <= 30; n++ {
			l.cut()
			c.write("a", n, release.Deployed, fmt.Sprint("a", n), "chart")
			rejected := time.Now()
			l.tell(apierrors.NewResourceExpired("too old").Status())
			for number := 0; number != n; number, _ = w.newest("a") {
				if advance(10 * time.Millisecond); time.Since(rejected) > 4*time.Second {
					t.Fatalf("not right %s after the watch was rejected for time %d", time.Since(rejected), n)
				}
			}
			synctest.Wait()
		}
		if lists, _ := l.counts(); lists > 32 {
			t.Errorf("%d lists", lists)
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

func TestAStreamedListThatIsCutIsNotUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		streams := 0
		var ended atomic.Bool
		cut := func(action clienttesting.Action) (bool, apiwatch.Interface, error) {
			if ended.Load() {
				return action.(clienttesting.WatchActionImpl).ListOptions.SendInitialEvents != nil, nil,
					apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "watch", secrets.GroupResource(), "", "", 0, true)
			}
			streams++
			fake := apiwatch.NewFakeWithChanSize(1, false)
			fake.Add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: objectName("a", 1), ResourceVersion: "1"}})
			fake.Stop()
			return true, fake, nil
		}
		c.metadata.PrependWatchReactor("secrets", cut)
		w := c.start(func(cfg *watch.Config) { cfg.Metadata = streaming{cfg.Metadata} })
		advance(time.Minute)
		if streams < 2 || streams > 25 {
			t.Errorf("%d streams within a minute, all of them cut", streams)
		}
		if err := w.Ready(); err == nil || !strings.Contains(err.Error(), "the server ended it") {
			t.Errorf("ready: %v", err)
		}
		w.expect(t, watchUp, 0)
		ended.Store(true)
		advance(4 * time.Second)
		if err := w.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
	})
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

// swallowing is a client of a server that does not stream lists, and does not answer them at first.
type swallowing struct {
	metadata.Interface
	metadata.ResourceInterface
	left *atomic.Int64
}

func (s swallowing) Resource(resource schema.GroupVersionResource) metadata.Getter {
	s.ResourceInterface = s.Interface.Resource(resource)
	return s
}

func (s swallowing) IsWatchListSemanticsUnSupported() bool { return true }

func (s swallowing) Namespace(string) metadata.ResourceInterface { return s }

func (s swallowing) List(ctx context.Context, o metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	if s.left.Add(-1) >= 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.ResourceInterface.List(ctx, o)
}

func TestAListWithoutAnAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		var left atomic.Int64
		left.Store(1)
		w := c.start(func(cfg *watch.Config) { cfg.Metadata = swallowing{Interface: cfg.Metadata, left: &left} })
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
