package metrics_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
)

// TestScrapesAgainstNaiveRenderer runs random changes and compares every kind of scrape with lines made one by
// one from the releases as they should be.
func TestScrapesAgainstNaiveRenderer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store, _ := filled(nil)
		h := metrics.NewHandler(store, none)
		model := map[release.Key]*release.Release{}
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			for range rapid.IntRange(0, 100).Draw(t, "changes") {
				i := rapid.IntRange(0, 300).Draw(t, "release")
				r := fleet.Member(i, rapid.IntRange(1, 3).Draw(t, "revision"))
				switch rapid.IntRange(0, 6).Draw(t, "change") {
				case 0, 1:
					store.Remove(r.Key)
					delete(model, r.Key)
					continue
				case 2:
					r.Payload = nil
				case 3:
					r.Deployed = 0
					r.Newest.Status = release.PendingUpgrade
				case 4:
					r.Newest.Status = rapid.SampledFrom(release.Statuses()).Draw(t, "status")
				}
				store.Set(r)
				model[r.Key] = r
			}
			want := naive(model)
			for _, encoding := range []string{"", "gzip"} {
				for _, accept := range []string{"", openMetrics} {
					got := sortedLines(unzip(t, h, encoding, accept, ""))
					if accept != "" {
						got = slices.DeleteFunc(got, func(l string) bool { return l == "# EOF" })
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Fatalf("encoding %q, accept %q (-want +got):\n%s", encoding, accept, diff)
					}
				}
			}
		}
	})
}

// naive writes the lines of all families with nothing but Sprintf.
func naive(model map[release.Key]*release.Release) []string {
	var lines []string
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	families, err := metrics.Families(metrics.Options{})
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		line("# HELP %s %s", f.Name, f.Help)
		line("# TYPE %s gauge", f.Name)
	}
	for _, r := range model {
		key := fmt.Sprintf("name=%q,namespace=%q", r.Name, r.Namespace)
		line("helm_release_created_timestamp_seconds{%s} %v", key, float64(r.Newest.Created))
		line("helm_release_modified_timestamp_seconds{%s} %v", key, float64(r.Newest.Modified))
		line("helm_release_revision{%s} %v", key, float64(r.Newest.Number))
		line("helm_release_stored_revisions{%s} %v", key, float64(r.Stored))
		if r.Deployed > 0 {
			line("helm_release_deployed_revision{%s} %v", key, float64(r.Deployed))
		}
		other := true
		for _, s := range []release.Status{"deployed", "failed", "pending-install", "pending-rollback", "pending-upgrade"} {
			is := 0
			if s == r.Newest.Status {
				is, other = 1, false
			}
			line("helm_release_status{%s,status=%q} %d", key, s, is)
		}
		if other {
			line("helm_release_other_status{%s,status=%q} 1", key, r.Newest.Status)
		}
		if r.Payload == nil {
			continue
		}
		c := r.Payload.Head.Chart
		line("helm_release_info{app_version=%q,chart=%q,chart_version=%q,%s,revision=%q} 1", c.AppVersion, c.Name, c.Version, key, fmt.Sprint(r.Newest.Number))
		line("helm_release_payload_bytes{%s} %v", key, float64(r.Payload.Bytes))
		line("helm_release_updated{%s} %v", key, float64(r.Payload.Head.LastDeployed.Unix()))
	}
	slices.Sort(lines)
	return lines
}

func sortedLines(text string) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	slices.Sort(lines)
	return lines
}

// unzip scrapes and returns the text, whatever the encoding.
func unzip(t interface{ Fatal(...any) }, h http.Handler, encoding, accept, query string) string {
	w := scrapeURL(h, "/metrics"+query, map[string]string{"Accept-Encoding": encoding, "Accept": accept})
	if encoding == "" {
		return w.Body.String()
	}
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	z.Multistream(false) // one member, which is all that some readers take
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(w.Body); len(rest) > 0 {
		t.Fatal("more follows the gzip member")
	}
	return string(text)
}

// TestAScrapeIsASnapshot changes all values of releases at once while many scrape: each answer shows one
// revision of a release throughout, or nothing.
func TestAScrapeIsASnapshot(t *testing.T) {
	const releases, rounds = 400, 30
	store, _ := filled(fleet.Of(releases))
	h := metrics.NewHandler(store, none)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for round := range rounds {
			for i := range releases {
				if (i+round)%17 == 0 {
					store.Remove(fleet.Member(i, 1).Key)
					continue
				}
				r := fleet.Member(i, 1000+round)
				r.Deployed = r.Newest.Number
				store.Set(r)
			}
		}
	}()
	var scrapers sync.WaitGroup
	for n := range 4 {
		scrapers.Go(func() {
			for stop := false; !stop; {
				select {
				case <-done:
					stop = true
				default:
				}
				checkConsistent(t, unzip(t, h, []string{"", "gzip"}[n%2], "", ""))
			}
		})
	}
	scrapers.Wait()
}

// checkConsistent compares revision and deployed_revision, which are equal in every release of the fleet, and
// counts that each is in all its families.
func checkConsistent(t *testing.T, text string) {
	t.Helper()
	values := map[string]map[string]string{}
	for line := range strings.Lines(text) {
		family, rest, found := strings.Cut(line, "{")
		if !found || family != "helm_release_revision" && family != "helm_release_deployed_revision" {
			continue
		}
		key, value, _ := strings.Cut(rest, "} ")
		if values[key] == nil {
			values[key] = map[string]string{}
		}
		if _, twice := values[key][family]; twice {
			t.Errorf("%s has two series in %s", key, family)
		}
		values[key][family] = value
	}
	for key, of := range values {
		if len(of) != 2 || of["helm_release_revision"] != of["helm_release_deployed_revision"] {
			t.Errorf("%s: one scrape shows %v", key, of)
		}
	}
}

func TestMemoryFollowsTheNumberOfReleasesDown(t *testing.T) {
	all := fleet.Of(10_000)
	store, _ := filled(all)
	h := metrics.NewHandler(store, none)
	full := fetch(h, "gzip")
	for i, r := range all {
		if i%100 != 0 { // what is left is spread over all blocks
			store.Remove(r.Key)
		}
	}
	left := fetch(h, "gzip")
	if left*50 > full {
		t.Errorf("%d bytes for a hundredth of the releases, %d for all", left, full)
	}
	if blocks := store.Blocks(); blocks != 1 {
		t.Errorf("%d blocks for 100 releases", blocks)
	}
	for _, r := range all {
		store.Remove(r.Key)
	}
	if blocks := store.Blocks(); blocks != 0 {
		t.Errorf("%d blocks for no release", blocks)
	}
	for _, r := range all {
		store.Set(r)
	}
	var text bytes.Buffer
	text.WriteString(unzip(t, h, "gzip", "", ""))
	if got := strings.Count(text.String(), "\nhelm_release_revision{"); got != len(all) {
		t.Errorf("%d releases after all came back, want %d", got, len(all))
	}
}

func TestTheLastReleaseGoes(t *testing.T) {
	only := fleet.Member(1, 1)
	store, _ := filled([]*release.Release{only})
	h := metrics.NewHandler(store, none)
	if text := unzip(t, h, "gzip", "", ""); !strings.Contains(text, only.Name) {
		t.Fatal("not shown")
	}
	store.Remove(only.Key)
	for _, encoding := range []string{"gzip", ""} {
		if text := unzip(t, h, encoding, "", ""); strings.Contains(text, only.Name) {
			t.Errorf("still shown, encoding %q", encoding)
		}
	}
}
