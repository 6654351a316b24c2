package chartrepo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
	supportcharts "github.com/helm-state-metrics/helm-state-metrics/test/support/charts"
)

type charts = map[string][]string

// indexes are texts that are read piece by piece, with what is in them.
var indexes = map[string]struct {
	text string
	want charts
}{
	"as helm repo index writes it": {`apiVersion: v1
entries:
  alpine:
  - apiVersion: v2
    created: "2016-10-06T16:23:20.499814565-06:00"
    description: Deploy a basic Alpine Linux pod
    digest: 99c76e403d752c84ead610644d4b1c2f2b453a74b921f422b9dcb8a7c8b559cd
    name: alpine
    urls:
    - https://example.com/charts/alpine-0.2.0.tgz
    version: 0.2.0
  - name: alpine
    version: 0.1.0+build.7
  nginx:
  - name: nginx
    version: v1.1.0-rc.1
generated: "2016-10-06T16:23:20.499029981-06:00"
`, charts{"alpine": {"0.2.0", "0.1.0+build.7"}, "nginx": {"v1.1.0-rc.1"}}},
	"lists indented below their key, four spaces, comments, blank lines, a document start": {`---
# An index.
apiVersion: v1 # the only one

entries:

    # charts
    a: # the first
        # versions
        - name: a

          version: 1.0.0
# not indented
        - name: a
          version: 1.0.1
    # the second
    b:
        -
          name: b
          version: 2.0.0
`, charts{"a": {"1.0.0", "1.0.1"}, "b": {"2.0.0"}}},
	"scalars that look like structure": {`apiVersion: v1
entries:
  a:
  - description: |
      entries:
        b:
        - name: b
          version: 9.9.9

      # not a comment
       - name: c
    name: a
    notes: >-
      version: 8.8.8
      - name: d
    version: 1.0.0
    text: plain
      version
      - e
    quoted: "version: 7.7.7

      - name: f"
  - {name: a, version: 1.1.0, urls: [
      "x" ]}
annotations:
  entries: |
    g:
    - version: 6.6.6
publicKeys:
- one
- two
`, charts{"a": {"1.0.0", "1.1.0"}}},
	"Windows line breaks, a byte order mark, and no line break at the end": {
		"\uFEFFapiVersion: v1\r\nentries:\r\n  a:\r\n  - name: a\r\n    version: \"1.0.0\"\r\n\r\n  - name: a\r\n    version: '0.1.0'", charts{"a": {"1.0.0", "0.1.0"}},
	},
	"quoted names and odd ones": {`apiVersion: v1
entries:
  "a:b": 
  - {name: x, version: 1.0.0}
  'it''s':
  - {name: x, version: 2.0.0}
  1password:
  - {name: x, version: 3.0.0}
  404:
  - {name: x, version: 4.0.0}
`, charts{"a:b": {"1.0.0"}, "it's": {"2.0.0"}, "1password": {"3.0.0"}, "404": {"4.0.0"}}},
	"numbers as versions, as Helm reads them": {
		"apiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.10\n  - name: a\n    version: 2\n  - name: a\n    version: 20240101\n", charts{"a": {"1.1", "2", "20240101"}},
	},
	"what Helm leaves out": {`apiVersion: v1
entries:
  a:
  - name: a
    version: latest
  - version: 1.0.0
  -
  - name: a
  - name: a
    version: 1.0.0
  none: []
  nothing:
`, charts{"a": {"1.0.0"}}},
	"no charts":               {"apiVersion: v1\nentries: {}\n", charts{}},
	"no charts at all":        {"apiVersion: v1\n", charts{}},
	"anchors within a piece":  {"apiVersion: v1\nentries:\n  a:\n  - name: &n a\n    version: &v 1.0.0\n    appVersion: *v\n", charts{"a": {"1.0.0"}}},
	"JSON":                    {`{"apiVersion":"v1","entries":{"a":[{"name":"a","version":"1.0.0","urls":["x"]},null,{"name":"a","version":"latest"}],"b":null}}`, charts{"a": {"1.0.0"}}},
	"JSON, indented, with \\": {"{\n  \"apiVersion\": \"v1\",\n  \"entries\": {\n    \"\\u0061\": [{\"version\": \"1.0.\\u0030\", \"name\": \"a\"}]}}\n", charts{"a": {"1.0.0"}}},
}

