package decode

import (
	"time"
	"unicode/utf8"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// maxDescription is the length in bytes, with the ellipsis, that a longer
	// description is cut to.
	maxDescription = 512
	ellipsis       = "…"
)

// head reads a release up to where both its info and its chart's metadata have
// been read: with Helm's order of fields that is within the first kilobytes.
func (s *scanner) head(h *release.Head) {
	if s.next() != '{' {
		s.fail(ErrJSON, "want an object")
		return
	}
	s.back()
	info, chart := false, false
	for more := s.enter(); more && s.key(); more = !info || !chart {
		switch name := s.text[:s.n]; {
		case string(name) == "info" && !info:
			info = true
			s.info(h)
		case string(name) == "chart" && !chart:
			chart = true
			s.chart(&h.Chart, info)
		default:
			s.skip()
		}
	}
}

func (s *scanner) info(h *release.Head) {
	for more := s.enter(); more && s.key(); {
		switch string(s.text[:s.n]) {
		case "first_deployed":
			s.time(&h.FirstDeployed)
		case "last_deployed":
			s.time(&h.LastDeployed)
		case "description":
			s.description(&h.Description)
		default:
			s.skip()
		}
	}
}

// chart reads a chart's metadata. If that is the last thing to be read, it
// stops there, in front of all that is large.
func (s *scanner) chart(c *release.Chart, last bool) {
	found := false
	for more := s.enter(); more && s.key(); more = !found || !last {
		if string(s.text[:s.n]) == "metadata" && !found {
			found = true
			s.metadata(c)
		} else {
			s.skip()
		}
	}
}

func (s *scanner) metadata(c *release.Chart) {
	for more := s.enter(); more && s.key(); {
		switch string(s.text[:s.n]) {
		case "name":
			s.bounded(&c.Name)
		case "version":
			s.bounded(&c.Version)
		case "appVersion":
			s.bounded(&c.AppVersion)
		case "deprecated":
			s.bool(&c.Deprecated)
		default:
			s.skip()
		}
	}
}

// bounded reads a string that is refused if it is too long, as half a version
// would be a wrong one.
func (s *scanner) bounded(v *string) {
	if !s.stringOrNull() {
		return
	}
	text := s.value()
	if s.clipped || len(text) > maxText {
		s.fail(ErrLimit, "a string of the chart's metadata is too long")
		return
	}
	*v = text
}

// description reads a string that is cut if it is too long: it is for people.
func (s *scanner) description(v *string) {
	if !s.stringOrNull() {
		return
	}
	text := s.value()
	if s.clipped || len(text) > maxDescription {
		cut := maxDescription - len(ellipsis)
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + ellipsis
	}
	*v = text
}

// time reads a time in the one form that Go's JSON has for times, or the empty
// string that Helm 3 writes for none.
func (s *scanner) time(v *time.Time) {
	if !s.stringOrNull() {
		return
	}
	var t time.Time
	if s.n > 0 && t.UnmarshalText(s.text[:s.n]) != nil {
		s.fail(ErrJSON, "want a time")
		return
	}
	*v = t.UTC()
}

func (s *scanner) bool(v *bool) {
	switch s.next() {
	case 't':
		s.literal("rue")
		*v = true
	case 'f':
		s.literal("alse")
		*v = false
	case 'n':
		s.literal("ull")
	default:
		s.fail(ErrJSON, "want true or false")
	}
}

// stringOrNull reads a string to text. It returns false for null, which leaves
// a field as it is, and for anything else, which is an error.
func (s *scanner) stringOrNull() bool {
	switch s.next() {
	case '"':
		s.string()
	case 'n':
		s.literal("ull")
		return false
	default:
		s.fail(ErrJSON, "want a string")
	}
	return s.err == nil
}

// value returns the string in text as a copy of its own, with U+FFFD for every
// byte that is not UTF-8, as encoding/json has it.
func (s *scanner) value() string {
	text := s.text[:s.n]
	if utf8.Valid(text) {
		return string(text)
	}
	valid := make([]byte, 0, len(text)+len(text)/2)
	for _, r := range string(text) {
		valid = utf8.AppendRune(valid, r)
	}
	return string(valid)
}
