// Package decode reads a release's head from the first kilobytes of its stored payload.
package decode

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// The first firstPrefix bytes of the text hold most heads, and the first secondPrefix bytes hold nearly
	// all; BenchmarkHeads compares sizes. A prefix is also faster than a stream: inflate returns what it has at
	// the end of its input, and otherwise only when it has 32 KB.
	firstPrefix  = 3 << 10
	secondPrefix = 8 << 10

	maxPrefixDocument = 64 << 10 // bytes of JSON that are read of a prefix, usually 20 to 40 KB
	maxDocument       = 16 << 20 // bytes of JSON that are read of a whole payload
	maxPayload        = 4 << 20  // bytes of stored text, with line breaks; the API server stores about 1 MiB

	// A payload may be minRoom bytes of JSON, and maxRatio more for each byte of its text; charts compress to a
	// fifth. Without it a bomb of 20 KB would cost as much as one that fills the largest record.
	minRoom  = 64 << 10
	maxRatio = 16
)

// Reason is why a payload has no head. It is an error, and a label value of metrics. It never quotes the
// payload, which may hold secrets.
type Reason string

// The reasons.
const (
	Base64    Reason = "base64"    // it is not padded standard base64
	Empty     Reason = "empty"     // it has no bytes, or only line breaks
	Gzip      Reason = "gzip"      // it starts as gzip and is damaged within the head
	JSON      Reason = "json"      // it is not JSON, or a field has a type that Helm refuses, or comes twice
	Limit     Reason = "limit"     // it is larger, longer or deeper than any release
	Truncated Reason = "truncated" // it ends before its head does
)

// Reasons returns every reason, in alphabetical order.
func Reasons() []Reason { return []Reason{Base64, Empty, Gzip, JSON, Limit, Truncated} }

func (r Reason) Error() string { return "the payload cannot be decoded: " + string(r) }

// Decoder reads heads. It is safe for concurrent use. The zero value is ready for use.
type Decoder struct {
	buffers sync.Pool // of *buffers
	// whole is held while a payload is decoded as a whole, which can take megabytes of memory for one that is
	// made to. A short one cannot.
	whole sync.Mutex
}

// Head reads the head of a payload as Helm stores it: base64 of gzip of JSON, or base64 of JSON.
//
// It stops reading where the head ends, and does not report what is wrong behind it; no checksum is verified.
// Any order of fields gives the same head; an order other than Helm's makes it read more.
//
// A missing or null info or chart leaves its part of the head zero, as does a missing or null field, and a time
// that is "". Times are in UTC. A field of a type that Helm refuses is an error, and so is one that comes twice or
// in another case before the head ends; the head equals a whole unmarshal of what comes until then. A description
// of more than 512 bytes is cut to that length, ending in "…".
//
// The error is a Reason, or the reader's own; the head is zero then.
func (d *Decoder) Head(payload io.Reader) (release.Head, error) { return d.head(payload, true) }

// ErrFar says that the head is not at the beginning of a payload.
var ErrFar = errors.New("the head is not at the beginning of the payload")

// Near is Head for a head at the beginning, as it is in all that Helm writes but for long notes; otherwise it returns
// ErrFar. It takes milliseconds at most. Head can take a second for a payload that is made to, and decodes one of
// them at a time.
func (d *Decoder) Near(payload io.Reader) (release.Head, error) { return d.head(payload, false) }

func (d *Decoder) head(payload io.Reader, far bool) (release.Head, error) {
	b, ok := d.buffers.Get().(*buffers)
	if !ok {
		b = &buffers{text: bufio.NewReaderSize(nil, secondPrefix), json: jsontext.NewDecoder(strings.NewReader(""))}
	}
	defer d.buffers.Put(b)
	b.text.Reset(&limited{r: payload, left: maxPayload})
	defer b.text.Reset(nil)
	short := false // the text is no longer than a prefix
	for _, size := range [...]int{firstPrefix, secondPrefix} {
		prefix, err := b.text.Peek(size)
		if head, err := b.prefixHead(prefix); err == nil {
			return head, nil
		}
		if short = err == io.EOF; short {
			break
		}
		if err != nil {
			return release.Head{}, err
		}
	}
	if !short && !far {
		return release.Head{}, ErrFar
	}
	// The rest is read before it is decoded: a slow reader must not delay others.
	text, err := io.ReadAll(b.text)
	if err != nil {
		return release.Head{}, err
	}
	if !short {
		d.whole.Lock()
		defer d.whole.Unlock()
	}
	head, err := wholeHead(bytes.NewReader(text), min(minRoom+maxRatio*len(text), maxDocument))
	if err != nil {
		return release.Head{}, reasonOf(err)
	}
	return head, nil
}

// limited fails with Limit after so many bytes.
type limited struct {
	r    io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, Limit
	}
	n, err := l.r.Read(p)
	l.left -= max(n, 1) // a reader that returns nothing forever ends, too
	return n, err
}

// buffers are what the decoding of a prefix needs, for use again and again.
type buffers struct {
	text    *bufio.Reader
	decoded [secondPrefix / 4 * 3]byte
	prefix  bytes.Reader
	gunzip  gzip.Reader
	json    *jsontext.Decoder
}

// prefixHead reads the head from the beginning of a payload's text. It fails if the head is not all in it; why
// it fails is known only from the whole payload.
func (b *buffers) prefixHead(text []byte) (release.Head, error) {
	// The text may end within a quantum.
	n, _ := base64.StdEncoding.Decode(b.decoded[:], text)
	b.prefix.Reset(b.decoded[:n])
	var document io.Reader = &b.prefix
	if isGzip(b.decoded[:n]) {
		b.decoded[3] &= knownFlags
		if err := b.gunzip.Reset(&b.prefix); err != nil {
			return release.Head{}, err
		}
		document = &b.gunzip
	}
	b.json.Reset(io.LimitReader(document, maxPrefixDocument), jsonOptions()...)
	return readHead(b.json)
}

// wholeHead reads the head from a payload's text, if it is within so many bytes of JSON.
func wholeHead(text io.Reader, most int) (release.Head, error) {
	stored := bufio.NewReader(base64.NewDecoder(base64.StdEncoding, text))
	start, err := stored.Peek(4)
	if err != nil && (err != io.EOF || len(start) == 0) {
		if err == io.EOF {
			err = Empty
		}
		return release.Head{}, err
	}
	var document io.Reader = stored
	if isGzip(start) {
		start[3] &= knownFlags // in the reader's buffer
		if document, err = gzip.NewReader(stored); err != nil {
			return release.Head{}, err
		}
	}
	return readHead(jsontext.NewDecoder(&limited{r: document, left: most}, jsonOptions()...))
}

// knownFlags are those of gzip's header that have a meaning. Helm's reader ignores others, and klauspost's refuses them.
const knownFlags = 1<<5 - 1

// isGzip distinguishes gzip from plain JSON as Helm does.
func isGzip(start []byte) bool {
	return len(start) > 3 && start[0] == 0x1f && start[1] == 0x8b && start[2] == 0x08
}

// reasonOf returns the reason for an error of decoding a whole payload.
func reasonOf(err error) Reason {
	var reason Reason
	var invalid base64.CorruptInputError
	var syntax *jsontext.SyntacticError
	switch {
	case errors.As(err, &reason):
		return reason
	case errors.As(err, &invalid):
		return Base64
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Truncated
	case errors.As(err, &syntax):
		return JSON
	}
	return Gzip
}
