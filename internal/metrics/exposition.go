package metrics

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/flate"
)

// level is the compression level of segments; docs/exposition.md has the figures of the others.
const level = 6

// segment is one family of one block, deflated on its own and ended by a sync flush, so that segments in a row
// are one deflate stream. It is immutable.
type segment struct {
	deflated []byte
	sum      sum
}

// sum is the CRC-32 of a text, and what combines it with others'.
type sum struct {
	crc  uint32
	size int
	// shift is x^(8·size) mod P. Multiplying another CRC by it makes that the CRC of its text followed by this
	// text's size in zero bytes.
	shift uint32
}

func sumOf(text []byte) sum {
	return sum{crc: crc32.ChecksumIEEE(text), size: len(text), shift: shiftOf(len(text))}
}

// then returns the sum of a text followed by another, without looking at either.
func (s sum) then(next sum) sum {
	return sum{
		crc:   multiply(s.crc, next.shift) ^ next.crc,
		size:  s.size + next.size,
		shift: multiply(s.shift, next.shift),
	}
}

// Polynomials over GF(2) have the bit order of crc32.IEEE: the highest bit stands for x^0.
const onePolynomial = 1 << 31

// shiftOf returns x^(8n) modulo the polynomial of CRC-32, by squaring.
func shiftOf(n int) uint32 {
	power, square := uint32(onePolynomial), uint32(onePolynomial>>8) // 1 and x^8
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			power = multiply(power, square)
		}
		square = multiply(square, square)
	}
	return power
}

// multiply multiplies two polynomials modulo that of CRC-32.
func multiply(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		// Masks in place of branches, which the processor could not predict.
		product ^= b & uint32(int32(a)>>31)
		b = b>>1 ^ crc32.IEEE&-(b&1)
	}
	return product
}

// deflater makes segments. It is not safe for concurrent use.
type deflater struct {
	writer *flate.Writer
	out    bytes.Buffer
}

func newDeflater(level int) *deflater {
	d := &deflater{}
	d.writer, _ = flate.NewWriter(&d.out, level) // it fails for an unknown level only
	return d
}

func (d *deflater) segment(text []byte) segment {
	if len(text) == 0 {
		return segment{sum: sumOf(nil)}
	}
	d.out.Reset()
	d.writer.Reset(&d.out)
	_, _ = d.writer.Write(text) // a bytes.Buffer takes everything
	_ = d.writer.Flush()
	return segment{bytes.Clone(d.out.Bytes()), sumOf(text)}
}

// renderer makes expositions of a store's releases. It keeps the segments of blocks that do not change.
type renderer struct {
	store   *Store
	headers []segment // by family; immutable

	// mu is held while segments are made, so that scrapes at the same time share them.
	mu         sync.Mutex
	segments   [][]segment // guarded by mu; by block, then by family
	deflater   *deflater   // guarded by mu
	text       []byte      // guarded by mu
	generation uint64      // guarded by mu; that of the store when segments were made
	last       exposition  // guarded by mu; nil before the first scrape
}

func newRenderer(store *Store) *renderer {
	r := &renderer{store: store, deflater: newDeflater(level)}
	for i := range store.families {
		r.headers = append(r.headers, r.deflater.segment(appendHeader(nil, &store.families[i])))
	}
	return r
}

// render returns the releases as they are now, and false until the initial lists have been delivered. It
// renders only what changed since the last call.
func (r *renderer) render() (exposition, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, ok := r.store.since(r.generation)
	if !ok {
		return nil, false
	}
	if r.last != nil && now.generation == r.generation && now.blocks == len(r.segments) {
		return r.last, true
	}
	for len(r.segments) < now.blocks {
		r.segments = append(r.segments, make([]segment, len(r.headers)))
	}
	clear(r.segments[now.blocks:])
	r.segments = r.segments[:now.blocks]
	for _, b := range now.changed {
		for i := range r.headers {
			if b.families.has(i) {
				r.segments[b.position][i] = r.segment(&r.store.families[i], b.releases)
			}
		}
	}
	r.generation = now.generation
	r.last = newExposition(r.headers, r.segments)
	return r.last, true
}

// segment requires mu.
func (r *renderer) segment(f *Family, releases *slots) segment {
	r.text = r.text[:0]
	for _, one := range releases {
		if one != nil {
			r.text = f.append(r.text, one)
		}
	}
	return r.deflater.segment(r.text)
}

// exposition is all releases at one moment, as a row of segments for each family. It is immutable.
type exposition []exposedFamily

type exposedFamily struct {
	deflated [][]byte
	sum      sum // of the family's whole text
}

func newExposition(headers []segment, blocks [][]segment) exposition {
	e := make(exposition, len(headers))
	for i, header := range headers {
		f := exposedFamily{[][]byte{header.deflated}, header.sum}
		for _, segments := range blocks {
			if s := segments[i]; s.sum.size > 0 {
				f.deflated = append(f.deflated, s.deflated)
				f.sum = f.sum.then(s.sum)
			}
		}
		e[i] = f
	}
	return e
}

// gzipHeader begins a member: deflate, no flags, no time, unknown system.
const gzipHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// writeGzip writes one gzip member: the chosen families, then the tail. One member, because browsers and some
// clients stop after the first.
func (e exposition) writeGzip(w *bufio.Writer, chosen []int, tail []byte) error {
	if _, err := w.WriteString(gzipHeader); err != nil {
		return err
	}
	total := sumOf(nil)
	for _, i := range chosen {
		for _, deflated := range e[i].deflated {
			if _, err := w.Write(deflated); err != nil {
				return err
			}
		}
		total = total.then(e[i].sum)
	}
	if err := flate.StatelessDeflate(w, tail, true, nil); err != nil {
		return err
	}
	total = total.then(sumOf(tail))
	trailer := binary.LittleEndian.AppendUint32(nil, total.crc)
	_, err := w.Write(binary.LittleEndian.AppendUint32(trailer, uint32(total.size)))
	return err
}

// inNamespaces returns the releases of the given namespaces.
func inNamespaces(all []*slots, namespaces []string) []*slots {
	wanted := make(map[string]bool, len(namespaces))
	for _, namespace := range namespaces {
		wanted[namespace] = true
	}
	var found []*slots
	n := 0
	for _, block := range all {
		for _, r := range block {
			if r == nil || !wanted[r.Namespace] {
				continue
			}
			if n%blockSlots == 0 {
				found = append(found, new(slots))
			}
			found[n/blockSlots][n%blockSlots] = r
			n++
		}
	}
	return found
}

// writeText writes the text of the chosen families over the given releases, then the tail.
func writeText(w *bufio.Writer, families []Family, chosen []int, releases []*slots, tail []byte) error {
	for _, i := range chosen {
		if _, err := w.Write(appendHeader(w.AvailableBuffer(), &families[i])); err != nil {
			return err
		}
		for _, block := range releases {
			for _, r := range block {
				if r == nil {
					continue
				}
				if _, err := w.Write(families[i].append(w.AvailableBuffer(), r)); err != nil {
					return err
				}
			}
		}
	}
	_, err := w.Write(tail)
	return err
}
