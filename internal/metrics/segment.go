package metrics

import (
	"bytes"
	"hash/crc32"

	"github.com/klauspost/compress/flate"
)

// level is how hard segments are deflated: they are made once and sent often.
const level = 7

// segment is one family of one block, deflated on its own. It ends on a sync
// flush, so that segments in a row are one deflate stream. It is immutable.
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
	out bytes.Buffer
	w   *flate.Writer
}

func newDeflater() *deflater {
	w, err := flate.NewWriter(nil, level)
	if err != nil {
		panic(err) // the level is a constant
	}
	return &deflater{w: w}
}

// segment deflates a text.
func (d *deflater) segment(text []byte) segment {
	if len(text) == 0 {
		return segment{past: one}
	}
	d.out.Reset()
	d.w.Reset(&d.out)
	_, _ = d.w.Write(text) // a buffer takes everything
	_ = d.w.Flush()
	return segment{
		deflated: bytes.Clone(d.out.Bytes()),
		crc:      crc32.ChecksumIEEE(text),
		past:     past(len(text)),
		size:     len(text),
	}
}
