package metrics

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
)

// BenchmarkSegments deflates the segments of 10,000 releases, for the sizes of blocks and the levels that
// blockSlots and level were chosen from. It reports the bytes, and how many times those of one gzip stream at
// the default level they are.
func BenchmarkSegments(b *testing.B) {
	families := fixedFamilies(false)
	all := fleet.Of(10_000)
	whole := onceGzipped(b, families, all)
	for _, slots := range []int{64, 128, 256, 512} {
		var texts [][]byte
		for from := 0; from < len(all); from += slots {
			for i := range families {
				texts = append(texts, rendered(&families[i], all[from:min(from+slots, len(all))]))
			}
		}
		for _, level := range []int{1, 5, 6, 7, 8} {
			b.Run(fmt.Sprintf("slots=%d/level=%d", slots, level), func(b *testing.B) {
				d := newDeflater(level)
				size := 0
				for b.Loop() {
					size = 0
					for _, text := range texts {
						size += len(d.segment(text).deflated)
					}
				}
				b.ReportMetric(float64(size), "bytes")
				b.ReportMetric(float64(size)/float64(whole), "x-gzip")
			})
		}
	}
}

func rendered(f *Family, releases []*release.Release) []byte {
	var text []byte
	for _, r := range releases {
		text = f.append(text, r)
	}
	return text
}

func onceGzipped(tb testing.TB, families []Family, all []*release.Release) int {
	tb.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	for i := range families {
		if _, err := z.Write(rendered(&families[i], all)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Len()
}

func TestSumsCombineLikeTheirTexts(t *testing.T) {
	var whole []byte
	got := sumOf(nil)
	for size := range 300 {
		part := bytes.Repeat([]byte{byte(size), 'x'}, size*size%97)
		whole = append(whole, part...)
		got = got.then(sumOf(part))
		if want := sumOf(whole); got != want {
			t.Fatalf("got %+v after %d bytes, want %+v", got, len(whole), want)
		}
	}
}
