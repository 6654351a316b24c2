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

// ambiguous reports whether a document repeats a name within an object, or has one that encoding/json takes for
// a field of the head though it is spelled otherwise.
func ambiguous(document []byte) bool {
	fields := []string{
		"info", "chart", "metadata", "first_deployed", "last_deployed", "description",
		"name", "version", "appVersion", "deprecated",
	}
	d := json.NewDecoder(bytes.NewReader(document))
	var open []map[string]bool // nil for an array
	name := false              // the next token of an object is a name
	for {
		token, err := d.Token()
		if err != nil {
			return false
		}
		top := map[string]bool(nil)
		if len(open) > 0 {
			top = open[len(open)-1]
		}
		switch v := token.(type) {
		case json.Delim:
			switch v {
			case '{':
				open = append(open, map[string]bool{})
			case '[':
				open = append(open, nil)
			default:
				open = open[:len(open)-1]
			}
			name = len(open) > 0 && open[len(open)-1] != nil
			continue
		case string:
			if name && top != nil {
				if top[v] {
					return true
				}
				top[v] = true
				for _, field := range fields {
					if v != field && strings.EqualFold(v, field) {
						return true
					}
				}
				name = false
				continue
			}
		}
		name = top != nil
	}
}
