package watch

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	payloadKey      = "release"    // the data key of a record's payload
	reasonNoPayload = "no_payload" // joins the reasons of package decode: there is no such key
)

var (
	errNoPayload = errors.New("the record has no payload key")
	errReplaced  = errors.New("the record was replaced by another of the same name")
	errProtobuf  = errors.New("the response is not a Kubernetes object in protobuf")
	errNoField   = errors.New("the message has no such field")
)

// headReader is decode.Decoder's Head or Near.
type headReader func(io.Reader) (release.Head, error)

// readPayload gets a record and decodes the head of its payload from the stream. A typed client would hold the
// whole object, which costs 0.2 ms of CPU more for each and 8 MB of memory.
//
// A payload that cannot be decoded is not an error but has a Problem. An error means that the payload could not
// be read: errReplaced if the record of this name has another UID, decode.ErrFar if head returns that.
func readPayload(ctx context.Context, core rest.Interface, head headReader, key release.Key, rev *release.Revision) (p release.Payload, decoding time.Duration, err error) {
	body, err := core.Get().
		Namespace(key.Namespace).
		Resource(string(rev.Storage)).
		Name(rev.Object(key.Name)).
		// The server may answer from its watch cache, but with nothing older than the event that announced the
		// revision.
		Param("resourceVersion", strconv.FormatUint(rev.ResourceVersion, 10)).
		SetHeader("Accept", "application/vnd.kubernetes.protobuf").
		Stream(ctx)
	if err != nil {
		return p, 0, err
	}
	defer body.Close()
	response := bufio.NewReaderSize(body, 8<<10)
	version, size, err := seekPayload(response, rev.UID)
	p = release.Payload{Bytes: size, Read: time.Now().UTC(), ResourceVersion: version}
	if errors.Is(err, errNoPayload) {
		p.Problem = reasonNoPayload
		return p, 0, nil
	}
	if err == nil {
		// The time of decoding leaves out the wait for the first kilobytes.
		_, err = response.Peek(min(size, 4<<10))
	}
	if err != nil {
		return release.Payload{}, 0, unexpectedEnd(err)
	}
	start := time.Now()
	p.Head, err = head(&exactly{r: response, left: size})
	decoding = time.Since(start)
	var reason decode.Reason
	if errors.As(err, &reason) {
		p.Problem, err = string(reason), nil
	}
	if err != nil && !errors.Is(err, decode.ErrFar) {
		return release.Payload{}, 0, err
	}
	// Read to the end: the bytes are on their way anyway, and a stream that is reset is an error in the API
	// server's log. It does not matter whether the rest arrives.
	_, _ = io.Copy(io.Discard, response)
	return p, decoding, err
}

// exactly is a payload within its response. A response that ends early is an error of reading, and is tried
// again; io.LimitReader would make it look like a payload that ends early, which is not.
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
		err = unexpectedEnd(err)
	}
	return n, err
}

// unexpectedEnd turns io.EOF into io.ErrUnexpectedEOF.
func unexpectedEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// seekPayload reads a Secret or a ConfigMap in the API's protobuf encoding up to the first byte of its payload,
// and returns the object's resource version and the payload's size in bytes. It returns errReplaced if the
// object's UID is not the given one, and errNoPayload, with the version, if it has no payload.
//
// An object is "k8s\0", then a runtime.Unknown whose field 2 holds the Secret or ConfigMap: field 1 is its
// metadata (UID in field 5, resource version in 6), field 2 an entry of its data (key in field 1, value in
// field 2), alike in both kinds. Fields come in the order of their numbers, as the API server's generated code
// writes them.
func seekPayload(r *bufio.Reader, uid release.UID) (version uint64, size int, err error) {
	if magic, err := r.Peek(4); err != nil {
		return 0, 0, err
	} else if string(magic) != "k8s\x00" {
		return 0, 0, errProtobuf
	}
	_, _ = r.Discard(4) // which has been read
	object, err := (&message{r: r, left: math.MaxInt64}).open(2)
	if err != nil {
		return 0, 0, err
	}
	meta, err := object.open(1)
	if err != nil {
		return 0, 0, err
	}
	if text, err := meta.text(5); err != nil {
		return 0, 0, err
	} else if release.ParseUID(text) != uid {
		return 0, 0, errReplaced
	}
	text, err := meta.text(6)
	if err != nil {
		return 0, 0, err
	}
	version = parseResourceVersion(text)
	for inner := meta; ; {
		if err := inner.skip(inner.left); err != nil {
			return 0, 0, err
		}
		entry, err := object.open(2)
		if errors.Is(err, errNoField) {
			return version, 0, errNoPayload
		}
		if err != nil {
			return 0, 0, err
		}
		if key, err := entry.text(1); err != nil {
			return 0, 0, err
		} else if key == payloadKey {
			value, err := entry.open(2)
			if err != nil {
				return 0, 0, err
			}
			return version, int(value.left), nil
		}
		inner = entry
	}
}

// message reads the fields of one protobuf message from a stream, without holding it.
type message struct {
	r    *bufio.Reader
	left int64 // bytes of the message that have not been read
}

// ReadByte implements io.ByteReader.
func (m *message) ReadByte() (byte, error) {
	m.left--
	return m.r.ReadByte()
}

// open skips to the next field with this number, which must hold bytes, and returns them as a message, which
// the caller reads or skips to its end before it goes on with m. It returns errNoField if there is none.
func (m *message) open(field protowire.Number) (*message, error) {
	for m.left > 0 {
		tag, err := binary.ReadUvarint(m)
		if err != nil {
			return nil, err
		}
		number, kind := protowire.DecodeTag(tag)
		var size uint64
		switch kind {
		case protowire.VarintType:
			_, err = binary.ReadUvarint(m)
		case protowire.Fixed32Type:
			size = 4
		case protowire.Fixed64Type:
			size = 8
		case protowire.BytesType:
			size, err = binary.ReadUvarint(m)
		default:
			err = errProtobuf
		}
		if err != nil {
			return nil, err
		}
		if m.left < 0 || size > uint64(m.left) {
			return nil, errProtobuf
		}
		if kind == protowire.BytesType && number == field {
			m.left -= int64(size)
			return &message{r: m.r, left: int64(size)}, nil
		}
		if err := m.skip(int64(size)); err != nil {
			return nil, err
		}
	}
	return nil, errNoField
}

// text reads the next field with this number, which is short.
func (m *message) text(field protowire.Number) (string, error) {
	value, err := m.open(field)
	if err != nil {
		return "", err
	}
	if value.left > 1<<10 {
		return "", errProtobuf
	}
	text := make([]byte, value.left)
	_, err = io.ReadFull(m.r, text)
	return string(text), err
}

func (m *message) skip(n int64) error {
	m.left -= n
	_, err := m.r.Discard(int(n))
	return err
}
