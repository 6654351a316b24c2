package deflate

import "math/bits"

const (
	maxMatch    = 258
	maxDistance = 1 << 15

	// Symbols for literals, the end and lengths, of which the lengths begin
	// at firstLength; and for distances.
	lengthSymbols   = 286
	endOfBlock      = 256
	firstLength     = 257
	distanceSymbols = 30

	lengthExtras   = "\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\x01\x01\x02\x02\x02\x02\x03\x03\x03\x03\x04\x04\x04\x04\x05\x05\x05\x05\x00\x00\x00"
	distanceExtras = "\x00\x00\x00\x00\x01\x01\x02\x02\x03\x03\x04\x04\x05\x05\x06\x06\x07\x07\x08\x08\x09\x09\x0a\x0a\x0b\x0b\x0c\x0c\x0d\x0d"
)

// noDistance is what a literal has for a distance: it takes no bits.
const noDistance = distanceSymbols

// token is a literal or a match, as the symbols and extra bits that are
// written for it:
//
//	bits 23-31 symbol of the literal or the length
//	bits 18-22 extra bits of the length
//	bits 13-17 symbol of the distance
//	bits  0-12 extra bits of the distance
type token uint32

func literal(c byte) token { return token(c)<<23 | noDistance<<13 }

// match makes a token of at least three bytes.
func match(length, distance int) token {
	l, d := uint(length-3), uint(distance-1)
	symbol, extra := l, uint(0)
	if l == maxMatch-3 {
		symbol = 28 // which the longest has for itself
	} else if l >= 8 {
		n := uint(bits.Len(l)) - 3
		symbol, extra = n<<2+l>>n, l&(1<<n-1)
	}
	t := token((firstLength+symbol)<<23 | extra<<18)
	if d < 4 {
		return t | token(d<<13)
	}
	n := uint(bits.Len(d)) - 2
	return t | token((n<<1+d>>n)<<13|d&(1<<n-1))
}

func (t token) length() (symbol uint, extra uint64) {
	return uint(t >> 23), uint64(t >> 18 & 31)
}

func (t token) distance() (symbol uint, extra uint64) {
	return uint(t >> 13 & 31), uint64(t & 8191)
}

// histogram counts the symbols of a block.
type histogram struct {
	lengths   [lengthSymbols]uint32
	distances [distanceSymbols]uint32
}

// reset leaves nothing but the end, which every block has once.
func (h *histogram) reset() {
	*h = histogram{}
	h.lengths[endOfBlock] = 1
}

// add counts a match.
func (h *histogram) add(t token) {
	h.lengths[t>>23]++
	h.distances[t>>13&31]++
}

// remove takes a match back.
func (h *histogram) remove(t token) {
	h.lengths[t>>23]--
	h.distances[t>>13&31]--
}
