package decode

import (
	"bufio"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/flate"
)

// The header of a gzip member: RFC 1952, section 2.3.
const (
	gzipHeader  = 10
	gzipTrailer = 8

	gzipHasHeaderSum = 1 << 1
	gzipHasExtra     = 1 << 2
	gzipHasName      = 1 << 3
	gzipHasComment   = 1 << 4

	// maxGzipString is the bound that Go's gzip has for names and comments.
	maxGzipString = 512
)

const (
	// window is how far back inflate can refer.
	window = 32 << 10
	// earlyOutput is how much comes out before a window is full.
	earlyOutput = 2 << 10
)

// isGzip tells gzip from plain JSON by the rule that Helm has.
func isGzip(start []byte) bool {
	return len(start) > 3 && start[0] == 0x1f && start[1] == 0x8b && start[2] == 0x08
}

// gunzip inflates gzip members, one after the other. It verifies no checksum:
// the head is read long before one comes.
//
// It is no gzip.Reader because it needs hold of the inflate window, to have
// output early and to clear it.
type gunzip struct {
	src     *bufio.Reader
	inflate io.Reader
	ready   bool // prepared, and not opened since
}

func newGunzip(src *bufio.Reader) gunzip {
	return gunzip{src: src, inflate: flate.NewReader(src)}
}

// prepare clears the window, and makes the next stream's first output come
// early. Inflate gives none before its window is full; so the window is filled
// with zeros but for earlyOutput. A damaged stream could refer to them, but no
// JSON contains them.
func (g *gunzip) prepare(zeros *[window]byte) {
	g.reset(zeros[:])
	g.reset(zeros[:window-earlyOutput])
	g.ready = true
}

// open starts at a member's header.
func (g *gunzip) open() error {
	ready := g.ready
	g.ready = false
	if err := g.header(); err != nil {
		return err
	}
	if !ready {
		g.reset(nil)
	}
	return nil
}

// reset makes inflate start anew behind the given bytes. Inflate fails to do so
// never.
func (g *gunzip) reset(history []byte) {
	_ = g.inflate.(flate.Resetter).Reset(g.src, history)
}

func (g *gunzip) Read(p []byte) (int, error) {
	for {
		n, err := g.inflate.Read(p)
		if n > 0 {
			return n, nil
		}
		if err != io.EOF {
			return 0, err
		}
		if _, err := g.src.Discard(gzipTrailer); err != nil {
			return 0, err
		}
		if _, err := g.src.Peek(1); err != nil {
			return 0, err
		}
		if err := g.open(); err != nil {
			return 0, err
		}
	}
}

// header reads past a member's header. Flags that are reserved mean nothing, as
// in Go's gzip.
func (g *gunzip) header() error {
	head, err := g.src.Peek(gzipHeader)
	if err != nil {
		return err
	}
	if !isGzip(head) {
		return ErrGzip
	}
	flags := head[3]
	if _, err := g.src.Discard(gzipHeader); err != nil {
		return err
	}
	if flags&gzipHasExtra != 0 {
		size, err := g.src.Peek(2)
		if err != nil {
			return err
		}
		if _, err := g.src.Discard(2 + int(binary.LittleEndian.Uint16(size))); err != nil {
			return err
		}
	}
	for _, has := range [...]byte{gzipHasName, gzipHasComment} {
		if flags&has != 0 {
			if err := g.discardString(); err != nil {
				return err
			}
		}
	}
	if flags&gzipHasHeaderSum != 0 {
		if _, err := g.src.Discard(2); err != nil {
			return err
		}
	}
	return nil
}

func (g *gunzip) discardString() error {
	for range maxGzipString {
		c, err := g.src.ReadByte()
		if err != nil {
			return err
		}
		if c == 0 {
			return nil
		}
	}
	return ErrGzip
}
