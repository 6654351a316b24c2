package metrics

import "hash/crc32"

// polynomial is that of the CRC-32 of gzip, in the bit order of crc32.IEEE:
// the highest bit stands for the power 0 of x.
const (
	polynomial = crc32.IEEE
	one        = 1 << 31
)

// past returns x to the power of the bits in n bytes: what a CRC is multiplied
// by when n bytes follow.
func past(n int) uint32 {
	power, square := uint32(one), uint32(one>>8) // 1, and x^8 for one byte
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			power = times(power, square)
		}
		square = times(square, square)
	}
	return power
}

// combine returns the CRC of some bytes followed by others, from the CRCs of
// both and past of the latter's size, without looking at any of the bytes.
func combine(crc, next, nextPast uint32) uint32 {
	return times(crc, nextPast) ^ next
}

// times multiplies two polynomials over GF(2), modulo that of the CRC.
func times(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		// Masks instead of branches, which could not be predicted.
		product ^= b & uint32(int32(a)>>31)
		b = b>>1 ^ polynomial&-(b&1)
	}
	return product
}
