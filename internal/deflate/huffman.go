package deflate

import (
	"math/bits"
	"slices"
)

const (
	maxSymbols = 288 // of which two exist only in the fixed code
	maxLength  = 15
)

// huffman is a canonical code.
type huffman struct {
	limit int // of the lengths
	// extras are how many extra bits follow the symbols from plain on.
	plain  int
	extras string

	lengths [maxSymbols]uint8 // in bits, 0 for a symbol that has no code
	codes   [512]code         // more than there are, so that nine bits need no check

	used    []uint32               // frequency<<9 | symbol, ascending
	weights [2 * maxSymbols]uint32 // of the leaves, then of the inner nodes
	parents [2 * maxSymbols]uint16
}

// code is the bits of a symbol, the first one lowest, in the low half, then
// their number, and then that number with the extra bits.
type code uint32

func (c code) with(extra uint64) uint64 { return uint64(c&0xffff) | extra<<(c>>16&31) }
func (c code) size() uint               { return uint(c >> 24) }

// build makes the code of least cost for the given frequencies or, where the
// limit matters, of nearly the least.
func (h *huffman) build(frequencies []uint32) {
	clear(h.lengths[:])
	h.used = h.used[:0]
	for symbol, f := range frequencies {
		if f > 0 {
			h.used = append(h.used, f<<9|uint32(symbol))
		}
	}
	var counts [maxLength + 2]uint16
	if len(h.used) < 2 {
		// A single symbol still takes a bit. Where there is none the first one
		// gets it, since some decoders want a code of distances to exist.
		symbol := 0
		if len(h.used) == 1 {
			symbol = int(h.used[0] & 511)
		}
		h.lengths[symbol], counts[1] = 1, 1
		h.assign(symbol+1, &counts)
		return
	}
	slices.Sort(h.used)
	h.depths(&counts)
	i := 0
	for length := h.limit; length > 0; length-- { // the rarest get the longest
		for range counts[length] {
			h.lengths[h.used[i]&511] = uint8(length)
			i++
		}
	}
	h.assign(len(frequencies), &counts)
}

// assign makes the codes of the given lengths, of which counts has how many
// there are of each.
func (h *huffman) assign(symbols int, counts *[maxLength + 2]uint16) {
	var next [maxLength + 2]uint16
	for length := 1; length <= maxLength; length++ {
		next[length+1] = (next[length] + counts[length]) << 1
	}
	for symbol, length := range h.lengths[:symbols] {
		if length == 0 {
			continue
		}
		size := code(length)
		if symbol >= h.plain {
			size += code(h.extras[symbol-h.plain])
		}
		h.codes[symbol] = code(bits.Reverse16(next[length]<<(16-length))) | code(length)<<16 | size<<24
		next[length]++
	}
}

// depths counts how many of the used symbols have codes of which length.
func (h *huffman) depths(counts *[maxLength + 2]uint16) {
	n := len(h.used)
	for i, u := range h.used {
		h.weights[i] = u >> 9
	}
	// Leaves and inner nodes are two queues, both in ascending order.
	leaf, inner := 0, n
	for next := n; next < 2*n-1; next++ {
		h.weights[next] = 0
		for range 2 {
			least := &inner
			if inner == next || leaf < n && h.weights[leaf] <= h.weights[inner] {
				least = &leaf
			}
			h.weights[next] += h.weights[*least]
			h.parents[*least] = uint16(next)
			*least++
		}
	}
	// From the root down, depths take the place of weights.
	h.weights[2*n-2] = 0
	for i := 2*n - 3; i >= 0; i-- {
		h.weights[i] = h.weights[h.parents[i]] + 1
		if i < n {
			counts[min(int(h.weights[i]), h.limit)]++
		}
	}
	// What was cut off at the limit needs room: some of the longest of the
	// codes that are shorter gets one bit more and lends half of its old room.
	over := -(1 << h.limit)
	for length, count := range counts[:h.limit+1] {
		over += int(count) << (h.limit - length)
	}
	for ; over > 0; over-- {
		length := h.limit - 1
		for counts[length] == 0 {
			length--
		}
		counts[length]--
		counts[length+1] += 2
		counts[h.limit]--
	}
}

// cost returns how many bits symbols take that occur so often.
func (h *huffman) cost(frequencies []uint32) int {
	n := 0
	for symbol, f := range frequencies {
		if f > 0 {
			n += int(f) * int(h.codes[symbol].size())
		}
	}
	return n
}
