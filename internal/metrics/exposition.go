package metrics

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"

	"github.com/klauspost/compress/flate"
)

// gzipHeader starts a member: deflate, no flags, no time, unknown system.
const gzipHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// exposition is a snapshot of all releases as one row of segments. It is
// immutable.
type exposition struct {
	families []exposed
}

// exposed is one family of a snapshot.
type exposed struct {
	deflated [][]byte
	// crc, past and size are as in a segment, of the family's whole text.
	crc  uint32
	past uint32
	size int
}

func newExposition(headers []segment, blocks []*block) *exposition {
	e := &exposition{families: make([]exposed, len(headers))}
	for i, header := range headers {
		f := exposed{deflated: make([][]byte, 0, 1+len(blocks)), past: one}
		f.add(header)
		for _, b := range blocks {
			f.add(b.segments[i])
		}
		e.families[i] = f
	}
	return e
}

func (f *exposed) add(s segment) {
	if s.size == 0 {
		return
	}
	f.deflated = append(f.deflated, s.deflated)
	f.crc = combine(f.crc, s.crc, s.past)
	f.past = times(f.past, s.past)
	f.size += s.size
}

// writeGzip writes one gzip member: the chosen families, then the tail. What
// was deflated before is copied as it is, and its checksum combined.
func (e *exposition) writeGzip(w io.Writer, chosen []int, tail []byte) error {
	if _, err := io.WriteString(w, gzipHeader); err != nil {
		return err
	}
	var crc uint32
	size := 0
	for _, i := range chosen {
		f := &e.families[i]
		for _, deflated := range f.deflated {
			if _, err := w.Write(deflated); err != nil {
				return err
			}
		}
		crc = combine(crc, f.crc, f.past)
		size += f.size
	}
	// The tail is made for this scrape alone, so it is deflated without state.
	if err := flate.StatelessDeflate(w, tail, true, nil); err != nil {
		return err
	}
	crc = combine(crc, crc32.ChecksumIEEE(tail), past(len(tail)))
	trailer := binary.LittleEndian.AppendUint32(nil, crc)
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(size+len(tail)))
	_, err := w.Write(trailer)
	return err
}

// writeText writes the text of the chosen families over the given releases,
// then the tail. It holds no more than a piece of the text at a time.
func writeText(w io.Writer, families []Family, chosen []int, releases []*slots, namespaces []string, tail []byte) error {
	const piece = 16 << 10
	text := make([]byte, 0, piece+piece/4)
	for _, i := range chosen {
		text = appendHeader(text, &families[i])
		for _, block := range releases {
			for _, r := range block {
				if r == nil || len(namespaces) > 0 && !slices.Contains(namespaces, r.Namespace) {
					continue
				}
				if text = families[i].append(text, r); len(text) < piece {
					continue
				}
				if _, err := w.Write(text); err != nil {
					return err
				}
				text = text[:0]
			}
		}
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	_, err := w.Write(tail)
	return err
}
