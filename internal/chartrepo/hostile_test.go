package chartrepo_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
)

// TestHostileTexts decodes what is expensive to decode, of as many bytes as may be decoded at once. All that is
// allocated is counted, which is more than what is live at any time.
func TestHostileTexts(t *testing.T) {
	const size, most = 1<<20 - 100, 100 << 20
	repeat := func(each string, of int) string { return strings.Repeat(each, of/len(each)) }
	for name, text := range map[string]string{
		"open brackets":      repeat("[", size),
		"nested lists":       repeat("[", 9000) + repeat("]", 9000),
		"empty lists":        "[" + repeat("[],", 150_000) + "]",
		"keys without value": "{" + repeat("a,", 195_000) + "}",
		"more keys":          "{" + repeat("a,", size) + "}",
		"dashes":             "\n    " + repeat("- ", 18_000) + "a",
		"lines":              "\n" + repeat("     a:\n", 390_000),
		"anchors":            "[" + repeat("&a a,", 450_000) + "]",
		"aliases":            "[&a a," + repeat("*a,", 290_000) + "]",
		"tags":               "[" + repeat("!!a a,", 550_000) + "]",
		"comments":           "\n" + repeat("     #\n", 690_000),
		"escapes":            "\"" + repeat("\\u0061", size) + "\"",
		"breaks in quotes":   "\"" + repeat("\n", 95_000) + "\"",
		"breaks in a block":  "|\n" + repeat("\n", 95_000),
		"a long key":         repeat("a", size) + ": b",
		"colons":             repeat("a:", 190_000),
		"spaces":             repeat(" ", size),
		"a billion laughs": "[&a [x,x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]," +
			"&d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c], &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d], &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]]",
		"an alias of itself": "&a [*a]",
	} {
		for layout, before := range map[string]string{"a piece": "apiVersion: v1", "a whole": `"apiVersion": v1`} {
			index := before + "\nentries:\n  a:\n  - x: " + text + "\n    name: a\n    version: 1.0.0\n"
			var start, end runtime.MemStats
			runtime.ReadMemStats(&start)
			got, err := chartrepo.ReadIndex(strings.NewReader(index), true, nil)
			runtime.ReadMemStats(&end)
			if err != nil && chartrepo.ResultOf(err) != chartrepo.Invalid || (got == nil) == (err == nil) {
				t.Errorf("%s, %s: got %v, %.200v", name, layout, got, err)
			}
			if n := end.TotalAlloc - start.TotalAlloc; n > most {
				t.Errorf("%s, %s: %d MB allocated", name, layout, n>>20)
			}
		}
	}
}
