package decode_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// hostile is a payload that is made to cost much.
type hostile struct {
	payload io.ReadSeeker
	reason  decode.Reason
}

// hostilePayloads are as large as an API server takes them, or without an end. The bombs weigh as many bytes before
// they are in base64.
func hostilePayloads(weight int) map[string]hostile {
	noise := make([]byte, 768<<10) // of base64 a mebibyte
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	var names strings.Builder
	for i := range 250_000 {
		fmt.Fprintf(&names, `"%x":0,`, i)
	}
	digits := strings.Map(func(r rune) rune { return '0' + r%10 }, string(noise))
	nested := strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + ","
	const behind = `,"info":{"description":"a"}}`
	return map[string]hostile{
		"a gzip bomb in a string that is skipped":   {bomb(weight, `{"manifest":"`, "a"), "limit"},
		"a gzip bomb in a string that is kept":      {bomb(weight, `{"info":{"description":"`, "a"), "limit"},
		"a gzip bomb of escapes in a string":        {bomb(weight, `{"info":{"description":"`, `\u0000\ud800`), "limit"},
		"a gzip bomb of bytes that are no UTF-8":    {bomb(weight, `{"info":{"description":"`, "\xff"), "limit"},
		"a gzip bomb in a member's name":            {bomb(weight, `{"`, "a"), "limit"},
		"a gzip bomb in a number":                   {bomb(weight, `{"version":`, "1"), "limit"},
		"a gzip bomb of white space":                {bomb(weight, `{`, " "), "limit"},
		"a gzip bomb of arrays":                     {bomb(weight, `{"config":`, "["), "limit"},
		"a gzip bomb of nested arrays":              {bomb(weight, `{"config":[`, nested), "limit"},
		"a gzip bomb of elements":                   {bomb(weight, `{"config":[0`, ",0"), "limit"},
		"a gzip bomb of members":                    {bomb(weight, `{"config":{"":0`, `,"":0`), "limit"},
		"a gzip bomb of one member":                 {bomb(weight, `{"":0`, `,"":0`), "limit"},
		"250,000 members with different names":      {stow(`{`, names.String(), `"chart":{}`+behind), ""},
		"250,000 names in the chart's metadata":     {stow(`{"chart":{"metadata":{`, names.String(), `"version":"1"}}`+behind), ""},
		"a number far beyond all types":             {stow(`{"version":`, digits, behind), ""},
		"a gzip bomb of 400 KiB":                    {stow(`{"config":[0`, strings.Repeat(",0", 200<<10), `]`+behind), "limit"},
		"a mebibyte of random bytes":                {bytes.NewReader(noise), "base64"},
		"a mebibyte of random bytes, in base64":     {bytes.NewReader(payload.Base64(noise)), "json"},
		"a mebibyte of zeros":                       {bytes.NewReader(make([]byte, 1<<20)), "base64"},
		"a mebibyte of empty gzip blocks":           {bytes.NewReader(payload.Base64(emptyBlocks(weight))), "truncated"},
		"line breaks and nothing else, for a while": {strings.NewReader(strings.Repeat("\n", 1<<20)), "empty"},
		"base64 without an end":                     {&endless{text: "ICAg"}, "limit"},
		"empty gzip members without an end":         {&endless{text: string(payload.Base64(payload.Gzip([]byte{}))[:24])}, "limit"},
		"line breaks without an end":                {&endless{text: "\n"}, "limit"},
	}
}

const (
	// heaviest is what an API server takes, and light is enough for a bomb.
	heaviest = 768 << 10
	light    = 96 << 10
	// mostAllocated is how many bytes the decoding of any payload may allocate.
	mostAllocated = 96 << 20
	// longest is how long it may take. BenchmarkHostile says how long it does; here other tests run at the same time,
	// and there is the race detector.
	longest = time.Minute
)

func TestHostilePayloads(t *testing.T) {
	d := &decode.Decoder{}
	all := hostilePayloads(light)
	all["the largest gzip bomb in a string"] = hostilePayloads(heaviest)["a gzip bomb in a string that is kept"]
	for name, test := range all {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			got := allocated(func() {
				head, err := d.Head(test.payload)
				if reason(err) != test.reason || err == nil && head.Description != "a" {
					t.Errorf("got %v with %v, want %q", head, err, test.reason)
				}
			})
			if took := time.Since(start); got > mostAllocated || took > longest {
				t.Errorf("allocated %d bytes in %s", got, took)
			}
			rewind(test.payload)
			start = time.Now()
			got = allocated(func() {
				// A short one is decoded at once.
				if _, err := d.Near(test.payload); !errors.Is(err, decode.ErrFar) && name != "a gzip bomb of 400 KiB" {
					t.Errorf("got %v for the beginning", err)
				}
			})
			if took := time.Since(start); got > 1<<20 || took > longest {
				t.Errorf("its beginning: allocated %d bytes in %s", got, took)
			}
		})
	}
}

