package decode

import (
	"errors"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// maxText bounds each string of the chart's metadata, in bytes.
	maxText = 1 << 10
	// maxDescription is the length in bytes, with the ellipsis, that a longer
	// description is cut to.
	maxDescription = 512
	ellipsis       = "…"
	// maxDepth is the nesting that jsontext and encoding/json allow.
	maxDepth = 10_000
)

// errFound ends the reading of a document whose head is complete.
var errFound = errors.New("the head is complete")

// jsonOptions make jsontext read what encoding/json reads, which is what Helm
// uses.
func jsonOptions() []jsontext.Options {
	return []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
}

// readHead reads a release up to where both its info and its chart's metadata
// have been read: with Helm's order of fields that is within the first
// kilobytes.
func readHead(d *jsontext.Decoder) (release.Head, error) {
	var h release.Head
	info, chart := false, false
	err := object(d, func(name string) (err error) {
		switch {
		case name == "info" && !info:
			info = true
			err = readInfo(d, &h)
		case name == "chart" && !chart:
			chart = true
			err = readChart(d, &h.Chart, info)
		default:
			return d.SkipValue()
		}
		if err == nil && info && chart {
			err = errFound
		}
		return err
	})
	switch {
	case err == nil, errors.Is(err, errFound):
		return h, nil
	case d.StackDepth() >= maxDepth && errors.As(err, new(*jsontext.SyntacticError)):
		err = Limit
	}
	return release.Head{}, err
}

func readInfo(d *jsontext.Decoder, h *release.Head) error {
	return objectOrNull(d, func(name string) error {
		switch name {
		case "first_deployed":
			return readTime(d, &h.FirstDeployed)
		case "last_deployed":
			return readTime(d, &h.LastDeployed)
		case "description":
			return readDescription(d, &h.Description)
		}
		return d.SkipValue()
	})
}

// readChart reads a chart's metadata. If that completes the head it stops
// there: what follows is large.
func readChart(d *jsontext.Decoder, c *release.Chart, completes bool) error {
	metadata := false
	return objectOrNull(d, func(name string) error {
		if name != "metadata" || metadata {
			return d.SkipValue()
		}
		metadata = true
		err := readMetadata(d, c)
		if err == nil && completes {
			err = errFound
		}
		return err
	})
}

func readMetadata(d *jsontext.Decoder, c *release.Chart) error {
	return objectOrNull(d, func(name string) error {
		switch name {
		case "name":
			return readText(d, &c.Name)
		case "version":
			return readText(d, &c.Version)
		case "appVersion":
			return readText(d, &c.AppVersion)
		case "deprecated":
			return readBool(d, &c.Deprecated)
		}
		return d.SkipValue()
	})
}

// object reads an object. It calls member for each of its members, which reads
// the value.
func object(d *jsontext.Decoder, member func(name string) error) error {
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
		if err := member(name.String()); err != nil {
			return err
		}
	}
	_, err := d.ReadToken() // the end of the object, or an error
	return err
}

func objectOrNull(d *jsontext.Decoder, member func(name string) error) error {
	if d.PeekKind() == 'n' {
		return d.SkipValue()
	}
	return object(d, member)
}

// readText reads a string. One that is too long is an error, since half of a
// version would be a wrong one.
func readText(d *jsontext.Decoder, v *string) error {
	text, ok, err := stringOrNull(d)
	if len(text) > maxText {
		return Limit
	}
	if ok {
		*v = text
	}
	return err
}

func readDescription(d *jsontext.Decoder, v *string) error {
	text, ok, err := stringOrNull(d)
	if len(text) > maxDescription {
		cut := maxDescription - len(ellipsis)
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + ellipsis
	}
	if ok {
		*v = text
	}
	return err
}

// readTime reads a time in RFC 3339, or the empty string that Helm 3 writes for
// none.
func readTime(d *jsontext.Decoder, v *time.Time) error {
	text, ok, err := stringOrNull(d)
	if err != nil || !ok {
		return err
	}
	var t time.Time
	if text != "" && t.UnmarshalText([]byte(text)) != nil {
		return JSON
	}
	*v = t.UTC()
	return nil
}

func readBool(d *jsontext.Decoder, v *bool) error {
	switch d.PeekKind() {
	case 't', 'f':
		token, err := d.ReadToken()
		*v = err == nil && token.Bool()
		return err
	}
	return skipNull(d)
}

// stringOrNull reads a string, or returns false for null, which leaves a field
// as it is.
func stringOrNull(d *jsontext.Decoder) (text string, ok bool, err error) {
	if d.PeekKind() != '"' {
		return "", false, skipNull(d)
	}
	token, err := d.ReadToken()
	if err != nil {
		return "", false, err
	}
	return token.String(), true, nil
}

// skipNull reads null; anything else is an error.
func skipNull(d *jsontext.Decoder) error {
	if err := expect(d, 'n'); err != nil {
		return err
	}
	return d.SkipValue()
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
