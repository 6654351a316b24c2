package watch_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/watch"
)

// listed is what Releases returns, in its order.
func (w *watching) listed(t *testing.T) string {
	t.Helper()
	all, err := w.Releases()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%s:%d ", r.Name, r.Newest.Number)
	}
	return strings.TrimSpace(b.String())
}

func TestReleasesAreListedInOrderAsTheyAreNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("b", 1, release.Deployed, "b1", "one")
		c.write("a", 1, release.Deployed, "a1", "one")
		w := c.start()
		if got := w.listed(t); got != "a:1 b:1" {
			t.Errorf("got %q", got)
		}
		before, _ := w.Releases()
		c.write("a", 2, release.Failed, "a2", "two")
		c.write("c", 1, release.Deployed, "c1", "one")
		c.delete("b", 1)
		synctest.Wait()
		if got := w.listed(t); got != "a:2 c:1" {
			t.Errorf("got %q", got)
		}
		if before[0].Newest.Number != 1 || before[1].Name != "b" {
			t.Error("a list that was handed out before has changed")
		}
	})
}

func TestNothingIsListedBeforeTheInitialList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.metadata.PrependReactor("list", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewServiceUnavailable("starting")
		})
		w := c.start()
		_, all := w.Releases()
		_, one := w.Release(t.Context(), release.Key{Namespace: "ns", Name: "a"})
		for _, err := range []error{all, one} {
			if err == nil || !strings.Contains(err.Error(), "waiting for the initial list of secrets in all namespaces") {
				t.Errorf("got %v", err)
			}
		}
		if got := problems(w); !strings.Contains(got, "cannot list secrets in all namespaces: starting") {
			t.Errorf("problems %q", got)
		}
	})
}

// problems are those of a watcher, one on a line.
func problems(w *watching) string {
	var all []string
	for _, p := range w.Problems() {
		all = append(all, fmt.Sprintf("%s: %s in %q: %v", p.Kind, p.Storage, p.Namespace, p.Err))
	}
	return strings.Join(all, "\n")
}

func TestReleaseTellsOfItsRevisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Superseded, "a1", "one")
		c.write("a", 10, release.Uninstalled, "a10", "ten")
		c.write("a", 9, release.Superseded, "a9", "nine")
		w := c.start()
		d, err := w.Release(t.Context(), release.Key{Namespace: "ns", Name: "a"})
		var numbers []int
		for _, r := range d.Revisions {
			numbers = append(numbers, r.Number)
		}
		if err != nil || d.Shown == nil || d.Failure != nil || d.Absence.Cause != "" || !slices.Equal(numbers, []int{10, 9, 1}) {
			t.Errorf("got %+v with revisions %v, %v", d, numbers, err)
		}
	})
}

func TestAPayloadIsReadAgainWhenSomebodyLooksAndItWasWrittenSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.PendingInstall, "a1", "one")
		w := c.start()
		look := func() *release.Payload {
			d, err := w.Release(t.Context(), release.Key{Namespace: "ns", Name: "a"})
			if err != nil {
				t.Fatal(err)
			}
			return d.Shown.Payload
		}
		read := time.Now().UTC()
		if got := look(); c.total() != 1 || !got.Read.Equal(read) {
			t.Errorf("%d GETs although nothing was written", c.total())
		}
		advance(time.Hour)
		c.write("a", 1, release.Failed, "a1", "one")
		synctest.Wait()
		if c.total() != 1 {
			t.Errorf("%d GETs before anybody has looked", c.total())
		}
		var looking sync.WaitGroup
		for range 10 {
			looking.Go(func() {
				if got := look(); got.ResourceVersion != 2 || !got.Read.Equal(read.Add(time.Hour)) {
					t.Errorf("read at %s, at version %d", got.Read, got.ResourceVersion)
				}
			})
		}
		looking.Wait()
		look()
		if c.total() != 2 {
			t.Errorf("%d GETs for ten people and one more, want one more than before", c.total())
		}
	})
}

func TestAPayloadThatCannotBeReadAgainIsTriedOncePerWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.PendingInstall, "a1", "one")
		w := c.start()
		c.write("a", 1, release.Failed, "a1", "one")
		synctest.Wait()
		c.answer(http.StatusForbidden)
		for range 3 {
			d, err := w.Release(t.Context(), release.Key{Namespace: "ns", Name: "a"})
			if err != nil || d.Failure == nil || d.Shown.Payload.Head.Chart.Name != "one" || d.Shown.Payload.ResourceVersion != 1 {
				t.Errorf("got %+v, %v; want what was read before, and why no more", d, err)
			}
		}
		if c.total() != 2 {
			t.Errorf("%d GETs, want one more than before", c.total())
		}
	})
}

