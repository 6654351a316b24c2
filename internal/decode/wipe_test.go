package decode

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unsafe"
)

// TestNothingIsLeft checks that every byte that can be reached from a Decoder
// is zero after each payload, whichever way the decoder went through it.
func TestNothingIsLeft(t *testing.T) {
	noise := rand.New(rand.NewPCG(1, 1))
	random := make([]byte, 60_000)
	for i := range random {
		random[i] = "0123456789abcdef"[noise.IntN(16)]
	}
	secrets := string(random)
	head := `"info":{"description":"` + secrets[:600] + `"},"chart":{"metadata":{"name":"` + secrets[:900] + `"}}`
	tests := map[string]string{
		"the head comes first":        `{` + head + `,"manifest":"` + secrets + `"}`,
		"the head comes last":         `{"manifest":"` + secrets + `",` + head + `}`,
		"the document is cut":         `{"manifest":"` + secrets,
		"the document is wrong":       `{"manifest":"` + secrets + `"]`,
		"a version is not acceptable": `{"chart":{"metadata":{"version":"` + secrets[:2000],
		"a time is not acceptable":    `{"info":{"last_deployed":"` + secrets[:200] + `"}}`,
	}
	d := New()
	for name, document := range tests {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			w.Name = secrets[:300]
			_, _ = io.WriteString(w, document)
			_ = w.Close()
			for _, stored := range []string{b.String(), document} {
				text := base64.StdEncoding.EncodeToString([]byte(stored))
				for _, payload := range []io.Reader{
					strings.NewReader(text),
					iotest.TimeoutReader(iotest.HalfReader(strings.NewReader(text))),
				} {
					_, _ = d.Head(payload)
					searched := 0
					search(t, reflect.ValueOf(d), map[uintptr]bool{}, &searched)
					if searched < window+window+storedSize {
						t.Fatalf("searched only %d bytes", searched)
					}
				}
			}
		})
	}
}

// search fails the test for every array or slice of bytes under v, up to its
// capacity, that is not all zeros.
func search(t *testing.T, v reflect.Value, seen map[uintptr]bool, searched *int) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && !seen[v.Pointer()] {
			seen[v.Pointer()] = true
			search(t, v.Elem(), seen, searched)
		}
	case reflect.Interface:
		if !v.IsNil() {
			search(t, v.Elem(), seen, searched)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			search(t, v.Field(i), seen, searched)
		}
	case reflect.String:
		if v.Len() > 0 {
			t.Error("a string is left")
		}
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 && v.CanAddr() {
			zero(t, unsafe.Slice((*byte)(v.Addr().UnsafePointer()), v.Len()), searched)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 && !v.IsNil() {
			zero(t, unsafe.Slice((*byte)(v.UnsafePointer()), v.Cap()), searched)
		}
	}
}

func zero(t *testing.T, b []byte, searched *int) {
	*searched += len(b)
	for i, c := range b {
		if c != 0 {
			t.Errorf("byte %d of %d is left", i, len(b))
			return
		}
	}
}
