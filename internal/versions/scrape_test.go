package versions

import (
	"errors"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
)

// FuzzScrape reads what answers in place of an exporter. What a parser of all of it takes, in one piece, is taken, and
// no release comes out that is not in it.
func FuzzScrape(f *testing.F) {
	for _, name := range []string{"default.prom", "every-option.prom"} {
		text, err := os.ReadFile("../metrics/testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		for block := range strings.SplitSeq(string(text), "# HELP ") {
			if strings.HasPrefix(block, family) || strings.HasPrefix(block, statuses) {
				f.Add("# HELP " + block)
			}
		}
		f.Add(string(text))
	}
	f.Add(family + "{name=\"a\",chart=\"\\n" + family + "{\"} 1\n" + statuses + "{name=\"a\",status=\"uninstalled\"} 1\n")
	f.Add("<html># TYPE " + family + " gauge")
	e := Exporter{Cluster: "c", URL: &url.URL{}}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := e.parse(strings.NewReader(text))
		if err != nil && got != nil {
			t.Fatalf("%d releases with the error %v", len(got), err)
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		all, wholeErr := parser.TextToMetricFamilies(strings.NewReader(text))
		if wholeErr != nil {
			return
		}
		if err != nil && !strings.HasPrefix(err.Error(), "there is no ") {
			t.Fatalf("refused what a parser takes: %v", err)
		}
		var want []outdated.Release
		for _, m := range all[family].GetMetric() {
			want = append(want, e.release(m))
		}
		for _, r := range got {
			if !slices.Contains(want, r) {
				t.Errorf("%+v is not in the text", r)
			}
		}
	})
}

func TestMoreReleasesThanCanBe(t *testing.T) {
	text := strings.Repeat(family+"{name=\"a\"} 1\n", maxReleases+1)
	got, err := Exporter{}.parse(strings.NewReader(text))
	if got != nil || err == nil || !strings.Contains(err.Error(), "--total-shards") {
		t.Errorf("got %d releases and %v", len(got), err)
	}
}

// TestAScrapeThatIsCutOff expects why it was, and nothing about the line that is cut off.
func TestAScrapeThatIsCutOff(t *testing.T) {
	cutOff := errors.New("cut off")
	got, err := Exporter{}.parse(io.MultiReader(strings.NewReader(family+"{name"), iotest.ErrReader(cutOff)))
	if got != nil || err != cutOff {
		t.Errorf("got %v and %v", got, err)
	}
}
