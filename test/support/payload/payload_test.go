package payload_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

func TestGeneratedReleasesAreReadBack(t *testing.T) {
	const releases = 40
	total := 0
	for seed := range releases {
		r := payload.NewGenerator(seed).Release("team-a", 30)
		r.Info.LastDeployed.Time = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
		r.Chart.Metadata.Version = "1.2.3"
		encoded := expect.Value(payload.Encode(r))(t)
		total += len(encoded)
		full := expect.Value(payload.Decode(encoded))(t)
		if full.Manifest != r.Manifest {
			t.Error("the manifest has changed")
		}
		expect.Equal(t, "the metadata differs", r.Chart.Metadata, full.Chart.Metadata)
		head := expect.Value(new(decode.Decoder).Head(bytes.NewReader(encoded)))(t)
		if head.Chart.Name != full.Chart.Metadata.Name || head.Chart.Version != "1.2.3" || !head.LastDeployed.Equal(full.Info.LastDeployed.Time) {
			t.Errorf("the exporter reads %v %v, Helm %v", head.Chart, head.LastDeployed, full.Chart.Metadata)
		}
	}
	if mean := total / releases; mean < 40_000 || mean > 48_000 {
		t.Errorf("the mean payload has %d bytes, want about 44,000 as real charts have", mean)
	}
}

func TestDecode(t *testing.T) {
	const document = `{"info":{"deleted":"","description":"done"}}`
	for name, p := range map[string][]byte{
		"compressed":                          payload.Base64(payload.Gzip([]byte(document))),
		"as the first versions of Helm wrote": payload.Base64([]byte(document)),
	} {
		if r, err := payload.Decode(p); err != nil || r.Info.Description != "done" || !r.Info.Deleted.IsZero() {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	for name, p := range map[string][]byte{
		"no base64":      []byte("{}"),
		"half a payload": payload.Base64(payload.Gzip([]byte(document))[:30]),
		"no JSON":        payload.Base64(payload.Gzip([]byte("a: b"))),
	} {
		if _, err := payload.Decode(p); err == nil {
			t.Errorf("%s: there is no error", name)
		}
	}
}
