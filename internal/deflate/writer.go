package deflate

import (
	"encoding/binary"
	"slices"
)

// The first three bits of blocks that are not final.
const (
	storedBlock  = 0 << 1
	fixedBlock   = 1 << 1
	dynamicBlock = 2 << 1
)

// maxStored is how many bytes a stored block can hold.
const maxStored = 1<<16 - 1

// bitWriter packs bits, the first one lowest.
type bitWriter struct {
	out []byte
	at  int    // where in out the next whole byte goes
	acc uint64 // bits that are not in out yet
	n   uint   // how many, at most 7 between calls
}

// grow makes room for so many bits, and for what is written in excess.
func (w *bitWriter) grow(bits int) {
	w.out = slices.Grow(w.out[:w.at], bits/8+16)
	w.out = w.out[:cap(w.out)]
}

// add writes up to 56 bits.
func (w *bitWriter) add(bits uint64, n uint) {
	w.acc |= bits << w.n
	w.n += n
	// All of the bits are written but only whole bytes are counted.
	binary.LittleEndian.PutUint64(w.out[w.at:], w.acc)
	w.at += int(w.n >> 3)
	w.acc >>= w.n & 56
	w.n &= 7
}

// write adds tokens and the end of the block. A literal takes the same way as
// a match, of which it lacks the distance: to tell them apart would cost more,
// since nobody, the processor included, can foresee which comes next.
func (w *bitWriter) write(tokens []token, lengths, distances *huffman) {
	out, at, acc, n := w.out, w.at, w.acc, w.n
	for _, t := range tokens {
		symbol, extra := t.length()
		c := lengths.codes[symbol]
		acc |= c.with(extra) << (n & 63)
		n += c.size()
		symbol, extra = t.distance()
		c = distances.codes[symbol]
		acc |= c.with(extra) << (n & 63)
		n += c.size()
		binary.LittleEndian.PutUint64(out[at:], acc)
		at += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	w.at, w.acc, w.n = at, acc, n
	c := lengths.codes[endOfBlock]
	w.add(c.with(0), c.size())
}

// store writes bytes as they are.
func (w *bitWriter) store(text []byte) {
	w.add(storedBlock, 3)
	w.add(0, -w.n&7)
	w.add(uint64(len(text))|uint64(^uint16(len(text)))<<16, 32)
	w.at += copy(w.out[w.at:], text)
}

// storedSize returns the bits of blocks that store so many bytes, at most.
func storedSize(n int) int {
	return 8*n + (3+7+32)*((n+maxStored-1)/maxStored)
}

// close fills the last byte up. Where an even number of bits is missing, empty
// fixed blocks of ten bits do that in less than the stored block of a sync
// flush.
func (w *bitWriter) close() {
	if w.n&1 == 1 {
		w.store(nil)
	}
	for w.n != 0 {
		w.add(fixedBlock, 3+7)
	}
}

// closing returns how many bits close takes.
func closing(n uint) int {
	if n&1 == 1 {
		return int(3 + -(n+3)&7 + 32)
	}
	return int(-n & 7 / 2 * 10)
}
