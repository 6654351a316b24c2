package watch_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/watch"
)

// listed is what Releases tells, in its order.
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
		_, one := w.Release(release.Key{Namespace: "ns", Name: "a"})
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

func problems(w *watching) string { return fmt.Sprint(w.Problems()) }

func TestReleaseTellsOfItsRevisionsAndItsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		c.write("a", 2, release.PendingUpgrade, "a2", "two")
		w := c.start()
		read := time.Now().UTC()
		advance(time.Hour)
		c.write("a", 2, release.Failed, "a2", "two")
		synctest.Wait()
		d, err := w.Release(release.Key{Namespace: "ns", Name: "a"})
		if err != nil || d.Shown == nil || len(d.Revisions) != 2 || d.Revisions[0].Number != 2 || d.Revisions[1].Number != 1 {
			t.Fatalf("got %+v, %v", d, err)
		}
		if p := d.Shown.Payload; !p.Read.Equal(read) || p.ResourceVersion != "1" || d.Shown.Newest.ResourceVersion != "2" {
			t.Errorf("read at %s at version %q, while the record is at %q", p.Read, p.ResourceVersion, d.Shown.Newest.ResourceVersion)
		}
		if d.Failure != nil || d.Absence != "" {
			t.Errorf("failure %v, absence %q", d.Failure, d.Absence)
		}
	})
}

func TestReleaseTellsWhyItsPayloadIsNotRead(t *testing.T) {
	for name, tc := range map[string]struct {
		status        int
		want, problem string
	}{
		"an error that may pass": {http.StatusInternalServerError, "fetch secrets ns/sh.helm.release.v1.a.v1", "[]"},
		"a rule that is missing": {http.StatusForbidden, "fetch secrets ns/sh.helm.release.v1.", `new payloads in secrets of ns must not be read`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.write("a", 1, release.Deployed, "a1", "one")
				c.write("b", 1, release.Deployed, "b1", "one")
				c.answer(tc.status)
				w := c.start()
				key := release.Key{Namespace: "ns", Name: "a"}
				d, _ := w.Release(key)
				if d.Failure == nil || !strings.Contains(d.Failure.Error, tc.want) || d.Failure.At.IsZero() {
					t.Errorf("failure %+v, want %q", d.Failure, tc.want)
				}
				if got := problems(w); !strings.Contains(got, tc.problem) {
					t.Errorf("problems %q, want %q", got, tc.problem)
				}
				c.answer(0)
				advance(time.Minute)
				if d, _ = w.Release(key); d.Failure != nil || problems(w) != "[]" {
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
		want      string
	}{
		"a namespace that is not watched": {func(cfg *watch.Config) { cfg.Namespaces = []string{"ns"} }, "elsewhere", "--namespaces"},
		"a namespace that is denied":      {func(cfg *watch.Config) { cfg.DeniedNamespaces = []string{"elsewhere"} }, "elsewhere", "--namespaces-denylist"},
		"no record":                       {func(*watch.Config) {}, "ns", "or only superseded ones"},
		"no record in the whole history":  {func(cfg *watch.Config) { cfg.History = true }, "ns", "No record of it is in the secrets of this namespace."},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCluster(t).start(tc.change)
				d, err := w.Release(release.Key{Namespace: tc.namespace, Name: "a"})
				if err != nil || d.Shown != nil || !strings.Contains(d.Absence, tc.want) {
					t.Errorf("got %+v, %v; want %q", d, err, tc.want)
				}
			})
		})
	}
}

func TestReleaseWhoseLastRecordWentIsLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.write("a", 1, release.Deployed, "a1", "one")
		w := c.start()
		c.metadata.PrependReactor("list", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewServiceUnavailable("busy")
		})
		c.delete("a", 1)
		synctest.Wait()
		d, _ := w.Release(release.Key{Namespace: "ns", Name: "a"})
		if d.Shown != nil || !strings.Contains(d.Absence, "is being looked up") {
			t.Errorf("got %+v", d)
		}
	})
}

// TestReleasesDoNotMissAChange lists while changes come, and looks whether the
// last of them is in a list that is made afterwards.
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
