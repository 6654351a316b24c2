package decode_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// FuzzDecode decodes payloads as stored.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.payload)
	}
	d := &decode.Decoder{}
	f.Fuzz(func(t *testing.T, payload []byte) {
		head, err := d.Head(bytes.NewReader(payload))
		wellFormed(t, head, err)
		if document, ok := opened(payload); ok {
			agrees(t, document, head, err)
		}
	})
}

// FuzzDocument decodes documents, with and without gzip, and with and without what follows the first syntax
// error.
func FuzzDocument(f *testing.F) {
	for _, v := range vectors(f) {
		if document, ok := opened(v.payload); ok && len(document) < 64<<10 {
			f.Add(document)
		}
	}
	d := &decode.Decoder{}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if isGzip := len(document) > 3 && string(document[:3]) == "\x1f\x8b\x08"; isGzip || len(document) == 0 || len(document) > 64<<10 {
			return
		}
		head, err := d.Head(bytes.NewReader(payload.Base64(document)))
		wellFormed(t, head, err)
		agrees(t, document, head, err)
		b.Reset()
		w.Reset(&b)
		_, _ = w.Write(document)
		_ = w.Close()
		zippedHead, zippedErr := d.Head(bytes.NewReader(payload.Base64(b.Bytes())))
		if diff := cmp.Diff(head, zippedHead); diff != "" {
			t.Errorf("head under gzip (-plain +gzip):\n%s", diff)
		}
		if reason(err) != reason(zippedErr) {
			t.Errorf("error %v, under gzip %v", err, zippedErr)
		}
		var syntax *json.SyntaxError
		if err == nil && errors.As(json.Unmarshal(document, new(any)), &syntax) &&
			syntax.Error() != "unexpected end of JSON input" {
			correct := document[:syntax.Offset-1]
			if _, err := d.Head(bytes.NewReader(payload.Base64(correct))); err != nil {
				t.Errorf("accepted a syntax error at byte %d: %v (without it: %v)", syntax.Offset, syntax, err)
			}
		}
	})
}

// wellFormed checks what holds for every payload.
func wellFormed(t *testing.T, head release.Head, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if head != (release.Head{}) {
		t.Errorf("a head with the error %v: %+v", err, head)
	}
	if !slices.Contains(decode.Reasons(), reason(err)) {
		t.Errorf("error without a reason: %v", err)
	}
}

// agrees checks a head against a whole unmarshal of its document, up to where the head ends.
func agrees(t *testing.T, document []byte, head release.Head, err error) {
	t.Helper()
	object := bytes.HasPrefix(bytes.TrimLeft(document, " \t\r\n"), []byte("{"))
	if !object && err == nil {
		t.Error("accepted what is no object")
	}
	if !object || !json.Valid(document) {
		return
	}
	beginning, ambiguous := untilHead(document)
	if ambiguous {
		if err == nil {
			t.Errorf("accepted a field that comes twice or in another case: %+v", head)
		}
		return
	}
	want, long, wantErr := oracle(beginning)
	switch {
	case wantErr != nil && err == nil:
		t.Errorf("accepted what a whole unmarshal refuses: %v", wantErr)
	case wantErr == nil && long && reason(err) != "limit":
		t.Errorf("too long a string gave %v", err)
	case wantErr == nil && !long && err != nil:
		t.Errorf("refused what a whole unmarshal accepts: %v", err)
	case wantErr == nil && !long:
		if diff := cmp.Diff(want, head); diff != "" {
			t.Errorf("head (-want +got):\n%s", diff)
		}
	}
}

// opened is the document of a payload that is intact.
func opened(text []byte) ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return nil, false
	}
	if len(b) > 3 && string(b[:3]) == "\x1f\x8b\x08" {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, false
		}
		most := min(64<<10+16*len(text), 8<<20) // beyond, the decoder stops
		b, err = io.ReadAll(io.LimitReader(z, int64(most)))
		if err != nil || len(b) == most {
			return nil, false
		}
	}
	return b, true
}

// TestOrderOfFields decodes releases whose fields are in any order, among values of any kind.
func TestOrderOfFields(t *testing.T) {
	d := &decode.Decoder{}
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(
			rapid.String(),
			rapid.StringMatching(`[a-z"\\<é🚀]{0,700}`),
		)
		noise := rapid.SampledFrom([]any{
			nil, true, -1.5e-7, 0, "", "quoted \" and \\", []any{}, map[string]any{},
			[]any{[]any{map[string]any{"info": []any{1, "}"}}}}, map[string]any{"chart": map[string]any{"metadata": 1}},
		})
		object := func(members map[string]any) json.RawMessage {
			for _, extra := range []string{"extra", "other"} {
				members[extra] = noise.Draw(rt, extra)
			}
			return shuffled(rt, members)
		}
		document := object(map[string]any{
			"name": text.Draw(rt, "name"),
			"info": object(map[string]any{
				"first_deployed":    rapid.SampledFrom([]any{nil, "", "2024-02-29T11:30:00.5+05:30"}).Draw(rt, "first"),
				"last_deployed":     "2024-03-01T08:00:00Z",
				"description":       text.Draw(rt, "description"),
				"rollback_revision": rapid.Int().Draw(rt, "rollback"),
				"notes":             text.Draw(rt, "notes"),
			}),
			"chart": object(map[string]any{
				"metadata": object(map[string]any{
					"name":       text.Draw(rt, "chart"),
					"version":    text.Draw(rt, "version"),
					"deprecated": rapid.Bool().Draw(rt, "deprecated"),
				}),
				"values": noise.Draw(rt, "values"),
			}),
		})
		head, err := d.Head(bytes.NewReader(payload.Base64(payload.Gzip(document))))
		agrees(t, document, head, err)
		if t.Failed() {
			rt.Fatalf("document %q", document)
		}
	})
}

// shuffled writes an object with its members in a drawn order.
func shuffled(rt *rapid.T, members map[string]any) json.RawMessage {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	document := []byte{'{'}
	for i, name := range rapid.Permutation(names).Draw(rt, "order") {
		if i > 0 {
			document = append(document, ',')
		}
		value, err := json.Marshal(members[name])
		if err != nil {
			rt.Fatal(err)
		}
		document = append(document, `"`+name+`":`...)
		document = append(document, value...)
	}
	return append(document, '}')
}
