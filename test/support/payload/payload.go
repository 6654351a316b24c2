// Package payload makes and reads the payloads of Helm's release records: JSON, compressed with gzip, in base64.
package payload

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"time"

	kgzip "github.com/klauspost/compress/gzip"
)

// Release is what Helm stores of one revision, with the fields in the order in which Helm 4 writes them.
type Release struct {
	Name        string         `json:"name,omitempty"`
	Info        *Info          `json:"info,omitempty"`
	Chart       *Chart         `json:"chart,omitempty"`
	Config      map[string]any `json:"config,omitempty"`
	Manifest    string         `json:"manifest,omitempty"`
	Hooks       []any          `json:"hooks,omitempty"`
	Version     int            `json:"version,omitempty"`
	Namespace   string         `json:"namespace,omitempty"`
	ApplyMethod string         `json:"apply_method,omitempty"`
}

// Info is the state of a release.
type Info struct {
	FirstDeployed Time   `json:"first_deployed,omitzero"`
	LastDeployed  Time   `json:"last_deployed,omitzero"`
	Deleted       Time   `json:"deleted,omitzero"`
	Description   string `json:"description,omitempty"`
	Status        string `json:"status,omitempty"`
	Rollback      int    `json:"rollback_revision,omitempty"`
	Notes         string `json:"notes,omitempty"`
}

// Time is a time that may be the empty string, as Helm 3 writes the zero time.
type Time struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *Time) UnmarshalJSON(text []byte) error {
	if string(text) == `""` {
		t.Time = time.Time{}
		return nil
	}
	return t.Time.UnmarshalJSON(text)
}

// Chart is the chart that a release was made from.
type Chart struct {
	Metadata  *Metadata      `json:"metadata"`
	Lock      any            `json:"lock"`
	Templates []*File        `json:"templates"`
	Values    map[string]any `json:"values"`
	Schema    []byte         `json:"schema"`
	Files     []*File        `json:"files"`
}

// Metadata is the content of Chart.yaml.
type Metadata struct {
	Name         string            `json:"name,omitempty"`
	Home         string            `json:"home,omitempty"`
	Sources      []string          `json:"sources,omitempty"`
	Version      string            `json:"version,omitempty"`
	Description  string            `json:"description,omitempty"`
	Keywords     []string          `json:"keywords,omitempty"`
	Maintainers  []*Maintainer     `json:"maintainers,omitempty"`
	Icon         string            `json:"icon,omitempty"`
	APIVersion   string            `json:"apiVersion,omitempty"`
	Condition    string            `json:"condition,omitempty"`
	Tags         string            `json:"tags,omitempty"`
	AppVersion   string            `json:"appVersion,omitempty"`
	Deprecated   bool              `json:"deprecated,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	KubeVersion  string            `json:"kubeVersion,omitempty"`
	Dependencies []map[string]any  `json:"dependencies,omitempty"`
	Type         string            `json:"type,omitempty"`
}

// Maintainer is a maintainer of a chart.
type Maintainer struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
	URL   string `json:"url,omitempty"`
}

// File is a template or another file of a chart.
type File struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Encode returns the payload of a release, or of any other value that has a JSON form.
func Encode(release any) ([]byte, error) {
	document, err := json.Marshal(release)
	if err != nil {
		return nil, err
	}
	return Base64(Gzip(document)), nil
}

// Gzip compresses a document. Helm compresses it by another 5%, for four times the CPU.
func Gzip(document []byte) []byte {
	var compressed bytes.Buffer
	w := kgzip.NewWriter(&compressed)
	_, _ = w.Write(document) // A bytes.Buffer never fails.
	_ = w.Close()
	return compressed.Bytes()
}

// Base64 encodes bytes as Helm does.
func Base64(b []byte) []byte { return base64.StdEncoding.AppendEncode(nil, b) }

// Decode reads a whole payload as Helm does. The first versions of Helm did not compress it.
func Decode(payload []byte) (*Release, error) {
	document, err := base64.StdEncoding.AppendDecode(nil, payload)
	if err != nil {
		return nil, fmt.Errorf("decode base64: %w", err)
	}
	if bytes.HasPrefix(document, []byte{0x1f, 0x8b, 0x08}) {
		r, err := gzip.NewReader(bytes.NewReader(document))
		if err != nil {
			return nil, fmt.Errorf("open gzip: %w", err)
		}
		if document, err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
	}
	r := &Release{}
	if err := json.Unmarshal(document, r); err != nil {
		return nil, fmt.Errorf("unmarshal: %w", err)
	}
	return r, nil
}
