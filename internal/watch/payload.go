package watch

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"strconv"

	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// protobufContentType is what the API server is asked for. Only its field
// lengths make it possible to walk over an object without holding it.
const protobufContentType = "application/vnd.kubernetes.protobuf"

// payloadKey is the data key of a record's payload.
const payloadKey = "release"

var (
	errNoPayload = errors.New("the record has no payload key")
	errReplaced  = errors.New("the record was replaced by another of the same name")
)

// getRecord starts a GET of a record. The resource version lets the server
// answer from its watch cache, but not with anything older than the event that
// told of the revision. The caller closes the answer.
func getRecord(ctx context.Context, client rest.Interface, key release.Key, rev *release.Revision) (io.ReadCloser, error) {
	return client.Get().
		Namespace(key.Namespace).
		Resource(string(rev.Storage)).
		Name(rev.Object(key.Name)).
		Param("resourceVersion", strconv.FormatUint(rev.ResourceVersion, 10)).
		SetHeader("Accept", protobufContentType).
		Stream(ctx)
}

// seekPayload reads a Secret or a ConfigMap in the API's protobuf encoding up
// to the first byte of its payload, and returns the object's resource version
// and the payload's size in bytes. The object is never held: what is not wanted
// is discarded as it streams by. It returns errReplaced if the object's UID is
// not the given one, and errNoPayload, with the version, if it has no payload.
// Any other error is one of reading.
//
// An object is "k8s\0", then a runtime.Unknown whose field 2 holds a Secret or
// ConfigMap: field 1 is its metadata (UID in field 5, resource version in 6),
// field 2 an entry of its data (key in field 1, value in field 2), alike in
// both kinds. Fields come in the order of their numbers, as the API server's
// generated code writes them.
func seekPayload(r *bufio.Reader, uid release.UID) (version uint64, size int, err error) {
	var magic [4]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil {
		return 0, 0, cutOff(err)
	}
	if string(magic[:]) != "k8s\x00" {
		return 0, 0, errWire
	}
	object, err := (&wire{r: r, left: math.MaxInt64}).enter(2)
	if err != nil {
		return 0, 0, err
	}
	meta, err := object.enter(1)
	if err != nil {
		return 0, 0, err
	}
	if got, err := meta.text(5); err != nil {
		return 0, 0, err
	} else if release.ParseUID(got) != uid {
		return 0, 0, errReplaced
	}
	text, err := meta.text(6)
	if err != nil {
		return 0, 0, err
	}
	version = parseResourceVersion(text)
	if err := meta.skip(meta.left); err != nil {
		return 0, 0, err
	}
	for {
		entry, err := object.enter(2)
		if errors.Is(err, errMessageEnd) {
			return version, 0, errNoPayload
		}
		if err != nil {
			return 0, 0, err
		}
		if key, err := entry.text(1); err != nil {
			return 0, 0, err
		} else if key == payloadKey {
			value, err := entry.enter(2)
			if err != nil {
				return 0, 0, err
			}
			return version, int(value.left), nil
		}
		if err := entry.skip(entry.left); err != nil {
			return 0, 0, err
		}
	}
}
