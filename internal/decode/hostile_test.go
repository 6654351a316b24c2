package decode_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

func TestHostilePayloads(t *testing.T) {
	noise := make([]byte, 1<<20)
	chacha := rand.NewChaCha8([32]byte{1})
	_, _ = chacha.Read(noise)
	tests := map[string]struct {
		payload io.Reader
		reason  decode.Reason
	}{
		"a gzip bomb in a string that is skipped":   {bomb(`{"manifest":"`, "a"), "limit"},
		"a gzip bomb in a string that is kept":      {bomb(`{"info":{"description":"`, "a"), "limit"},
		"a gzip bomb in a member's name":            {bomb(`{"`, "a"), "limit"},
		"a gzip bomb in a number":                   {bomb(`{"version":`, "1"), "limit"},
		"a gzip bomb of white space":                {bomb(`{`, " "), "limit"},
		"a gzip bomb of arrays":                     {bomb(`{"config":`, "["), "limit"},
		"a gzip bomb of elements":                   {bomb(`{"config":[0`, ",0"), "limit"},
		"a mebibyte of random bytes":                {bytes.NewReader(noise), "base64"},
		"a mebibyte of random bytes, in base64":     {bytes.NewReader(payload.Base64(noise)), "json"},
		"a mebibyte of zeros":                       {bytes.NewReader(make([]byte, 1<<20)), "base64"},
		"line breaks and nothing else, for a while": {strings.NewReader(strings.Repeat("\n", 1<<20)), "empty"},
		"base64 without an end":                     {&endless{"ICAg"}, "limit"},
		"empty gzip members without an end":         {&endless{string(payload.Base64(payload.Gzip([]byte{}))[:24])}, "limit"},
		"line breaks without an end":                {&endless{"\n"}, "limit"},
	}
	d := &decode.Decoder{}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := allocated(func() {
				head, err := d.Head(test.payload)
				check(t, vector{Reason: test.reason}, head, err)
			}); got > 96<<20 {
				t.Errorf("allocated %d bytes", got)
			}
		})
	}
}

// bomb is a small payload of a document of 40 MiB, in many gzip members so that making it takes little time.
func bomb(start, more string) io.Reader {
	const member = 1 << 20
	charge := payload.Gzip([]byte(strings.Repeat(more, member/len(more))))
	return bytes.NewReader(payload.Base64(append(payload.Gzip([]byte(start)), bytes.Repeat(charge, 40)...)))
}

// endless repeats its text for ever.
type endless struct{ text string }

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		copied := copy(p[n:], e.text)
		e.text = e.text[copied:] + e.text[:copied]
		n += copied
	}
	return n, nil
}