// others are texts that only a decoding of the whole understands.
var others = map[string]struct {
	text string
	want charts
}{
	"flow style":            {"{apiVersion: v1, entries: {a: [{name: a, version: 1.0.0}]}}", charts{"a": {"1.0.0"}}},
	"flow style in entries": {"apiVersion: v1\nentries: {a: [{name: a,\n version: 1.0.0}]}", charts{"a": {"1.0.0"}}},
	"an alias of a version": {"apiVersion: v1\nx: &x\n  name: a\n  version: 1.0.0\nentries:\n  a:\n  - *x\n", charts{"a": {"1.0.0"}}},
	"a quoted key":          {"\"apiVersion\": v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n", charts{"a": {"1.0.0"}}},
	"a tag":                 {"apiVersion: v1\nentries: !!map\n  a: !!seq\n  - name: a\n    version: 1.0.0\n", charts{"a": {"1.0.0"}}},
	"a quoted text that goes on at the margin": {"apiVersion: v1\nentries:\n  a:\n  - description: \"\nentries:\n  b:\n  - name: b\"\n    name: a\n    version: 1.0.0\n", charts{"a": {"1.0.0"}}},
	"everything indented":                      {"  apiVersion: v1\n  entries:\n    a:\n    - name: a\n      version: 1.0.0\n", charts{"a": {"1.0.0"}}},
	"a directive":                              {"%YAML 1.1\n---\napiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n", charts{"a": {"1.0.0"}}},
	"an end of the document":                   {"apiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n...\n", charts{"a": {"1.0.0"}}},
	"an explicit key":                          {"apiVersion: v1\nentries:\n  ? a\n  :\n  - name: a\n    version: 1.0.0\n", charts{"a": {"1.0.0"}}},
	"old line breaks":                          {"apiVersion: v1\rentries:\r  a:\r  - name: a\r    version: 1.0.0\r", charts{"a": {"1.0.0"}}},
	"UTF-16":                                   {"\xff\xfea\x00p\x00i\x00V\x00e\x00r\x00s\x00i\x00o\x00n\x00:\x00 \x00v\x001\x00\n\x00", charts{}},
}

// wrong are texts that are no index.
var wrong = map[string]struct {
	text   string
	result chartrepo.Result
}{
	"nothing":                     {"", chartrepo.Invalid},
	"no apiVersion":               {"entries: {}", chartrepo.Invalid},
	"an empty apiVersion":         {"apiVersion: \"\"\nentries: {}", chartrepo.Invalid},
	"a web page":                  {"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", chartrepo.Invalid},
	"a chart twice":               {"apiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n  a:\n", chartrepo.Invalid},
	"entries twice":               {"apiVersion: v1\nentries: {}\nentries: {}\n", chartrepo.Invalid},
	"a version twice":             {"apiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n    version: 2.0.0\n", chartrepo.Invalid},
	"a merge":                     {"apiVersion: v1\nentries:\n  a:\n  - &x {name: a, version: 1.0.0}\n  - <<: *x\n", chartrepo.Invalid},
	"two documents":               {"apiVersion: v1\nentries: {}\n---\napiVersion: v1\n", chartrepo.Invalid},
	"tabs":                        {"apiVersion: v1\nentries:\n\ta:\n\t- name: a\n", chartrepo.Invalid},
	"a version that is no object": {"apiVersion: v1\nentries:\n  a:\n  - 1.0.0\n", chartrepo.Invalid},
	"a list of charts":            {"apiVersion: v1\nentries:\n- name: a\n  version: 1.0.0\n", chartrepo.Invalid},
	"a chart that is a text":      {"apiVersion: v1\nentries:\n  a: 1.0.0\n", chartrepo.Invalid},
	"versions after none":         {"apiVersion: v1\nentries:\n  a: []\n  - name: a\n    version: 1.0.0\n", chartrepo.Invalid},
	"JSON cut off":                {`{"apiVersion":"v1","entries":{"a":[{"name":"a","version":"1.0.0"}`, chartrepo.Invalid},
	"JSON with a chart twice":     {`{"apiVersion":"v1","entries":{"a":[],"a":[]}}`, chartrepo.Invalid},
	"JSON with a version twice":   {`{"apiVersion":"v1","entries":{"a":[{"version":"1.0.0","version":"1.0.0"}]}}`, chartrepo.Invalid},
	"JSON and more":               {`{"apiVersion":"v1"} {}`, chartrepo.Invalid},
	"JSON with other types":       {`{"apiVersion":"v1","entries":{"a":{"version":"1.0.0"}}}`, chartrepo.Invalid},
	"JSON that is a list":         {`[{"apiVersion":"v1"}]`, chartrepo.Invalid},
}

