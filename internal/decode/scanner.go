package decode

import (
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	// maxDocument bounds the bytes of JSON that are read of one payload, so
	// that what a mebibyte of gzip can inflate to costs a bounded amount of
	// CPU. Helm can store larger documents only if they compress far better
	// than charts do, and even then their heads are in their first kilobytes.
	maxDocument = 32 << 20
	// maxDepth is the nesting that encoding/json allows.
	maxDepth = 10_000
	// maxText bounds each string that is kept.
	maxText = 1 << 10
)

// scanner reads JSON from a stream, in constant memory. Its methods consume
// tokens in the order in which they are called; after the first error they do
// nothing, and err says what it was: ErrJSON, ErrLimit, or an error of the
// reader as it came.
type scanner struct {
	r        io.Reader
	buf      []byte
	pos, end int // buf[pos:end] is still to be scanned
	before   int // bytes of the document that came before buf
	err      error

	first bool // no member of the object just entered has been read
	depth int
	array [maxDepth/64 + 1]uint64 // a bit for each open array or object

	// text[:n] is the last key, string or number; clipped says that it was
	// longer than text.
	text    [maxText + utf8.UTFMax]byte
	n       int
	clipped bool
}

func (s *scanner) reset(r io.Reader) {
	s.r, s.err = r, nil
	s.pos, s.end, s.before = 0, 0, 0
	s.first, s.depth = false, 0
}

// fail records what is wrong and where. It must be told nothing of the
// document's content.
func (s *scanner) fail(cause error, what string) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: byte %d: %s", cause, s.before+s.pos, what)
	}
}

// fill replaces the scanned bytes by the next ones.
func (s *scanner) fill() bool {
	if s.err != nil {
		return false
	}
	s.before += s.end
	s.pos, s.end = 0, 0
	if s.before >= maxDocument {
		s.fail(ErrLimit, "the document is too large")
		return false
	}
	// The readers below never return 0 bytes and no error.
	n, err := s.r.Read(s.buf)
	if n == 0 {
		s.err = err
		return false
	}
	s.end = n
	return true
}

// raw returns the next byte, 0 after an error.
func (s *scanner) raw() byte {
	if s.pos == s.end && !s.fill() {
		return 0
	}
	c := s.buf[s.pos]
	s.pos++
	return c
}

// back makes the byte that was returned last the next one again.
func (s *scanner) back() {
	if s.err == nil {
		s.pos--
	}
}

// next returns the next byte that is not white space, 0 after an error.
func (s *scanner) next() byte {
	for {
		for s.pos < s.end {
			c := s.buf[s.pos]
			s.pos++
			if c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
				return c
			}
		}
		if !s.fill() {
			return 0
		}
	}
}

func (s *scanner) push(array bool) {
	if s.depth == maxDepth {
		s.fail(ErrLimit, "the document is too deep")
		return
	}
	word, bit := s.depth/64, uint64(1)<<(s.depth%64)
	if array {
		s.array[word] |= bit
	} else {
		s.array[word] &^= bit
	}
	s.depth++
}

func (s *scanner) inArray() bool {
	top := s.depth - 1
	return s.array[top/64]>>(top%64)&1 == 1
}

// enter opens an object whose members are then read with key. It returns false
// for null, and for anything else, which is an error.
func (s *scanner) enter() bool {
	switch s.next() {
	case '{':
		s.push(false)
		s.first = true
		return s.err == nil
	case 'n':
		s.literal("ull")
	default:
		s.fail(ErrJSON, "want an object")
	}
	return false
}

// key reads up to the next member's value and leaves the member's name in
// text[:n]. It returns false at the end of the object.
func (s *scanner) key() bool {
	c := s.next()
	if c == '}' {
		s.depth--
		s.first = false
		return false
	}
	if !s.first {
		if c != ',' {
			s.fail(ErrJSON, "want a comma or the end of the object")
			return false
		}
		c = s.next()
	}
	s.first = false
	if c != '"' {
		s.fail(ErrJSON, "want a member's name")
		return false
	}
	s.string()
	if s.next() != ':' {
		s.fail(ErrJSON, "want a colon")
	}
	return s.err == nil
}
