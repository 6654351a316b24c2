package decode

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// string reads the rest of a string, after its opening quote, to text[:n].
// Escapes are resolved; bytes that are not UTF-8 are left as they are, see
// value.
func (s *scanner) string() {
	s.n, s.clipped = 0, false
	// high is the first half of a surrogate pair whose second half is due.
	high := rune(0)
	for {
		size := plain(s.buf[s.pos:s.end])
		if size > 0 {
			high = s.unpaired(high)
			s.keep(s.buf[s.pos : s.pos+size])
			s.pos += size
		}
		if s.pos == s.end {
			if !s.fill() {
				return
			}
			continue
		}
		switch s.raw() {
		case '"':
			s.unpaired(high)
			return
		case '\\':
			high = s.keepEscaped(high, s.escape())
		default:
			s.fail(ErrJSON, "control character in a string")
			return
		}
	}
}

// skipString reads past the rest of a string, after its opening quote.
func (s *scanner) skipString() {
	for {
		s.pos += plain(s.buf[s.pos:s.end])
		if s.pos == s.end {
			if !s.fill() {
				return
			}
			continue
		}
		switch s.raw() {
		case '"':
			return
		case '\\':
			s.escape()
		default:
			s.fail(ErrJSON, "control character in a string")
			return
		}
	}
}

// keepEscaped keeps an escaped rune, once it is known not to be half of a
// pair. A half without its other half becomes U+FFFD.
func (s *scanner) keepEscaped(high, r rune) rune {
	if high != 0 {
		if pair := utf16.DecodeRune(high, r); pair != utf8.RuneError {
			s.keepRune(pair)
			return 0
		}
		s.keepRune(utf8.RuneError)
	}
	if r >= 0xd800 && r < 0xdc00 {
		return r
	}
	s.keepRune(r)
	return 0
}

func (s *scanner) unpaired(high rune) rune {
	if high != 0 {
		s.keepRune(utf8.RuneError)
	}
	return 0
}

// keepRune writes U+FFFD for a lone second half, as utf8.AppendRune does.
func (s *scanner) keepRune(r rune) {
	var buf [utf8.UTFMax]byte
	s.keep(utf8.AppendRune(buf[:0], r))
}

// keep appends to text. Once something did not fit nothing more is kept.
func (s *scanner) keep(b []byte) {
	if s.clipped {
		return
	}
	copied := copy(s.text[s.n:], b)
	s.n += copied
	s.clipped = copied < len(b)
}

// escape reads what follows a backslash.
func (s *scanner) escape() rune {
	switch c := s.raw(); c {
	case '"', '\\', '/':
		return rune(c)
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'u':
		return s.hex()
	}
	s.fail(ErrJSON, "unknown escape in a string")
	return 0
}

func (s *scanner) hex() rune {
	r := rune(0)
	for range 4 {
		c := s.raw()
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			s.fail(ErrJSON, "escape in a string is not hexadecimal")
			return 0
		}
		r = r<<4 | rune(c)
	}
	return r
}

// plain returns how many bytes come before the first that ends a string, starts
// an escape, or must not be in a string. It looks at eight bytes at a time: the
// lowest high bit that is set marks the first such byte, as a borrow only goes
// upwards.
func plain(b []byte) int {
	const (
		ones   = 0x0101010101010101
		high   = 0x80 * ones
		spaces = ' ' * ones
		quotes = '"' * ones
		slants = '\\' * ones
	)
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		q, e := x^quotes, x^slants
		hit := ((x-spaces)&^x | (q-ones)&^q | (e-ones)&^e) & high
		if hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' {
			return i
		}
	}
	return i
}
