package decode

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// maxText bounds each string of the chart's metadata, in bytes.
	maxText = 1 << 10
	// maxDescription is the length in bytes, with the ellipsis, that a longer description is cut to.
	maxDescription = 512
	ellipsis       = "…"
	// maxDepth is the nesting that jsontext and encoding/json allow.
	maxDepth = 10_000
)

// errFound ends the reading of a document whose head is complete.
var errFound = errors.New("the head is complete")

// jsonOptions make jsontext read what encoding/json reads, which is what Helm uses.
func jsonOptions() []jsontext.Options {
	return []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
}

// readHead reads a release up to where both its info and its chart's metadata have been read: with Helm's order
// of fields that is within the first kilobytes, in front of all that is large.
func readHead(d *jsontext.Decoder) (release.Head, error) {
	var h release.Head
	info, chart := false, false
	complete := func(err error) error {
		if err == nil && info && chart {
			return errFound
		}
		return err
	}
	err := expect(d, '{')
	if err == nil {
		err = fields{
			{"info", func(d *jsontext.Decoder) error {
				info = true
				return complete(fields{
					{"first_deployed", stringInto(&h.FirstDeployed, parseTime)},
					{"last_deployed", stringInto(&h.LastDeployed, parseTime)},
					{"description", stringInto(&h.Description, shorten)},
				}.read(d))
			}},
			{"chart", func(d *jsontext.Decoder) error {
				err := fields{{"metadata", func(d *jsontext.Decoder) error {
					chart = true
					return complete(readMetadata(d, &h.Chart))
				}}}.read(d)
				chart = true
				return complete(err)
			}},
		}.read(d)
	}
	switch {
	case err == nil, errors.Is(err, errFound):
		return h, nil
	case d.StackDepth() >= maxDepth && errors.As(err, new(*jsontext.SyntacticError)):
		err = Limit
	}
	return release.Head{}, err
}

func readMetadata(d *jsontext.Decoder, c *release.Chart) error {
	return fields{
		{"name", stringInto(&c.Name, refuseLong)},
		{"version", stringInto(&c.Version, refuseLong)},
		{"appVersion", stringInto(&c.AppVersion, refuseLong)},
		{"deprecated", func(d *jsontext.Decoder) error { return readBool(d, &c.Deprecated) }},
	}.read(d)
}

// field is a member of an object to read.
type field struct {
	name string
	read func(*jsontext.Decoder) error // nil once it has been read
}

// fields are the members of an object to read. There are few of them, so they are searched.
type fields []field

// read reads an object, or null, which has no members.
func (f fields) read(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		return d.SkipValue()
	}
	if err := expect(d, '{'); err != nil {
		return err
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		read, err := f.reader(name.String())
		if err == nil {
			err = read(d)
		}
		if err != nil {
			return err
		}
	}
	_, err := d.ReadToken() // the end of the object, or an error
	return err
}

// reader returns what reads the value of a member. It refuses a field that comes twice, or in another case, which
// Helm never writes: Go's encoding/json would take either for the field, and Helm 3 and Helm 4 do not agree on
// what comes of two.
func (f fields) reader(name string) (func(*jsontext.Decoder) error, error) {
	for i := range f {
		if !strings.EqualFold(f[i].name, name) {
			continue
		}
		read := f[i].read
		if read == nil || f[i].name != name {
			return nil, JSON
		}
		f[i].read = nil
		return read, nil
	}
	return (*jsontext.Decoder).SkipValue, nil
}

// expect returns an error unless the next value is of a kind.
func expect(d *jsontext.Decoder, kind jsontext.Kind) error {
	switch d.PeekKind() {
	case kind:
		return nil
	case 0:
		_, err := d.ReadToken()
		return err
	}
	return JSON
}

// stringInto returns what reads a string and parses it; null leaves the value as it is.
func stringInto[T any](v *T, parse func(string) (T, error)) func(*jsontext.Decoder) error {
	return func(d *jsontext.Decoder) error {
		if d.PeekKind() == 'n' {
			return d.SkipValue()
		}
		if err := expect(d, '"'); err != nil {
			return err
		}
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		parsed, err := parse(token.String())
		if err == nil {
			*v = parsed
		}
		return err
	}
}

// refuseLong refuses a long text: half of a version would be a wrong one.
func refuseLong(s string) (string, error) {
	if len(s) > maxText {
		return "", Limit
	}
	return s, nil
}

// shorten cuts a long text.
func shorten(s string) (string, error) {
	if len(s) <= maxDescription {
		return s, nil
	}
	end := maxDescription - len(ellipsis)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis, nil
}

// parseTime parses RFC 3339, or the empty string that Helm 3 writes for no time.
func parseTime(s string) (time.Time, error) {
	var t time.Time
	if s != "" && t.UnmarshalText([]byte(s)) != nil {
		return t, JSON
	}
	return t.UTC(), nil
}

func readBool(d *jsontext.Decoder, v *bool) error {
	switch d.PeekKind() {
	case 'n':
		return d.SkipValue()
	case 't', 'f':
		token, err := d.ReadToken()
		*v = err == nil && token.Bool()
		return err
	}
	return expect(d, 't')
}
