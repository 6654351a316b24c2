package deflate_test

import (
	"bytes"
	std "compress/flate"
	"fmt"
	"io"
	"syscall"
	"testing"

	"github.com/klauspost/compress/flate"

	"github.com/helm-state-metrics/helm-state-metrics/internal/deflate"
)

// flusher is a writer that deflates.
type flusher interface {
	io.Writer
	Flush() error
	Reset(w io.Writer)
}

// library deflates a text as a segment was made with a library.
func library(b *testing.B, w flusher, err error) func(dst, text []byte) []byte {
	if err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	return func(dst, text []byte) []byte {
		out.Reset()
		w.Reset(&out)
		_, _ = w.Write(text)
		_ = w.Flush()
		return append(dst, out.Bytes()...)
	}
}

// BenchmarkAppend deflates all segments of a fleet. Besides the time it reports
// the CPU time of the process, which other processes change less, and the
// bytes.
func BenchmarkAppend(b *testing.B) {
	for _, each := range []int{64, 128, 256} {
		texts := segments(each)
		size := 0
		for _, text := range texts {
			size += len(text)
		}
		for name, encoder := range map[string]func(b *testing.B) func(dst, text []byte) []byte{
			"deflate": func(*testing.B) func(dst, text []byte) []byte { return deflate.New().Append },
			"klauspost-7": func(b *testing.B) func(dst, text []byte) []byte {
				w, err := flate.NewWriter(nil, 7)
				return library(b, w, err)
			},
			"klauspost-6": func(b *testing.B) func(dst, text []byte) []byte {
				w, err := flate.NewWriter(nil, 6)
				return library(b, w, err)
			},
			"stdlib": func(b *testing.B) func(dst, text []byte) []byte {
				w, err := std.NewWriter(nil, -1)
				return library(b, w, err)
			},
		} {
			b.Run(fmt.Sprintf("%s/%d", name, each), func(b *testing.B) {
				encode := encoder(b)
				var out []byte
				b.SetBytes(int64(size))
				b.ReportAllocs()
				before := cpu()
				for b.Loop() {
					out = out[:0]
					for _, text := range texts {
						out = encode(out, text)
					}
				}
				b.ReportMetric(float64(cpu()-before)/float64(b.N)/1e6, "cpu-ms/op")
				b.ReportMetric(float64(len(out)), "bytes")
			})
		}
	}
}

func cpu() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