func TestPeopleCannotCauseMoreThanSoManyGETs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		const releases = 100
		for i := range releases {
			c.write(fmt.Sprint("a", i), 1, release.PendingInstall, fmt.Sprint("a", i), "one")
		}
		w := c.start()
		for i := range releases {
			c.write(fmt.Sprint("a", i), 1, release.Deployed, fmt.Sprint("a", i), "one")
		}
		synctest.Wait()
		before := c.total()
		for i := range releases {
			if _, err := w.Release(t.Context(), release.Key{Namespace: "ns", Name: fmt.Sprint("a", i)}); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.total() - before; got == 0 || got > 20 {
			t.Errorf("%d GETs at once because of %d pages", got, releases)
		}
	})
}

func TestReleaseTellsWhyItsPayloadIsNotRead(t *testing.T) {
	for name, tc := range map[string]struct {
		status        int
		want, problem string
	}{
		"an error that may pass": {http.StatusInternalServerError, "get secrets ns/sh.helm.release.v1.a.v1", ""},
		"a rule that is missing": {http.StatusForbidden, "get secrets ns/sh.helm.release.v1.", "payloads forbidden: secrets in \"ns\": <nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.write("a", 1, release.Deployed, "a1", "one")
				c.write("b", 1, release.Deployed, "b1", "one")
				c.answer(tc.status)
				w := c.start()
				key := release.Key{Namespace: "ns", Name: "a"}
				d, _ := w.Release(t.Context(), key)
				if d.Failure == nil || !strings.Contains(d.Failure.Error, tc.want) || d.Failure.At.IsZero() {
					t.Errorf("failure %+v, want %q", d.Failure, tc.want)
				}
				if got := problems(w); got != tc.problem {
					t.Errorf("problems %q, want %q", got, tc.problem)
				}
				c.answer(0)
				advance(time.Minute)
				if d, _ = w.Release(t.Context(), key); d.Failure != nil || problems(w) != "" {
					t.Errorf("failure %+v and problems %s after it healed", d.Failure, problems(w))
				}
			})
		})
	}
}

func TestReleaseTellsWhyItIsNotShown(t *testing.T) {
	for name, tc := range map[string]struct {
		change    func(*watch.Config)
		namespace string
		want      release.Absence
	}{
		"a namespace that is not watched": {func(cfg *watch.Config) { cfg.Namespaces = []string{"ns"} }, "elsewhere", release.Absence{Cause: release.NamespaceNotWatched}},
		"a namespace that is denied":      {func(cfg *watch.Config) { cfg.DeniedNamespaces = []string{"elsewhere"} }, "elsewhere", release.Absence{Cause: release.NamespaceDenied}},
		"no record":                       {func(*watch.Config) {}, "ns", release.Absence{Cause: release.NoRecord, Storages: []release.Storage{release.Secrets}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCluster(t).start(tc.change)
				d, err := w.Release(t.Context(), release.Key{Namespace: tc.namespace, Name: "a"})
				if err != nil || d.Shown != nil {
					t.Errorf("got %+v, %v", d, err)
				}
				if diff := cmp.Diff(tc.want, d.Absence); diff != "" {
					t.Errorf("absence (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestReleasesDoNotMissAChange lists while changes come, and looks whether the last of them is in a list that
// is made afterwards.
func TestReleasesDoNotMissAChange(t *testing.T) {
	c := newCluster(t)
	for i := range 3_000 {
		c.write(fmt.Sprintf("other-%d", i), 1, release.Deployed, fmt.Sprint(i), "one")
	}
	synctest.Test(t, func(t *testing.T) {
		c.t = t
		w := c.start(func(cfg *watch.Config) { cfg.FetchConcurrency = 0 })
		for i := range 50 {
			listing := make(chan struct{})
			go func() {
				defer close(listing)
				_, _ = w.Releases()
			}()
			c.write("a", i+1, release.Deployed, fmt.Sprint("a", i), "one")
			<-listing
			synctest.Wait()
			if got := w.listed(t); !strings.HasPrefix(got, fmt.Sprintf("a:%d ", i+1)) {
				t.Fatalf("after change %d the list begins with %.20s", i+1, got)
			}
		}
	})
}
