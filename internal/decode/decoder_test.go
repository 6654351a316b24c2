package decode_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

func TestHeadEqualsWholeUnmarshal(t *testing.T) {
	d := &decode.Decoder{}
	for seed := range uint64(20) {
		g := generate(seed)
		text := stored(t, g.release(1000+g.IntN(50_000), g.IntN(5000)))
		document, ok := opened(text)
		if !ok {
			t.Fatal("payload does not open")
		}
		head, err := d.Head(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		agrees(t, document, head, err)
	}
}

func TestReaderErrorComesBack(t *testing.T) {
	text := stored(t, generate(1).release(10_000, 20_000))
	failure := fmt.Errorf("get the payload: %w", context.DeadlineExceeded)
	tests := map[string]struct {
		read int
		err  error
	}{
		"before the first byte":                      {0, failure},
		"within the first quantum":                   {3, failure},
		"within the gzip header":                     {8, failure},
		"within the head":                            {400, failure},
		"behind the first pass":                      {3500, failure},
		"as an end of input that came too early":     {400, io.ErrUnexpectedEOF},
		"as an end of input too early for gzip":      {3, io.ErrUnexpectedEOF},
		"as a closed pipe in the middle of the head": {400, io.ErrClosedPipe},
	}
	d := &decode.Decoder{}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := io.MultiReader(bytes.NewReader(text[:test.read]), iotest.ErrReader(test.err))
			head, err := d.Head(r)
			if !errors.Is(err, test.err) {
				t.Errorf("got error %v, want %v", err, test.err)
			}
			if reason := reason(err); reason != "" {
				t.Errorf("got reason %q for an error of the reader", reason)
			}
			if head != (release.Head{}) {
				t.Errorf("got a head with an error: %+v", head)
			}
		})
	}
}

func TestReaderErrorBehindTheHeadIsNotMet(t *testing.T) {
	text := stored(t, generate(1).release(40_000, 0))
	r := io.MultiReader(bytes.NewReader(text[:3500]), iotest.ErrReader(errors.New("reset")))
	if _, err := new(decode.Decoder).Head(r); err != nil {
		t.Errorf("got error %v", err)
	}
}

func TestReadsLittleOfALargePayload(t *testing.T) {
	r := bytes.NewReader(stored(t, generate(2).release(500_000, 900)))
	if _, err := new(decode.Decoder).Head(r); err != nil {
		t.Fatal(err)
	}
	if read := int(r.Size()) - r.Len(); read > 8<<10 {
		t.Errorf("read %d of %d bytes", read, r.Size())
	}
}

func TestReaderWithoutProgress(t *testing.T) {
	stuck := readerFunc(func([]byte) (int, error) { return 0, nil })
	if _, err := new(decode.Decoder).Head(stuck); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got error %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestErrorsDoNotQuoteThePayload(t *testing.T) {
	d := &decode.Decoder{}
	for _, document := range []string{
		`{"info":{"last_deployed":"hunter2"}}`,
		`{"info":{"first_deployed":"77777777777777777777"}}`,
		`{"info":{"description":hunter2}}`,
		`{"hunter2" 1}`,
		`hunter2`,
	} {
		_, err := d.Head(bytes.NewReader(payload.Base64([]byte(document))))
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "777") {
			t.Errorf("%s: got error %v", document, err)
		}
	}
}

// TestRepeatedFields writes fields twice or in another case. Helm never does, and reads the last of them in any case,
// so that a reader who takes the first one shows something else than Helm.
func TestRepeatedFields(t *testing.T) {
	tests := map[string]struct {
		document string
		want     vector
	}{
		"two infos":                            {`{"info":{"description":"a"},"info":{"description":"b"}}`, vector{Reason: decode.JSON}},
		"two charts, one of them null":         {`{"chart":null,"chart":{"metadata":{"name":"b"}}}`, vector{Reason: decode.JSON}},
		"two descriptions":                     {`{"info":{"description":"a","description":"b"}}`, vector{Reason: decode.JSON}},
		"two chart versions, one of them null": {`{"chart":{"metadata":{"version":"1","version":null}}}`, vector{Reason: decode.JSON}},
		"an info in upper case":                {`{"INFO":{"description":"a"}}`, vector{Reason: decode.JSON}},
		"a name in both cases":                 {`{"chart":{"metadata":{"name":"a","Name":"b"}}}`, vector{Reason: decode.JSON}},
		"letters that fold to others":          {`{"info":{"de\u017fcription":"a"}}`, vector{Reason: decode.JSON}},
		"what is not read may come twice": {
			`{"name":1,"Name":2,"chart":{"values":{"name":1,"name":2}},"info":{"notes":"","notes":"","description":"a"}}`,
			vector{Head: release.Head{Description: "a"}}},
		"behind the head nothing is read": {
			`{"info":{"description":"a"},"chart":{"metadata":{"name":"b"},"metadata":{"name":"c"}},"info":{"description":"c"}}`,
			vector{Head: release.Head{Description: "a", Chart: release.Chart{Name: "b"}}}},
	}
	d := &decode.Decoder{}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			head, err := d.Head(bytes.NewReader(payload.Base64([]byte(test.document))))
			check(t, test.want, head, err)
			agrees(t, []byte(test.document), head, err)
		})
	}
}

// TestAllocatesLittle allows for the race detector, which drops a quarter of what is put into a pool. Buffers
// of their own would take 60 KB for each payload.
func TestAllocatesLittle(t *testing.T) {
	d := &decode.Decoder{}
	for name, test := range map[string]struct {
		release *payload.Release
		most    uint64 // bytes
	}{
		"a head in the first prefix":  {generate(2).release(50_000, 0), 32 << 10},
		"a head in the second prefix": {generate(2).release(50_000, 4000), 32 << 10},
		"a head that is far behind":   {generate(2).release(50_000, 90_000), 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			text := stored(t, test.release)
			const runs = 100
			got := allocated(func() {
				for range runs {
					if _, err := d.Head(bytes.NewReader(text)); err != nil {
						t.Fatal(err)
					}
				}
			}) / runs
			if got > test.most {
				t.Errorf("allocates %d bytes, want at most %d", got, test.most)
			}
		})
	}
}

// allocated returns how many bytes a function allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestOneDecoderServesManyAtOnce(t *testing.T) {
	d := &decode.Decoder{}
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for _, v := range vectors(t) {
				head, err := d.Head(bytes.NewReader(v.payload))
				check(t, v, head, err)
			}
		})
	}
	running.Wait()
}
