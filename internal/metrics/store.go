// Package metrics holds what is exposed: the families about releases, and the
// exporter's own telemetry.
package metrics

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Store holds the releases to expose. It is written by events and read by
// scrapes, from any number of goroutines.
type Store struct {
	families []Family
	pending  bool // whether a release without a payload awaits one

	mu       sync.Mutex
	releases map[release.Key]*release.Release // guarded by mu
	counts   counts                           // guarded by mu
	synced   bool                             // guarded by mu
}

// counts are kept up to date at each change, so that no scrape has to count.
type counts struct {
	statuses map[release.Status]int
	tracked  int
	pending  int
	shadowed int
}

// NewStore returns an empty store that exposes the given families. Payloads
// says whether payloads are read at all.
func NewStore(families []Family, payloads bool) *Store {
	return &Store{
		families: families,
		pending:  payloads,
		releases: make(map[release.Key]*release.Release),
		counts:   counts{statuses: make(map[release.Status]int)},
	}
}

// Set says that a release is now so. The store keeps the pointer; the value is
// never changed.
func (s *Store) Set(r *release.Release) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(s.releases[r.Key], -1)
	s.count(r, 1)
	s.releases[r.Key] = r
}

// Remove says that a release is gone.
func (s *Store) Remove(key release.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(s.releases[key], -1)
	delete(s.releases, key)
}

// Synced says that the initial list has been delivered. Before that there is
// nothing to expose: an answer without releases would be read as their end.
func (s *Store) Synced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = true
}

// count requires mu.
func (s *Store) count(r *release.Release, by int) {
	if r == nil {
		return
	}
	s.counts.statuses[r.Newest.Status] += by
	s.counts.tracked += by * (r.Tracked + r.Shadowed)
	if r.Payload == nil && s.pending {
		s.counts.pending += by
	}
	if r.Shadowed > 0 {
		s.counts.shadowed += by
	}
}

// snapshot returns all releases in the order of their keys, and false if the
// initial list has not been delivered.
func (s *Store) snapshot() ([]*release.Release, bool) {
	s.mu.Lock()
	if !s.synced {
		s.mu.Unlock()
		return nil, false
	}
	all := make([]*release.Release, 0, len(s.releases))
	for _, r := range s.releases {
		all = append(all, r)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *release.Release) int { return a.Compare(b.Key) })
	return all, true
}

// Collectors returns the counts over all releases, for the telemetry.
func (s *Store) Collectors() []prometheus.Collector {
	all := []prometheus.Collector{
		s.gauge("revisions_tracked", "Number of revisions whose metadata is tracked.", nil,
			func(c counts) int { return c.tracked }),
		s.gauge("payloads_pending", "Number of releases whose newest revision's payload is still to be read.", nil,
			func(c counts) int { return c.pending }),
		s.gauge("releases_in_both_storages", "Number of releases with records in Secrets and in ConfigMaps, of which the Secrets are shown.", nil,
			func(c counts) int { return c.shadowed }),
	}
	for _, status := range release.Statuses() {
		all = append(all, s.gauge("releases", "Number of releases by status of the newest revision.",
			prometheus.Labels{"status": string(status)},
			func(c counts) int { return c.statuses[status] }))
	}
	return all
}

func (s *Store) gauge(name, help string, labels prometheus.Labels, value func(counts) int) prometheus.Collector {
	opts := prometheus.GaugeOpts{Name: prefix + name, Help: help, ConstLabels: labels}
	return prometheus.NewGaugeFunc(opts, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(value(s.counts))
	})
}
