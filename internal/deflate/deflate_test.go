package deflate_test

import (
	"bytes"
	std "compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
	"pgregory.net/rapid"

	"github.com/helm-state-metrics/helm-state-metrics/internal/deflate"
)

// final is an empty last block, of fixed codes.
const final = "\x03\x00"

// tester is what tests, fuzz tests and properties have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// check inflates with two independent readers what texts became one after the
// other, and returns how many bytes that were.
func check(t tester, e *deflate.Encoder, texts ...[]byte) int {
	t.Helper()
	stream := []byte("before")
	for _, text := range texts {
		stream = e.Append(stream, text)
	}
	if !bytes.HasPrefix(stream, []byte("before")) {
		t.Fatal("what was there before has changed")
	}
	stream = append(stream[len("before"):], final...)
	want := slices.Concat(texts...)
	for name, reader := range map[string]io.Reader{
		"compress/flate":  std.NewReader(bytes.NewReader(stream)),
		"klauspost/flate": flate.NewReader(bytes.NewReader(stream)),
	} {
		got, err := io.ReadAll(reader)
		if err != nil {
			t.Fatalf("%s reads %d of %d bytes: %v", name, len(got), len(want), err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s reads other bytes than were written", name)
		}
	}
	return len(stream) - len(final)
}

func TestAppend(t *testing.T) {
	random := make([]byte, 100_000)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(random)
	// Skewed so that codes get longer than they may.
	fibonacci := []byte{}
	for c, a, b := byte(0), 1, 1; c < 24; c, a, b = c+1, b, a+b {
		fibonacci = append(fibonacci, bytes.Repeat([]byte{c*2 + 1}, a)...)
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(fibonacci), func(i, j int) {
		fibonacci[i], fibonacci[j] = fibonacci[j], fibonacci[i]
	})
	digits := make([]byte, 200_000)
	for i := range digits {
		digits[i] = '0' + random[i%len(random)]%10
	}
	for name, test := range map[string]struct {
		text []byte
		most int
	}{
		"nothing":                      {nil, 0},
		"one byte":                     {[]byte("x"), 6},
		"a word":                       {[]byte("deployed"), 13},
		"a byte over and over":         {bytes.Repeat([]byte("a"), 100_000), 200},
		"a digit over and over":        {bytes.Repeat([]byte("7"), 100_000), 1_200},
		"what cannot be compressed":    {random, 100_000 + 100},
		"digits at random":             {digits, 90_000},
		"codes of the greatest length": {fibonacci, len(fibonacci) / 2},
		"a repetition within reach":    {slices.Concat(random[:32<<10], random[:32<<10]), 32<<10 + 2000},
		"a repetition out of reach":    {slices.Concat(random[:32<<10+1], random[:32<<10]), 64<<10 + 100},
		"lines":                        {segments(128)[0], 1500},
		"more tokens than a block has": {slices.Concat(segments(5_000)...), 800_000},
	} {
		t.Run(name, func(t *testing.T) {
			e := deflate.New()
			if n := check(t, e, test.text); n > test.most {
				t.Errorf("%d bytes became %d, want at most %d", len(test.text), n, test.most)
			}
			check(t, e, test.text, []byte("between"), test.text)
		})
	}
}

func TestAppendOfEveryLength(t *testing.T) {
	e := deflate.New()
	text := segments(128)[2]
	for n := range 600 {
		check(t, e, text[:n], text[n:2*n])
	}
}

func TestAppendIsTheSameWhateverCameBefore(t *testing.T) {
	texts := segments(128)
	used := deflate.New()
	for i, text := range texts[:64] {
		if i == 40 {
			used.Age()
		}
		got, want := used.Append(nil, text), deflate.New().Append(nil, text)
		if !bytes.Equal(got, want) {
			t.Fatalf("text %d is deflated to %d bytes by a used encoder, to %d by a new one", i, len(got), len(want))
		}
	}
	check(t, used, texts...)
}

func TestAppendIsSmallerThanALibrary(t *testing.T) {
	e := deflate.New()
	var out bytes.Buffer
	w, err := flate.NewWriter(nil, 7)
	if err != nil {
		t.Fatal(err)
	}
	got, others := 0, 0
	for _, text := range segments(128) {
		got += len(e.Append(nil, text))
		out.Reset()
		w.Reset(&out)
		_, _ = w.Write(text)
		_ = w.Flush()
		others += out.Len()
	}
	if got > others*96/100 {
		t.Errorf("%d bytes, want at most 96%% of %d", got, others)
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	e := deflate.New()
	texts := segments(128)[:24]
	var out []byte
	for _, text := range texts {
		out = e.Append(out, text)
	}
	n := testing.AllocsPerRun(10, func() {
		out = out[:0]
		for _, text := range texts {
			out = e.Append(out, text)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAppendProperties(t *testing.T) {
	e := deflate.New()
	word := rapid.SampledFrom([]string{
		"helm_release_info{", `name="`, `",namespace="`, `"} `, "e+09\n", "1.79", "0", "\n", "pending-", "é", "\x00",
	})
	piece := rapid.OneOf(
		word,
		rapid.Map(rapid.IntRange(0, 1_000_000), func(n int) string { return fmt.Sprint(n) }),
		rapid.StringMatching(`[a-z-]{1,20}`),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(1, 700), func(n int) string { return strings.Repeat("ab", n) }),
	)
	text := rapid.Map(rapid.SliceOfN(piece, 0, 300), func(all []string) []byte { return []byte(strings.Join(all, "")) })
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(text, 0, 4).Draw(t, "texts")
		check(t, e, texts...)
	})
}

func FuzzAppend(f *testing.F) {
	lines := segments(4)
	f.Add([]byte{}, []byte("x"), uint8(1))
	for i := range families {
		f.Add(lines[i], lines[i+families], uint8(i))
	}
	e := deflate.New()
	f.Fuzz(func(t *testing.T, a, b []byte, times uint8) {
		// Far matches and several blocks take more than the fuzzer makes.
		check(t, e, a, b, bytes.Repeat(slices.Concat(a, b, a), int(times)), a)
	})
}
