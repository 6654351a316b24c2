// Package decode reads a release's head from the first kilobytes of its stored
// payload, and leaves the rest, which may be large and secret, alone.
package decode

import (
	"bufio"
	"io"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// A pass over so much of the text finds most heads, and one over more of
	// it finds nearly all. A cut is a trick, too: at the end of its input
	// inflate gives what it has, which it otherwise does only once it has
	// 32 KB. BenchmarkHeads is what these were chosen by.
	firstCut  = 3 << 10
	secondCut = 8 << 10

	storedSize = 4 << 10
)

// Decoder reads heads. It owns about 80 KB of buffers that it uses for one
// payload after the other. It is not safe for concurrent use.
type Decoder struct {
	// memory is the buffers of text and JSON. Between payloads it is all
	// zeros, and as large as the inflate window, which is cleared with it.
	memory [window]byte
	armor  armor
	stored *bufio.Reader // what is under the base64: gzip or plain JSON
	gunzip gunzip
	scan   scanner
}

// New returns a Decoder that is ready for use.
func New() *Decoder {
	d := &Decoder{}
	d.armor.text = d.memory[:secondCut]
	d.scan.buf = d.memory[secondCut:]
	d.stored = bufio.NewReaderSize(&d.armor, storedSize)
	d.gunzip = newGunzip(d.stored)
	d.gunzip.prepare(&d.memory)
	return d
}

// Head reads the head of a payload as Helm stores it: base64 of gzip of JSON,
// or base64 of JSON.
//
// It stops reading where the head ends, and neither sees nor reports what is
// wrong behind it; no checksum is verified. An order of fields other than
// Helm's makes it read more, and gives the same head.
//
// A missing or null info or chart leaves its part of the head zero, as does a
// missing or null field; so does a time that is "". Times are in UTC. What is
// missing is no error; what is of a type that Helm refuses is one. Names of
// fields are matched exactly, as Helm writes them. Of repeated infos, charts or
// chart metadata the first counts, of other repeated fields the last. A
// description of more than 512 bytes is cut to that length, ending in "…".
//
// An error of Head has a Reason, or is the reader's own error; the head is zero
// then. Whatever the outcome, the Decoder keeps no byte of the payload and no
// reference to its reader.
func (d *Decoder) Head(payload io.Reader) (release.Head, error) {
	defer d.wipe()
	d.armor.start(payload)
	for _, cut := range [...]int{firstCut, secondCut} {
		// Only the whole payload tells an error from the cut.
		if head, err := d.pass(cut); err == nil {
			return head, nil
		}
	}
	head, err := d.pass(0)
	if err != nil {
		return release.Head{}, cause(err)
	}
	return head, nil
}

// pass reads the head from the first cut characters of the payload, or from all
// of it if cut is 0.
func (d *Decoder) pass(cut int) (release.Head, error) {
	d.armor.rewind(cut)
	d.stored.Reset(&d.armor)
	d.scan.reset(d.stored)
	start, err := d.stored.Peek(4)
	if err != nil && err != io.EOF {
		return release.Head{}, err
	}
	if isGzip(start) {
		if err := d.gunzip.open(); err != nil {
			return release.Head{}, err
		}
		d.scan.reset(&d.gunzip)
	}
	var head release.Head
	d.scan.head(&head)
	return head, d.scan.err
}

// wipe clears every buffer that held a part of the payload.
func (d *Decoder) wipe() {
	clear(d.memory[:])
	clear(d.scan.text[:])
	d.armor.start(nil)
	d.scan.reset(nil)
	// The buffer of a bufio.Reader can only be overwritten by reading.
	d.stored.Reset(zeros{})
	_, _ = d.stored.Peek(storedSize)
	d.stored.Reset(&d.armor)
	d.gunzip.prepare(&d.memory)
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
