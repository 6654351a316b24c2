package watch

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"time"

	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// readBuffer is how much of an answer is buffered: enough for the prefix that
// the decoder looks at first.
const readBuffer = 8 << 10

// reader reads one payload at a time; its buffers are used again.
type reader struct {
	decoder *decode.Decoder
	answer  *bufio.Reader
}

// reading is what came of one read.
type reading struct {
	payload  release.Payload
	decoding time.Duration
}

func newReader() *reader {
	return &reader{decoder: decode.New(), answer: bufio.NewReaderSize(nil, readBuffer)}
}

// read gets a record and decodes its head from the stream. What follows the
// head is drained, not cut off: the bytes are under way already, and a stream
// that is reset half-way is an error in the API server's log.
func (r *reader) read(ctx context.Context, core rest.Interface, key release.Key, rev *release.Revision) (reading, error) {
	body, err := getRecord(ctx, core, key, rev)
	if err != nil {
		return reading{}, err
	}
	defer body.Close()
	r.answer.Reset(body)
	defer r.forget()
	version, size, err := seekPayload(r.answer, rev.UID)
	got := reading{payload: release.Payload{Bytes: size, Read: time.Now().UTC(), ResourceVersion: version}}
	switch {
	case errors.Is(err, errNoPayload):
		got.payload.Problem = reasonNoPayload
		return got, nil
	case err != nil:
		return reading{}, err
	}
	if _, err := r.answer.Peek(min(size, readBuffer/2)); err != nil {
		return reading{}, cutOff(err)
	}
	start := time.Now()
	head, err := r.decoder.Head(&exactly{r: r.answer, left: size})
	got.decoding = time.Since(start)
	got.payload.Head, got.payload.Problem = head, decode.Reason(err)
	if err != nil && got.payload.Problem == "" {
		return reading{}, err
	}
	// By way of our own buffer: those of io.Discard are never overwritten. What
	// was wanted is in hand, so it does not matter if the rest fails to come.
	_, _ = r.answer.Discard(math.MaxInt)
	return got, nil
}

// forget overwrites what the buffer holds of somebody's payload.
func (r *reader) forget() {
	r.answer.Reset(zeros{})
	_, _ = r.answer.Peek(readBuffer) // zeros cannot fail
	r.answer.Reset(nil)
}

// zeros is an endless stream of zero bytes.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// exactly is a payload within its answer. Unlike io.LimitReader it tells an
// answer that was cut off from a payload that ends: the former is an error of
// reading, which passes, the latter may be one of decoding, which does not.
type exactly struct {
	r    io.Reader
	left int
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(len(p), e.left)])
	e.left -= n
	if e.left > 0 {
		err = cutOff(err)
	}
	return n, err
}
