package deflate

import (
	"encoding/binary"
	"math/bits"
)

// These are chosen by measurement: bytes and time of BenchmarkAppend.
const (
	word     = 8 // bytes that are read at once
	hashed   = 5 // bytes that are looked up, and so the shortest match
	hashBits = 12
	attempts = 4  // how many earlier places with the same hash are tried
	enough   = 64 // a match this long is taken without trying others
)

// anchor is a place that matches may begin at and refer to.
type anchor struct {
	place int32
	// before is the last anchor before this one with the same hash, negative
	// if there is none.
	before int32
	slot   uint16 // of the hash
	// matched says that a match began here. One will then begin wherever the
	// text around this place is repeated.
	matched bool
}

// finder finds what a text repeats. It knows only the anchors: those places at
// which a match was looked for, and those that a match has in common with its
// source.
type finder struct {
	text    []byte
	anchors []anchor // by place
	// follow is the anchor behind the last match's source: if lines go on to be
	// alike, then the next match is there.
	follow int
	// last is the last anchor of each hash, plus base. What is less than base
	// is of an earlier text, so that nothing has to be cleared between texts.
	last [1 << hashBits]uint32
	base uint32
}

func (f *finder) reset(text []byte) {
	f.base += uint32(len(f.anchors))
	if f.base == 0 || f.base >= 1<<31 {
		clear(f.last[:])
		f.base = 1
	}
	f.text, f.anchors, f.follow = text, f.anchors[:0], 0
}

// find returns the anchor and the length of the best match for what is at i,
// where there is at least a word, and makes it an anchor itself. The length is
// 0 if there is no match.
func (f *finder) find(i int) (source, length int) {
	anchors := f.anchors
	here := f.text[i:min(len(f.text), i+maxMatch)]
	next := int(f.note(i, slot(binary.LittleEndian.Uint64(here))))
	best := 0
	if f.follow < len(anchors) {
		s := int(anchors[f.follow].place)
		if n := matching(f.text[s:], here); n >= hashed && i-s <= maxDistance {
			if n >= enough {
				return f.follow, n
			}
			best, source, length = gain(n, i-s), f.follow, n
		}
	}
	// One that is better has the same word there, even if it is but as long.
	end := max(length, word) - word
	tail := binary.LittleEndian.Uint64(here[end:])
	for range attempts {
		if next < 0 {
			break
		}
		a := &anchors[next]
		s := int(a.place)
		if i-s > maxDistance {
			break
		}
		if there := f.text[s:]; end == 0 || binary.LittleEndian.Uint64(there[end:]) == tail {
			n := matching(there, here)
			if g := gain(n, i-s); n >= hashed && g > best {
				best, source, length = g, next, n
				// From here on they are farther, so they have to be longer.
				end = max(min(length+1, len(here)), word) - word
				tail = binary.LittleEndian.Uint64(here[end:])
			}
		}
		next = int(a.before)
	}
	return source, length
}

// gain is what a match is worth, in quarters of a bit: about four bits and a
// quarter for a literal, less those that grow with the distance.
func gain(length, distance int) int {
	return 17*length - 4*bits.Len(uint(distance))
}

func slot(here uint64) uint16 {
	return uint16(here << (64 - 8*hashed) * 0x9E3779B97F4A7C15 >> (64 - hashBits))
}

// note makes a place an anchor, and returns the one before it with the same
// hash.
func (f *finder) note(place int, slot uint16) int32 {
	last := &f.last[slot%(1<<hashBits)]
	before := int32(*last - f.base)
	*last = f.base + uint32(len(f.anchors))
	f.anchors = append(f.anchors, anchor{place: int32(place), before: before, slot: slot})
	return before
}

// take notes what a match for i, the last anchor, has in common with its
// source, and returns their distance.
func (f *finder) take(i, source, length int) int {
	f.anchors[len(f.anchors)-1].matched = true
	distance := i - int(f.anchors[source].place)
	end := i - distance + length
	next := source + 1
	for ; next < len(f.anchors); next++ {
		a := f.anchors[next]
		if int(a.place) >= end {
			break
		}
		// What is hashed has to be in the match as well.
		if a.matched && int(a.place) <= end-hashed {
			f.note(int(a.place)+distance, a.slot)
			f.anchors[len(f.anchors)-1].matched = true
		}
	}
	f.follow = next
	return distance
}

// matching returns how many bytes of b are the same in a, which is longer.
func matching(a, b []byte) int {
	a = a[:len(b)]
	n := 0
	for ; n <= len(b)-word; n += word {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
	}
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// same compares from the end, where a difference is likely.
func same(a, b []byte) bool {
	n := len(b)
	a = a[:n]
	for ; n >= word; n -= word {
		if binary.LittleEndian.Uint64(a[n-word:]) != binary.LittleEndian.Uint64(b[n-word:]) {
			return false
		}
	}
	for ; n > 0; n-- {
		if a[n-1] != b[n-1] {
			return false
		}
	}
	return true
}
