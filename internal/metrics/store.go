// Package metrics holds what is exposed: the families about releases, and the counts over all of them.
package metrics

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Store holds the releases to expose, in blocks. Events write it and scrapes read it, from any number of
// goroutines; neither waits while a scrape is rendered or sent.
type Store struct {
	families []Family
	pending  bool // whether the payload of a release without one is to be read

	mu         sync.Mutex
	places     map[release.Key]int // guarded by mu; every place below len(places) is taken
	blocks     []*block            // guarded by mu
	counts     counts              // guarded by mu
	generation uint64              // guarded by mu; the number of the last change
	synced     bool                // guarded by mu
}

// blockSlots is how many releases share their segments. Larger blocks compress better, smaller ones cost less
// to render again when one release changes; docs/exposition.md has the figures.
const blockSlots = 256

// slots are the releases of one block, nil where there is none.
type slots [blockSlots]*release.Release

// block is a fixed number of slots. The release at place n is in slot n%blockSlots of block n/blockSlots.
type block struct {
	slots *slots // copied before a write while shared
	// shared says that a scrape may be reading the slots.
	shared bool
	// changed is the generation in which the lines of each family changed last.
	changed []uint64
}

// familySet is a set of families by their position, at most 64.
type familySet uint64

const everyFamily = ^familySet(0)

func (s familySet) has(i int) bool { return s&(1<<i) != 0 }

// counts are kept up to date at each change, so that a scrape does not count.
type counts struct {
	statuses map[release.Status]int
	tracked  int
	pending  int
	shadowed int
}

// NewStore returns an empty store for the given families. Payloads says whether payloads are read at all.
func NewStore(families []Family, payloads bool) *Store {
	return &Store{
		families: families, pending: payloads,
		places: make(map[release.Key]int),
		counts: counts{statuses: make(map[release.Status]int)},
	}
}

// Set says that a release is now like this. The store keeps the pointer; the value is never changed. Releases
// that are added one after the other share a block.
func (s *Store) Set(r *release.Release) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place, known := s.places[r.Key]
	changed := everyFamily
	if known {
		before := s.at(place)
		changed = s.changed(before, r)
		s.count(before, -1)
	} else {
		place = len(s.places)
		s.places[r.Key] = place
		if place/blockSlots == len(s.blocks) {
			s.blocks = append(s.blocks, &block{slots: new(slots), changed: make([]uint64, len(s.families))})
		}
	}
	s.put(place, r, changed)
	s.count(r, 1)
}

// Remove says that a release is gone. The last release takes its place.
func (s *Store) Remove(key release.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place, known := s.places[key]
	if !known {
		return
	}
	s.count(s.at(place), -1)
	delete(s.places, key)
	end := len(s.places)
	if last := s.at(end); place != end {
		s.places[last.Key] = place
		s.put(place, last, everyFamily)
	}
	if end%blockSlots == 0 {
		s.blocks[end/blockSlots] = nil
		s.blocks = s.blocks[:end/blockSlots]
		return
	}
	s.put(end, nil, everyFamily)
}

// Synced says that every initial list has been delivered. Until then nothing is exposed: an answer without
// releases would read as their end.
func (s *Store) Synced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = true
}

// at requires mu.
func (s *Store) at(place int) *release.Release {
	return s.blocks[place/blockSlots].slots[place%blockSlots]
}

// put writes a slot. It requires mu.
func (s *Store) put(place int, r *release.Release, changed familySet) {
	b := s.blocks[place/blockSlots]
	if b.shared {
		unshared := *b.slots
		b.slots, b.shared = &unshared, false
	}
	b.slots[place%blockSlots] = r
	if changed == 0 {
		return
	}
	s.generation++
	for i := range b.changed {
		if changed.has(i) {
			b.changed[i] = s.generation
		}
	}
}

// changed returns the families in which two values of a release differ.
func (s *Store) changed(a, b *release.Release) familySet {
	var set familySet
	for i := range s.families {
		if !s.families[i].same(a, b) {
			set |= 1 << i
		}
	}
	return set
}

// share returns the releases as they are now, block by block, and false until the initial lists have been
// delivered.
func (s *Store) share() ([]*slots, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*slots, len(s.blocks))
	for i, b := range s.blocks {
		b.shared = true
		all[i] = b.slots
	}
	return all, s.synced
}

// changedBlock is a block whose lines of some families changed.
type changedBlock struct {
	position int
	releases *slots
	families familySet
}

// snapshot is what changed after an earlier snapshot.
type snapshot struct {
	changed    []changedBlock
	blocks     int // how many there are
	generation uint64
}

// since returns what changed after the given generation, 0 for all, and false until the initial lists have been
// delivered.
func (s *Store) since(generation uint64) (snapshot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := snapshot{blocks: len(s.blocks), generation: s.generation}
	for i, b := range s.blocks {
		var families familySet
		for j, last := range b.changed {
			if last > generation {
				families |= 1 << j
			}
		}
		if families != 0 {
			b.shared = true
			now.changed = append(now.changed, changedBlock{i, b.slots, families})
		}
	}
	return now, s.synced
}

// count requires mu.
func (s *Store) count(r *release.Release, by int) {
	s.counts.statuses[r.Newest.Status] += by
	s.counts.tracked += by * (r.Stored + r.Shadowed)
	if r.Payload == nil && s.pending {
		s.counts.pending += by
	}
	if r.Shadowed > 0 {
		s.counts.shadowed += by
	}
}

// Collector returns the counts over all releases, which are consistent with each other in each scrape.
func (s *Store) Collector() prometheus.Collector {
	releases := prometheus.NewDesc("helm_state_metrics_releases", "Number of releases by status of the newest revision.", []string{"status"}, nil)
	tracked := prometheus.NewDesc("helm_state_metrics_revisions_tracked", "Number of stored revisions of the releases that are exposed.", nil, nil)
	pending := prometheus.NewDesc("helm_state_metrics_payloads_pending", "Number of releases whose newest revision's payload is still to be read.", nil, nil)
	shadowed := prometheus.NewDesc("helm_state_metrics_releases_in_both_storages", "Number of releases with records in Secrets and in ConfigMaps, of which the Secrets are shown.", nil, nil)
	return prometheus.CollectorFunc(func(to chan<- prometheus.Metric) {
		s.mu.Lock()
		counts := s.counts
		counts.statuses = maps.Clone(counts.statuses)
		s.mu.Unlock()
		send := func(desc *prometheus.Desc, n int, labels ...string) {
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), labels...)
		}
		for _, status := range release.Statuses() {
			send(releases, counts.statuses[status], string(status))
		}
		send(tracked, counts.tracked)
		send(pending, counts.pending)
		send(shadowed, counts.shadowed)
	})
}
