package decode_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// oracleRelease has the fields of the head and no others, so that a whole unmarshal into it refuses only what
// the decoder must refuse too.
type oracleRelease struct {
	Info *struct {
		FirstDeployed oracleTime `json:"first_deployed"`
		LastDeployed  oracleTime `json:"last_deployed"`
		Description   string     `json:"description"`
	} `json:"info"`
	Chart *struct {
		Metadata *struct {
			Name       string `json:"name"`
			Version    string `json:"version"`
			AppVersion string `json:"appVersion"`
			Deprecated bool   `json:"deprecated"`
		} `json:"metadata"`
	} `json:"chart"`
}

// oracleTime is Helm 4's time, which takes "" for none.
type oracleTime struct{ time.Time }

func (t *oracleTime) UnmarshalJSON(b []byte) error {
	text := ""
	if err := json.Unmarshal(b, &text); err != nil || text == "" {
		return err
	}
	return t.UnmarshalText([]byte(text))
}

// oracle reads a head by a whole unmarshal. long says that a string is beyond the decoder's limit.
func oracle(document []byte) (head release.Head, long bool, err error) {
	var r oracleRelease
	if err := json.Unmarshal(document, &r); err != nil {
		return head, false, err
	}
	if r.Info != nil {
		head.FirstDeployed = r.Info.FirstDeployed.UTC()
		head.LastDeployed = r.Info.LastDeployed.UTC()
		head.Description = shortened(r.Info.Description)
	}
	if r.Chart != nil && r.Chart.Metadata != nil {
		head.Chart = release.Chart(*r.Chart.Metadata)
		c := head.Chart
		for _, s := range []string{c.Name, c.Version, c.AppVersion} {
			long = long || len(s) > 1024
		}
	}
	return head, long, nil
}

func shortened(s string) string {
	if len(s) <= 512 {
		return s
	}
	cut := ""
	for _, r := range s {
		if len(cut)+utf8.RuneLen(r)+len("…") > 512 {
			break
		}
		cut += string(r)
	}
	return cut + "…"
}

// untilHead returns the shortest beginning of a document that has its head, as a document of its own. ambiguous says
// that a field of the head comes twice in it, or is spelled as encoding/json takes for the field, but Helm never
// writes. The document is valid.
func untilHead(document []byte) (beginning []byte, ambiguous bool) {
	r := reading{d: json.NewDecoder(bytes.NewReader(document)), seen: map[string]bool{}}
	r.d.UseNumber()
	if r.value("") {
		return document, r.ambiguous
	}
	return append(bytes.Clone(document[:r.d.InputOffset()]), strings.Repeat("}", r.open)...), r.ambiguous
}

// headFields are the fields that are read, by the path of their object.
var headFields = map[string][]string{
	"":                {"info", "chart"},
	"/info":           {"first_deployed", "last_deployed", "description"},
	"/chart":          {"metadata"},
	"/chart/metadata": {"name", "version", "appVersion", "deprecated"},
}

// reading is how far a document has been read.
type reading struct {
	d           *json.Decoder
	open        int             // objects and arrays
	seen        map[string]bool // paths of fields
	info, chart bool            // have been read
	ambiguous   bool
}

// value reads a value, and reports whether the head does not end with it or within it.
func (r *reading) value(path string) bool {
	token, _ := r.d.Token()
	if start, ok := token.(json.Delim); ok {
		r.open++
		for r.d.More() {
			inner := path + "/-"
			if start == '{' {
				name, _ := r.d.Token()
				inner = path + "/" + r.field(path, name)
			}
			if !r.value(inner) {
				return false
			}
		}
		_, _ = r.d.Token()
		r.open--
	}
	r.info = r.info || path == "/info"
	r.chart = r.chart || path == "/chart" || path == "/chart/metadata"
	return !r.info || !r.chart
}

// field returns the field that a name in an object stands for, "-" if none.
func (r *reading) field(object string, name json.Token) string {
	for _, field := range headFields[object] {
		if strings.EqualFold(name.(string), field) {
			path := object + "/" + field
			r.ambiguous = r.ambiguous || name != field || r.seen[path]
			r.seen[path] = true
			return field
		}
	}
	return "-"
}