// pieces reads a text that must not be decoded as a whole.
func pieces(text string) (charts, error) {
	return chartrepo.ReadIndex(iotest.HalfReader(strings.NewReader(text)), true, chartrepo.NoWhole)
}

func TestIndex(t *testing.T) {
	for name, tt := range indexes {
		t.Run(name, func(t *testing.T) {
			got, err := pieces(tt.text)
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("piece by piece: %v (-want +got):\n%s", err, diff)
			}
			if diff := cmp.Diff(tt.want, helm(t, tt.text)); diff != "" {
				t.Errorf("Helm (-want +got):\n%s", diff)
			}
		})
	}
	for name, tt := range others {
		t.Run("as a whole: "+name, func(t *testing.T) {
			if got, err := pieces(tt.text); chartrepo.ResultOf(err) != chartrepo.Invalid {
				t.Errorf("piece by piece: %v, %v", got, err)
			}
			got, err := chartrepo.ReadIndex(iotest.OneByteReader(strings.NewReader(tt.text)), true, nil)
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	for name, tt := range wrong {
		t.Run("wrong: "+name, func(t *testing.T) {
			got, err := chartrepo.ReadIndex(strings.NewReader(tt.text), true, nil)
			if got != nil || chartrepo.ResultOf(err) != tt.result {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// helm reads an index as Helm does, but for the strictness about unknown keys.
func helm(t *testing.T, text string) charts {
	t.Helper()
	var index struct {
		Entries map[string][]*struct{ Name, Version string }
	}
	err := json.Unmarshal([]byte(text), &index)
	if !json.Valid([]byte(text)) {
		err = yaml.Unmarshal([]byte(text), &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := charts{}
	for chart, versions := range index.Entries {
		for _, v := range versions {
			if v != nil && v.Name != "" && chartrepo.IsVersion(v.Version) {
				got[chart] = append(got[chart], v.Version)
			}
		}
	}
	return got
}

func TestIndexThatMayBeCutOff(t *testing.T) {
	whole := indexes["as helm repo index writes it"]
	for cut := range len(whole.text) {
		got, err := chartrepo.ReadIndex(strings.NewReader(whole.text[:cut]), false, nil)
		if err == nil && !cmp.Equal(got, whole.want) {
			t.Fatalf("cut off after %q: got %v", whole.text[:cut], got)
		}
	}
	if _, err := chartrepo.ReadIndex(strings.NewReader(whole.text), false, nil); err != nil {
		t.Errorf("the whole text: %v", err)
	}
	for _, text := range []string{"apiVersion: v1\nentries:\n  a:\n  - {name: a, version: 1.0.0}\n", "apiVersion: v1\n", "\"apiVersion\": v1\nentries: {}"} {
		if got, err := chartrepo.ReadIndex(strings.NewReader(text), false, nil); chartrepo.ResultOf(err) != chartrepo.Failed || got != nil {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	broken := io.MultiReader(strings.NewReader(whole.text[:200]), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := chartrepo.ReadIndex(broken, true, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestLimitsOfIndex(t *testing.T) {
	many := func(begin, each string) io.Reader {
		return io.MultiReader(strings.NewReader(begin), &endless{text: each})
	}
	const top = "apiVersion: v1\nentries:\n"
	for name, text := range map[string]io.Reader{
		"endless text":              many(top+"  a:\n", "  - {name: a, version: 1.0.0, x: "+strings.Repeat("x", 10_000)+"}\n"),
		"endless versions":          many(top+"  a:\n", "  - {name: a, version: 1.0.0}\n"),
		"endless versions left out": many(top+"  a:\n", "  -\n"),
		"an endless version":        many(top+"  a:\n  - name: a\n", "    x: |\n"),
		"an endless line":           many(top+"  a: ", "x"),
		"an endless comment":        many(top+"  a:\n  - name: a\n", "#\n"),
		"endless text of JSON":      many(`{"entries":{"a":["`, "x"),
		"endless JSON":              many(`{"x":[1`, ",1"),
		"endless space in JSON":     many(`{"x":[1`, " "),
		"endless versions in JSON":  many(`{"entries":{"a":[{}`, ",{}"),
		"an endless number in JSON": many(`{"entries":1`, "1"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := chartrepo.ReadIndex(text, true, chartrepo.SmallLimits)
			if got != nil || chartrepo.ResultOf(err) != chartrepo.TooLarge {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	t.Run("endless names", func(t *testing.T) {
		_, err := chartrepo.ReadIndex(io.MultiReader(strings.NewReader(top), &numbered{format: "  a%d:\n"}), true, chartrepo.SmallLimits)
		if chartrepo.ResultOf(err) != chartrepo.TooLarge {
			t.Errorf("got %v", err)
		}
	})
	t.Run("endless nesting of JSON", func(t *testing.T) {
		_, err := chartrepo.ReadIndex(many(`{"x":`, "["), true, chartrepo.SmallLimits)
		if chartrepo.ResultOf(err) != chartrepo.Invalid {
			t.Errorf("got %v", err)
		}
	})
}

// endless repeats a text.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(p []byte) (n int, _ error) {
	for n < len(p) {
		c := copy(p[n:], e.text[e.at:])
		n, e.at = n+c, (e.at+c)%len(e.text)
	}
	return n, nil
}

// numbered repeats a text with another number each time.
type numbered struct {
	format string
	number int
	rest   []byte
}

func (r *numbered) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		r.number++
		r.rest = fmt.Appendf(nil, r.format, r.number)
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func FuzzIndex(f *testing.F) {
	for _, tt := range indexes {
		f.Add(tt.text)
	}
	for _, tt := range others {
		f.Add(tt.text)
	}
	for _, tt := range wrong {
		f.Add(tt.text)
	}
	var small bytes.Buffer
	supportcharts.WriteIndex(&small, 8<<10)
	f.Add(small.String())
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return
		}
		got, err := pieces(text)
		if err != nil {
			if got != nil {
				t.Fatalf("%v with an error: %v", got, err)
			}
			return
		}
		want, err := chartrepo.ReadWhole(text)
		if err != nil && json.Valid([]byte(text)) {
			want, err = helm(t, text), nil // YAML has not all of JSON's escapes
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("decoded as a whole: %v (-whole +pieces):\n%s", err, diff)
		}
	})
}

func BenchmarkIndex(b *testing.B) {
	var text bytes.Buffer
	versions := supportcharts.WriteIndex(&text, 50<<20)
	b.SetBytes(int64(text.Len()))
	var peak, kept uint64
	for b.Loop() {
		before := live()
		r := &sampler{r: bytes.NewReader(text.Bytes()), every: 2 << 20}
		got, err := chartrepo.ReadIndex(r, true, nil)
		if err != nil {
			b.Fatal(err)
		}
		count := 0
		for _, v := range got {
			count += len(v)
		}
		if count != versions {
			b.Fatalf("%d of %d versions", count, versions)
		}
		peak, kept = max(peak, r.peak-before), max(kept, live()-before)
		runtime.KeepAlive(got)
	}
	b.ReportMetric(float64(peak)/1e6, "peak-MB")
	b.ReportMetric(float64(kept)/1e6, "kept-MB")
	b.ReportMetric(float64(versions), "versions")
}

// sampler measures the live heap again and again while it is read from.
type sampler struct {
	r           io.Reader
	every, left int
	peak        uint64
}

func (s *sampler) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.left -= n; s.left < 0 {
		s.left = s.every
		s.peak = max(s.peak, live())
	}
	return n, err
}

func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMemoryOfIndex(t *testing.T) {
	var text bytes.Buffer
	supportcharts.WriteIndex(&text, 6<<20)
	before := live()
	r := &sampler{r: bytes.NewReader(text.Bytes()), every: 1 << 20}
	got, err := chartrepo.ReadIndex(r, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := int64(live()) - int64(before)
	if peak := int64(r.peak) - int64(before); peak > 8<<20 || kept > 2<<20 {
		t.Errorf("at most %d bytes live, %d kept of %d charts", peak, kept, len(got))
	}
}
