// Package metrics holds what is exposed: the families about releases, and the
// exporter's own telemetry.
package metrics

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Store holds the releases to expose, in blocks whose text is deflated once
// and sent often. It is written by events and read by scrapes, from any number
// of goroutines; an event never waits for a scrape to render or to be sent.
type Store struct {
	families []Family
	headers  []segment // by family; immutable
	pending  bool      // whether a release without a payload awaits one

	mu     sync.Mutex
	layout layout // guarded by mu
	counts counts // guarded by mu
	synced bool   // guarded by mu

	// rendering is held while segments are made, so that scrapes that come at
	// once share them. It is taken before mu.
	rendering sync.Mutex
	deflater  *deflater   // guarded by rendering
	text      []byte      // guarded by rendering
	current   *exposition // guarded by rendering; nil before the first scrape
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
	s := &Store{
		families: families,
		pending:  payloads,
		layout:   newLayout(families),
		counts:   counts{statuses: make(map[release.Status]int)},
		deflater: newDeflater(),
	}
	for i := range families {
		s.headers = append(s.headers, s.deflater.segment(appendHeader(nil, &families[i])))
	}
	return s
}

// Set says that a release is now so. The store keeps the pointer; the value is
// never changed.
func (s *Store) Set(r *release.Release) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(s.layout.set(r), -1)
	s.count(r, 1)
}

// Remove says that a release is gone.
func (s *Store) Remove(key release.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(s.layout.remove(key), -1)
}

// Synced says that the initial list has been delivered. Before that there is
// nothing to expose: an answer without releases would be read as their end.
func (s *Store) Synced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The list may have come in any order; now each namespace is in a row.
	s.layout = s.layout.sorted()
	s.synced = true
}

// count requires mu.
func (s *Store) count(r *release.Release, by int) {
	if r == nil {
		return
	}
	s.counts.statuses[r.Newest.Status] += by
	s.counts.tracked += by * (r.Stored + r.Shadowed)
	if r.Payload == nil && s.pending {
		s.counts.pending += by
	}
	if r.Shadowed > 0 {
		s.counts.shadowed += by
	}
}

// expose returns the releases as they are now, deflated, and false if the
// initial list has not been delivered. It makes anew only the segments of
// blocks that changed since it was last called.
func (s *Store) expose() (*exposition, bool) {
	s.rendering.Lock()
	defer s.rendering.Unlock()
	s.mu.Lock()
	if !s.synced {
		s.mu.Unlock()
		return nil, false
	}
	if s.current != nil && !s.layout.stale {
		s.mu.Unlock()
		return s.current, true
	}
	jobs := make([]job, 0, len(s.layout.dirty))
	for _, b := range s.layout.dirty {
		jobs = append(jobs, job{b, b.share(), b.dirty})
		b.dirty = 0
	}
	clear(s.layout.dirty)
	s.layout.dirty, s.layout.stale = s.layout.dirty[:0], false
	blocks := slices.Clone(s.layout.blocks)
	s.mu.Unlock()

	for _, j := range jobs {
		s.render(j)
	}
	s.current = newExposition(s.headers, blocks)
	return s.current, true
}

// job is a block whose segments of some families have to be made anew.
type job struct {
	block    *block
	releases *slots
	families familySet
}

// render requires rendering.
func (s *Store) render(j job) {
	if j.block.segments == nil {
		j.block.segments = make([]segment, len(s.families))
	}
	for i := range s.families {
		if !j.families.has(i) {
			continue
		}
		s.text = s.text[:0]
		for _, r := range j.releases {
			if r != nil {
				s.text = s.families[i].append(s.text, r)
			}
		}
		j.block.segments[i] = s.deflater.segment(s.text)
	}
}

// share returns the releases as they are now, block by block, and false if the
// initial list has not been delivered.
func (s *Store) share() ([]*slots, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*slots, len(s.layout.blocks))
	for i, b := range s.layout.blocks {
		all[i] = b.share()
	}
	return all, s.synced
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
