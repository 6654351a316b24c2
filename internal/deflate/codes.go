package deflate

const (
	// order is in which the lengths of meta are written (RFC 1951, 3.2.7).
	order = "\x10\x11\x12\x00\x08\x07\x09\x06\x0a\x05\x0b\x04\x0c\x03\x0d\x02\x0e\x01\x0f"

	// Symbols of meta that stand for runs: of the length before, and of zeros.
	repeat      = 16
	someZeros   = 17
	manyZeros   = 18
	metaSymbols = 19
	metaExtras  = "\x02\x03\x07"
)

// fixed are the codes that every decoder knows.
type fixed struct {
	lengths, distances huffman
}

func newFixed() fixed {
	f := fixed{
		lengths:   huffman{plain: firstLength, extras: lengthExtras},
		distances: huffman{extras: distanceExtras},
	}
	for symbol := range f.lengths.lengths {
		length := uint8(8)
		if symbol >= 144 && symbol < 256 {
			length = 9
		} else if symbol >= 256 && symbol < 280 {
			length = 7
		}
		f.lengths.lengths[symbol] = length
	}
	f.lengths.assign(maxSymbols, &[maxLength + 2]uint16{7: 24, 8: 152, 9: 112})
	for symbol := range distanceSymbols {
		f.distances.lengths[symbol] = 5
	}
	f.distances.assign(distanceSymbols, &[maxLength + 2]uint16{5: distanceSymbols})
	return f
}

// size returns the bits of a block.
func (f *fixed) size(counts *histogram) int {
	return 3 + f.lengths.cost(counts.lengths[:]) + f.distances.cost(counts.distances[:])
}

// dynamic are the codes of one block, and that in which their lengths are
// written.
type dynamic struct {
	lengths, distances, meta huffman

	all    []uint8  // lengths of both codes in a row
	runs   []uint16 // all, run-length encoded: symbols of meta, and extra bits above five bits
	counts [metaSymbols]uint32
	// how many lengths of each code are written
	nLengths, nDistances, nMeta int
}

func newDynamic() dynamic {
	return dynamic{
		lengths:   huffman{limit: maxLength, plain: firstLength, extras: lengthExtras},
		distances: huffman{limit: maxLength, extras: distanceExtras},
		meta:      huffman{limit: 7, plain: repeat, extras: metaExtras},
	}
}

// plan makes the codes for what was counted and returns the bits of the block.
func (d *dynamic) plan(counts *histogram) int {
	d.lengths.build(counts.lengths[:])
	d.distances.build(counts.distances[:])
	d.nLengths, d.nDistances, d.nMeta = lengthSymbols, distanceSymbols, metaSymbols
	for d.nLengths > firstLength && d.lengths.lengths[d.nLengths-1] == 0 {
		d.nLengths--
	}
	for d.nDistances > 1 && d.distances.lengths[d.nDistances-1] == 0 {
		d.nDistances--
	}
	d.all = append(d.all[:0], d.lengths.lengths[:d.nLengths]...)
	d.all = append(d.all, d.distances.lengths[:d.nDistances]...)
	d.findRuns()
	d.meta.build(d.counts[:])
	for d.nMeta > 4 && d.meta.lengths[order[d.nMeta-1]] == 0 {
		d.nMeta--
	}
	return 3 + 5 + 5 + 4 + 3*d.nMeta + d.meta.cost(d.counts[:]) +
		d.lengths.cost(counts.lengths[:]) + d.distances.cost(counts.distances[:])
}

// findRuns makes the runs and counts their symbols.
func (d *dynamic) findRuns() {
	clear(d.counts[:])
	d.runs = d.runs[:0]
	for i := 0; i < len(d.all); {
		length, n := int(d.all[i]), 1
		for i+n < len(d.all) && int(d.all[i+n]) == length {
			n++
		}
		i += n
		if length > 0 {
			d.run(length, 0)
			n--
		}
		for n >= 3 {
			var k int
			switch {
			case length > 0:
				k = min(n, 6)
				d.run(repeat, k-3)
			case n <= 10:
				k = n
				d.run(someZeros, k-3)
			default:
				k = min(n, 138)
				d.run(manyZeros, k-11)
			}
			n -= k
		}
		for range n {
			d.run(length, 0)
		}
	}
}

func (d *dynamic) run(symbol, extra int) {
	d.runs = append(d.runs, uint16(symbol|extra<<5))
	d.counts[symbol]++
}

// pad makes the header longer by unused lengths of meta, where that leaves less
// to be closed behind the block. End is where the block would end.
func (d *dynamic) pad(end uint) {
	best, unused := closing(end&7), 0
	for n := 1; d.nMeta+n <= metaSymbols; n++ {
		if bits := 3*n + closing((end+3*uint(n))&7); bits < best {
			best, unused = bits, n
		}
	}
	d.nMeta += unused
}

func (d *dynamic) writeHeader(w *bitWriter) {
	w.add(dynamicBlock|uint64(d.nLengths-firstLength)<<3|uint64(d.nDistances-1)<<8|uint64(d.nMeta-4)<<13, 17)
	for _, symbol := range []byte(order[:d.nMeta]) {
		w.add(uint64(d.meta.lengths[symbol]), 3)
	}
	for _, r := range d.runs {
		c := d.meta.codes[r&31]
		w.add(c.with(uint64(r>>5)), c.size())
	}
}
