package decode_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// vector is a payload under testdata, and what it must decode to. To read one: base64 -d NAME.b64 | gunzip.
type vector struct {
	name    string
	payload []byte
	Head    release.Head
	Reason  decode.Reason
}

func vectors(tb testing.TB) []vector {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.b64")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no vectors: %v", err)
	}
	var all []vector
	for _, file := range files {
		v := vector{name: strings.TrimSuffix(filepath.Base(file), ".b64")}
		if v.payload, err = os.ReadFile(file); err != nil {
			tb.Fatal(err)
		}
		want, err := os.ReadFile(strings.TrimSuffix(file, ".b64") + ".json")
		if err != nil {
			tb.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(want))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		all = append(all, v)
	}
	return all
}

func TestVectors(t *testing.T) {
	d := &decode.Decoder{}
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			head, err := d.Head(bytes.NewReader(v.payload))
			check(t, v, head, err)
			head, err = d.Head(iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(v.payload))))
			check(t, v, head, err)
		})
	}
}

func check(t *testing.T, want vector, head release.Head, err error) {
	t.Helper()
	if diff := cmp.Diff(want.Head, head); diff != "" {
		t.Errorf("head (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Reason, reason(err)); diff != "" {
		t.Errorf("reason of %v (-want +got):\n%s", err, diff)
	}
	if want.Reason == "" && err != nil {
		t.Errorf("error without a reason: %v", err)
	}
}

func TestVectorsHaveEveryReason(t *testing.T) {
	seen := map[decode.Reason]bool{}
	for _, v := range vectors(t) {
		seen[v.Reason] = true
	}
	for _, reason := range decode.Reasons() {
		if !seen[reason] {
			t.Errorf("no vector has the reason %q", reason)
		}
		delete(seen, reason)
	}
	delete(seen, "")
	if len(seen) > 0 {
		t.Errorf("Reasons lacks %v", seen)
	}
}

// reason returns the reason of an error, "" for nil and an error of the reader.
func reason(err error) decode.Reason {
	var r decode.Reason
	errors.As(err, &r)
	return r
}
