package decode

import (
	"errors"
	"io"
)

// The causes for which a payload has no head. Head wraps exactly one of them
// in each of its own errors. None of these errors quotes the payload, which
// may hold secrets.
var (
	// ErrBase64 says that the payload is not padded standard base64.
	ErrBase64 = errors.New("payload is not base64")
	// ErrEmpty says that the payload has no bytes, or only line breaks.
	ErrEmpty = errors.New("payload is empty")
	// ErrGzip says that the payload starts as gzip and is damaged within the
	// head.
	ErrGzip = errors.New("payload is damaged gzip")
	// ErrJSON says that the payload is not JSON, or is JSON that cannot be a
	// release: a field of the head has a type that Helm would refuse too.
	ErrJSON = errors.New("payload is not a release in JSON")
	// ErrLimit says that the payload is larger, longer or deeper than any
	// release that Helm can store.
	ErrLimit = errors.New("payload is beyond the limits")
	// ErrTruncated says that the payload ends before its head does.
	ErrTruncated = errors.New("payload ends inside the head")
)

// Reasons returns every value of Reason but the empty one, in alphabetical
// order.
func Reasons() []string {
	return []string{"base64", "empty", "gzip", "json", "limit", "truncated"}
}

// Reason returns the cause of an error of Head as one word, fit for a metric's
// label. It is empty if the payload could not be read, which says nothing of
// the payload itself, and for nil.
func Reason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrBase64):
		return "base64"
	case errors.Is(err, ErrEmpty):
		return "empty"
	case errors.Is(err, ErrGzip):
		return "gzip"
	case errors.Is(err, ErrJSON):
		return "json"
	case errors.Is(err, ErrLimit):
		return "limit"
	case errors.Is(err, ErrTruncated):
		return "truncated"
	}
	return ""
}

// readerError marks an error of the payload's reader on its way up through
// bufio and inflate: that reader may well fail with io.ErrUnexpectedEOF, which
// must not be taken for a truncated payload.
type readerError struct{ error }

// cause tells the error of one pass by what made it fail.
func cause(err error) error {
	if err == nil {
		return nil
	}
	if failed, ok := err.(readerError); ok {
		return failed.error
	}
	if Reason(err) != "" {
		return err
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrTruncated
	}
	// What is left comes from inflate.
	return ErrGzip
}
