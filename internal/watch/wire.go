package watch

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

var (
	errWire       = errors.New("the answer is no Kubernetes object in protobuf")
	errMessageEnd = errors.New("the message has no such field")
)

// wire reads the fields of one protobuf message from a stream, holding
// nothing of it.
type wire struct {
	r    *bufio.Reader
	left int64 // bytes of the message that are yet to be read
}

// enter skips to the next field with this number, which must hold bytes, and
// returns them as a message of their own, which the caller reads or skips to
// its end before going on with w. It returns errMessageEnd if there is no such
// field.
func (w *wire) enter(field protowire.Number) (*wire, error) {
	for w.left > 0 {
		tag, err := w.varint()
		if err != nil {
			return nil, err
		}
		number, kind := protowire.DecodeTag(tag)
		var length uint64
		switch kind {
		case protowire.VarintType:
			_, err = w.varint()
		case protowire.Fixed32Type:
			length = 4
		case protowire.Fixed64Type:
			length = 8
		case protowire.BytesType:
			length, err = w.varint()
		default:
			err = errWire
		}
		if err != nil {
			return nil, err
		}
		if length > uint64(w.left) {
			return nil, errWire
		}
		if kind == protowire.BytesType && number == field {
			w.left -= int64(length)
			return &wire{r: w.r, left: int64(length)}, nil
		}
		if err := w.skip(int64(length)); err != nil {
			return nil, err
		}
	}
	return nil, errMessageEnd
}

// maxText is longer than any text that is read as one.
const maxText = 1 << 10

// text reads the next field with this number.
func (w *wire) text(field protowire.Number) (string, error) {
	value, err := w.enter(field)
	if err != nil {
		return "", err
	}
	if value.left > maxText {
		return "", errWire
	}
	text := make([]byte, value.left)
	_, err = io.ReadFull(w.r, text)
	return string(text), cutOff(err)
}

func (w *wire) skip(n int64) error {
	w.left -= n
	_, err := w.r.Discard(int(n))
	return cutOff(err)
}

func (w *wire) varint() (uint64, error) {
	var n uint64
	for i := range binary.MaxVarintLen64 {
		b, err := w.r.ReadByte()
		if err != nil {
			return 0, cutOff(err)
		}
		w.left--
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errWire
}

// cutOff makes the end of the stream an error of its own kind: within a
// message it always comes too early.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
