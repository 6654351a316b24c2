package web_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/web"
)

// fake is a source that tests fill.
type fake struct {
	mu       sync.Mutex
	releases []*release.Release             // sorted; guarded by mu
	details  map[release.Key]release.Detail // of those that have more to tell; guarded by mu
	awaited  error                          // guarded by mu
	problems []release.Problem              // guarded by mu
}

func (f *fake) Releases() ([]*release.Release, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.releases, f.awaited
}

func (f *fake) Release(_ context.Context, key release.Key) (release.Detail, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d, known := f.details[key]; known || f.awaited != nil {
		return d, f.awaited
	}
	i := slices.IndexFunc(f.releases, func(r *release.Release) bool { return r.Key == key })
	if i < 0 {
		return release.Detail{Key: key, Absence: release.Absence{Cause: release.NoRecord, Storages: []release.Storage{release.Secrets}}}, nil
	}
	r := f.releases[i]
	return release.Detail{Key: key, Shown: r, Revisions: []*release.Revision{r.Newest}}, nil
}

func (f *fake) Problems() []release.Problem {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.problems
}

func (f *fake) set(releases ...*release.Release) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.releases = sorted(releases)
}

func sorted(releases []*release.Release) []*release.Release {
	slices.SortFunc(releases, func(a, b *release.Release) int { return a.Compare(b.Key) })
	return releases
}

// routes returns what a server with this source serves.
func routes(tb testing.TB, source web.Source) http.Handler {
	tb.Helper()
	return routesOf(tb, web.Config{Releases: source, ReadsPayloads: true})
}

func routesWithoutPayloads(tb testing.TB, source web.Source) http.Handler {
	tb.Helper()
	return routesOf(tb, web.Config{Releases: source})
}

func routesOf(tb testing.TB, cfg web.Config) http.Handler {
	tb.Helper()
	cfg.Version, cfg.PagesHosts = "1.2.3", []string{"example.com"} // the host of httptest.NewRequest
	handler, err := web.Pages(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return handler
}

var errAwaited = errors.New("waiting for the initial list of secrets in all namespaces")
