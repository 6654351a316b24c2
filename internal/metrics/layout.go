package metrics

import (
	"slices"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// layout says which release is in which slot of which block. Its blocks grow
// and shrink with the number of releases: all but one are more than a quarter
// full. It has no lock of its own.
type layout struct {
	families   []Family
	blocks     []*block
	places     map[release.Key]place
	namespaces map[string]*neighbourhood
	dirty      []*block // each once
	// stale says that a line changed, or a block went away, since the last
	// exposition was made.
	stale bool
}

// neighbourhood is where the releases of one namespace go.
type neighbourhood struct {
	releases int
	block    *block // where one was put last
}

func newLayout(families []Family) layout {
	return layout{families: families, places: make(map[release.Key]place), namespaces: make(map[string]*neighbourhood)}
}

// set puts a release in its slot, a new one near its namespace's others, and
// returns what was there before, nil if it is new.
func (l *layout) set(r *release.Release) (before *release.Release) {
	at, known := l.places[r.Key]
	changed := everyFamily
	if known {
		before = at.block.slots[at.slot]
		changed = l.changed(before, r)
	} else {
		near := l.namespaces[r.Namespace]
		if near == nil {
			near = &neighbourhood{}
			l.namespaces[r.Namespace] = near
		}
		near.releases++
		near.block = l.roomy(near.block)
		at = place{near.block, near.block.free()}
		l.places[r.Key] = at
	}
	at.block.put(at.slot, r)
	l.mark(at.block, changed)
	return before
}

// changed returns the families in which two values of a release differ.
func (l *layout) changed(a, b *release.Release) familySet {
	var set familySet
	for i := range l.families {
		if !l.families[i].same(a, b) {
			set |= 1 << i
		}
	}
	return set
}

// remove empties a release's slot and returns what was there, nil if nothing.
func (l *layout) remove(key release.Key) *release.Release {
	at, known := l.places[key]
	if !known {
		return nil
	}
	before := at.block.slots[at.slot]
	delete(l.places, key)
	if near := l.namespaces[key.Namespace]; near.releases > 1 {
		near.releases--
	} else {
		delete(l.namespaces, key.Namespace)
	}
	at.block.put(at.slot, nil)
	l.mark(at.block, everyFamily)
	l.tidy(at.block)
	return before
}

// roomy returns a block with a free slot: the wanted one, else the last one,
// else any, else a new one.
func (l *layout) roomy(wanted *block) *block {
	if wanted != nil && wanted.used < blockSlots {
		return wanted
	}
	for _, b := range slices.Backward(l.blocks) {
		if b.used < blockSlots {
			return b
		}
	}
	b := &block{slots: new(slots), position: len(l.blocks)}
	l.blocks = append(l.blocks, b)
	return b
}

// tidy moves what is left in a sparse block to another that has room to spare.
func (l *layout) tidy(sparse *block) {
	if sparse.used > blockSlots/4 {
		return
	}
	var to *block
	if sparse.used > 0 {
		if to = l.host(sparse); to == nil {
			return
		}
		for _, r := range sparse.slots {
			if r != nil {
				at := to.free()
				to.put(at, r)
				l.places[r.Key] = place{to, at}
			}
		}
		l.mark(to, everyFamily)
	}
	last := l.blocks[len(l.blocks)-1]
	l.blocks[sparse.position], last.position = last, sparse.position
	l.blocks[len(l.blocks)-1] = nil
	l.blocks = l.blocks[:len(l.blocks)-1]
	l.stale = true
	// Nothing may hold on to the block: a scrape that would forget the dirty
	// ones may never come.
	l.dirty = slices.DeleteFunc(l.dirty, func(b *block) bool { return b == sparse })
	for _, near := range l.namespaces {
		if near.block == sparse {
			near.block = to
		}
	}
}

// host returns a block that stays half empty when it takes in a sparse one.
func (l *layout) host(sparse *block) *block {
	for _, b := range l.blocks {
		if b != sparse && b.used+sparse.used <= blockSlots/2 {
			return b
		}
	}
	return nil
}

// mark notes that a block's segments of some families have to be made anew.
func (l *layout) mark(b *block, changed familySet) {
	if b.dirty == 0 && changed != 0 {
		l.dirty = append(l.dirty, b)
		l.stale = true
	}
	b.dirty |= changed
}

// sorted returns the same releases laid out anew in the order of their keys.
func (l *layout) sorted() layout {
	all := make([]*release.Release, 0, len(l.places))
	for _, at := range l.places {
		all = append(all, at.block.slots[at.slot])
	}
	slices.SortFunc(all, func(a, b *release.Release) int { return a.Compare(b.Key) })
	made := newLayout(l.families)
	for _, r := range all {
		made.set(r)
	}
	return made
}
