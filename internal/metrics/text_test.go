package metrics

import (
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func TestFloatsAreWrittenAsGoDoes(t *testing.T) {
	check := func(v float64) {
		t.Helper()
		if got, want := string(appendFloat([]byte("x "), v)), "x "+strconv.FormatFloat(v, 'g', -1, 64); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, v := range []float64{0, 1, 9, 10, 99_999, 100_000, 999_999, 1e6, 1_000_001, 1_048_576, 1e9, 1.795389406e9, 1e15 - 1, 1e15, 1e21, -1, -1e9, 0.5, math.Inf(1), math.NaN(), math.Copysign(0, -1)} {
		check(v)
	}
	rapid.Check(t, func(t *rapid.T) {
		check(float64(rapid.Int64().Draw(t, "whole")))
		check(rapid.Float64().Draw(t, "any"))
	})
}
