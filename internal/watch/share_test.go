package watch_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/watch"
)

func atMost(n int) func(*watch.Config) { return func(cfg *watch.Config) { cfg.MaxReleases = n } }

func TestReleasesBeyondTheLimitAreNeitherExposedNorRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for _, name := range []string{"a", "b", "c", "d"} { // created at once, so that the name decides
			c.write(name, 1, release.Deployed, name+"1", "chart")
		}
		w := c.start(atMost(2))
		if got := w.listed(t); got != "a:1 b:1" {
			t.Errorf("the list has %q", got)
		}
		if c.count("c", 1)+c.count("d", 1) != 0 || c.total() != 2 {
			t.Errorf("%d payloads were read, want those of a and b", c.total())
		}
		w.expect(t, `helm_state_metrics_releases_dropped{namespace="ns"}`, 2)
		if want := []release.Problem{{Kind: release.ReleasesDropped, Namespace: "ns", Dropped: 2}}; !cmp.Equal(want, w.Problems()) {
			t.Errorf("problems %v, want %v", w.Problems(), want)
		}
		d, err := w.Release(t.Context(), release.Key{Namespace: "ns", Name: "c"})
		if err != nil || d.Shown != nil || d.Absence.Cause != release.OverLimit || d.Absence.Limit != 2 {
			t.Errorf("got %+v, %v", d, err)
		}

		c.write("c", 2, release.Failed, "c2", "chart") // a change of one that is dropped
		c.write("aa", 1, release.Deployed, "aa1", "chart")
		synctest.Wait()
		if got := w.listed(t); got != "a:1 aa:1" {
			t.Errorf("after one more was created, the list has %q", got)
		}
		if number, _ := w.newest("b"); number != 0 {
			t.Error("b is still exposed")
		}

		c.delete("a", 1)
		c.delete("aa", 1)
		synctest.Wait()
		if before := c.count("c", 1) + c.count("c", 2); before != 0 {
			t.Errorf("c was read %d times at once, although more may be deleted", before)
		}
		advance(2 * time.Second)
		if got := w.listed(t); got != "b:1 c:2" || w.chart("c") != "chart" {
			t.Errorf("after two were deleted, the list has %q, and c has chart %q", got, w.chart("c"))
		}
		if c.count("b", 1) != 1 {
			t.Errorf("the payload of b was read %d times", c.count("b", 1))
		}
		c.delete("d", 1)
		synctest.Wait()
		if problems := w.Problems(); len(problems) != 0 {
			t.Errorf("problems %v", problems)
		}
		if families, err := w.registry.Gather(); err != nil || slices.ContainsFunc(families, isNamed("helm_state_metrics_releases_dropped")) {
			t.Errorf("helm_state_metrics_releases_dropped is still there, err %v", err)
		}
		if err := w.Ready(); err != nil {
			t.Error(err)
		}
	})
}

func isNamed(name string) func(*dto.MetricFamily) bool {
	return func(f *dto.MetricFamily) bool { return f.GetName() == name }
}

func TestShardsHaveEachReleaseOnce(t *testing.T) {
	const total = 3
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var want []string
		for i := range 60 {
			name := fmt.Sprintf("r%02d", i)
			c.write(name, 1, release.Deployed, name, "chart")
			want = append(want, name)
		}
		var shards []*watching
		for i := range total {
			shards = append(shards, c.start(func(cfg *watch.Config) { cfg.Shard, cfg.TotalShards = i, total }))
		}
		compare := func() {
			t.Helper()
			var got []string
			for i, w := range shards {
				all, err := w.Releases()
				if err != nil {
					t.Fatal(err)
				}
				if len(all) < len(want)/(2*total) {
					t.Errorf("shard %d has only %d of %d", i, len(all), len(want))
				}
				for _, r := range all {
					if r.Payload == nil {
						t.Errorf("the payload of %s was not read", r.Name)
					}
					got = append(got, r.Name)
				}
				w.expect(t, fmt.Sprintf(`helm_state_metrics_shard_ordinal{shard_ordinal="%d"}`, i), float64(i))
				w.expect(t, `helm_state_metrics_total_shards{}`, total)
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("of all shards together (-want +got):\n%s", diff)
			}
		}
		compare()
		if c.total() != len(want) {
			t.Errorf("there were %d GETs of %d payloads", c.total(), len(want))
		}
		for i, name := range want[:20] {
			c.relabel(name, 1, "x"+name) // it may belong to another shard then
			want[i] = "x" + name
		}
		slices.Sort(want)
		synctest.Wait()
		compare()
		key := release.Key{Namespace: "ns", Name: want[0]}
		for i, w := range shards {
			if d, err := w.Release(t.Context(), key); err != nil || (d.Shown != nil) != (i == key.Shard(total)) || d.Shown == nil && d.Absence.Shard != key.Shard(total) {
				t.Errorf("shard %d: got %+v, %v", i, d, err)
			}
		}
	})
}
