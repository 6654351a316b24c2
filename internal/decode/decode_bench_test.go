package decode_test

import (
	"bytes"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// BenchmarkDecode reads heads, and BenchmarkUnmarshal whole releases as Helm does, of the same payloads.
func BenchmarkDecode(b *testing.B) {
	for _, p := range benchmarked(b) {
		b.Run(p.name, func(b *testing.B) {
			d := &decode.Decoder{}
			r := bytes.NewReader(nil)
			b.ReportAllocs()
			b.ReportMetric(float64(len(p.text)), "payload-bytes")
			for b.Loop() {
				r.Reset(p.text)
				if _, err := d.Head(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for _, p := range benchmarked(b) {
		b.Run(p.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := payload.Decode(p.text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHeads reads heads of all the sizes that charts come in.
func BenchmarkHeads(b *testing.B) {
	var payloads [][]byte
	for seed := range uint64(64) {
		g := generate(seed)
		notes := 0
		if seed%3 != 0 {
			notes = g.IntN(4000)
		}
		payloads = append(payloads, stored(b, g.release(30_000, notes)))
	}
	d := &decode.Decoder{}
	r := bytes.NewReader(nil)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Reset(payloads[i%len(payloads)])
		if _, err := d.Head(r); err != nil {
			b.Fatal(err)
		}
	}
}

type benchmark struct {
	name string
	text []byte
}

func benchmarked(b *testing.B) []benchmark {
	small := generate(1).release(79_000, 900)
	large := generate(2).release(1_430_000, 900)
	// The same fields, with both halves of the head at the end.
	type reversed struct {
		Manifest string         `json:"manifest"`
		Chart    *payload.Chart `json:"chart"`
		Info     *payload.Info  `json:"info"`
	}
	return []benchmark{
		{"34KB", stored(b, small)},
		{"470KB", stored(b, large)},
		{"470KB in another order", stored(b, reversed{large.Manifest, large.Chart, large.Info})},
	}
}
