package metrics

import (
	"bytes"
	"hash/crc32"

	"github.com/helm-state-metrics/helm-state-metrics/internal/deflate"
)

// segment is one family of one block, deflated on its own into whole bytes, so
// that segments in a row are one deflate stream. It is immutable.
type segment struct {
	deflated []byte
	// crc, size and past are of the text: its CRC-32, its bytes, and what
	// another CRC is multiplied by to have this text follow.
	crc  uint32
	past uint32
	size int
}

// deflater makes segments. It is not safe for concurrent use.
type deflater struct {
	encoder *deflate.Encoder
	out     []byte
}

func newDeflater() *deflater { return &deflater{encoder: deflate.New()} }

// segment deflates a text.
func (d *deflater) segment(text []byte) segment {
	if len(text) == 0 {
		return segment{past: one}
	}
	d.out = d.encoder.Append(d.out[:0], text)
	return segment{
		deflated: bytes.Clone(d.out),
		crc:      crc32.ChecksumIEEE(text),
		past:     past(len(text)),
		size:     len(text),
	}
}