// BenchmarkHostile shows the worst that one payload can cost: all of it, and its beginning. The others cost less.
func BenchmarkHostile(b *testing.B) {
	d := &decode.Decoder{}
	for how, head := range map[string]func(io.Reader) (release.Head, error){"all": d.Head, "beginning": d.Near} {
		all := hostilePayloads(heaviest)
		for _, name := range []string{
			"a gzip bomb of one member", "a gzip bomb of nested arrays", "a mebibyte of empty gzip blocks", "a gzip bomb in a string that is kept",
		} {
			test := all[name]
			b.Run(how+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					rewind(test.payload)
					_, _ = head(test.payload)
				}
			})
		}
	}
}

func rewind(r io.Seeker) { _, _ = r.Seek(0, io.SeekStart) } // of a payload in memory

// stow is the payload of a document that has much before its head.
func stow(start, much, end string) io.ReadSeeker {
	return bytes.NewReader(payload.Base64(payload.Gzip([]byte(start + much + end))))
}

// bomb is a payload of a document of 41 MiB, in many gzip members so that making it takes little time. What fills it
// up is behind the limit.
func bomb(weight int, start, more string) io.ReadSeeker {
	const member = 1 << 20
	charge := payload.Gzip([]byte(strings.Repeat(more, member/len(more))))
	document := append(payload.Gzip([]byte(start)), bytes.Repeat(charge, 41)...)
	return bytes.NewReader(payload.Base64(append(document, make([]byte, max(weight-len(document), 0))...)))
}

// emptyBlocks is gzip of nothing, in as many blocks as fit, each with Huffman codes of its own.
func emptyBlocks(size int) []byte {
	out := []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
	var bits, held uint
	add := func(value, width uint) {
		bits |= value << held
		for held += width; held >= 8; held -= 8 {
			out = append(out, byte(bits))
			bits >>= 8
		}
	}
	for len(out) < size {
		add(0b100, 3) // one of several blocks, with dynamic codes
		add(0, 5+5)   // 257 literals and lengths, 1 distance
		add(14, 4)    // 18 code lengths, of which
		for i := range 18 {
			add(map[int]uint{2: 1, 17: 1}[i], 3) // the two for 18 and for 1 are one bit long
		}
		// The code of 1 is 0, and that of 18 is 1: that many zeros.
		add(1|(138-11)<<1, 1+7)
		add(1|(118-11)<<1, 1+7)
		add(0b00, 2) // the end of the block, and the distance, are one bit long
		add(0, 1)    // the end of the block
	}
	return out
}

// endless repeats its text for ever.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		copied := copy(p[n:], e.text[e.at:])
		n += copied
		e.at = (e.at + copied) % len(e.text)
	}
	return n, nil
}

// Seek only rewinds.
func (e *endless) Seek(int64, int) (int64, error) {
	e.at = 0
	return 0, nil
}

// TestCutAtEveryByte cuts a payload of Helm's at each of its bytes. What is left has the same head, or none.
func TestCutAtEveryByte(t *testing.T) {
	for _, name := range []string{"helm3-install", "helm4-rollback", "uncompressed"} {
		all := vectors(t)
		whole := all[slices.IndexFunc(all, func(v vector) bool { return v.name == name })]
		d := &decode.Decoder{}
		heads := 0
		for size := range whole.payload {
			head, err := d.Head(bytes.NewReader(whole.payload[:size]))
			switch {
			case err == nil && head == whole.Head:
				heads++
			case err == nil:
				t.Errorf("%s, %d bytes: %+v", name, size, head)
			case heads > 0:
				t.Errorf("%s, %d bytes: %v, and fewer bytes had the head", name, size, err)
			case size == 0 && reason(err) != decode.Empty, size > 4 && reason(err) != decode.Truncated && reason(err) != decode.Base64:
				t.Errorf("%s, %d bytes: %v", name, size, err) // 4 are 3 bytes, too few to be gzip
			}
			wellFormed(t, head, err)
		}
		if heads == 0 || heads == len(whole.payload) {
			t.Errorf("%s: %d of %d cuts have the head", name, heads, len(whole.payload))
		}
	}
}
