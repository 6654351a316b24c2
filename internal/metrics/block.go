package metrics

import "github.com/helm-state-metrics/helm-state-metrics/internal/release"

// blockSlots is how many releases share their segments. Larger blocks compress
// better, smaller ones cost less to make anew when one release changes; see
// docs/exposition.md for the figures that this was chosen by.
const blockSlots = 128

// slots are the releases of one block, nil where there is none.
type slots [blockSlots]*release.Release

// block is a fixed number of slots. Releases of one namespace are kept
// together as far as possible, since they tend to change together.
type block struct {
	slots *slots // replaced, not written, while shared
	// shared says that a scrape may be reading the slots.
	shared bool
	// dirty are the families whose lines changed since the segments were made.
	dirty familySet
	used  int
	// position is where the block is in layout.blocks.
	position int

	segments []segment // by family; guarded by Store.rendering
}

// familySet is a set of families by their position, at most 64.
type familySet uint64

const everyFamily = ^familySet(0)

func (s familySet) has(i int) bool { return s&(1<<i) != 0 }

// place is where a release is.
type place struct {
	block *block
	slot  int
}

// share returns the slots for reading without a lock: a later write copies
// them first.
func (b *block) share() *slots {
	b.shared = true
	return b.slots
}

// put writes one slot; nil empties it.
func (b *block) put(slot int, r *release.Release) {
	if b.shared {
		unshared := *b.slots
		b.slots, b.shared = &unshared, false
	}
	if b.slots[slot] != nil {
		b.used--
	}
	if r != nil {
		b.used++
	}
	b.slots[slot] = r
}

// free returns an empty slot. The block must have one.
func (b *block) free() int {
	for i, r := range b.slots {
		if r == nil {
			return i
		}
	}
	panic("metrics: no free slot in a block that is not full")
}
