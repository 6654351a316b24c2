package chartrepo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxVersion = 128 // bytes
	// overhead is about what a string costs besides its bytes.
	overhead = 32
)

// readIndex reads the versions of all charts from an index, as a stream and to its end. endKnown tells that r
// returns io.EOF only where the text is complete.
func readIndex(ctx context.Context, r io.Reader, endKnown bool, l limits) (map[string][]string, error) {
	source := &source{ctx: ctx, r: r, left: l.text, max: l.whole}
	b := bufio.NewReaderSize(source, 64<<10)
	start, err := b.Peek(64)
	if err != nil && err != io.EOF {
		return nil, err
	}
	k := newKeeper(l)
	if bytes.HasPrefix(bytes.TrimLeft(start, " \t\r\n"), []byte("{")) {
		err = readJSON(b, k)
	} else {
		err = readYAML(b, k)
	}
	var u *unsure
	if errors.As(err, &u) {
		for err = nil; err == nil && source.max > 0; {
			_, err = io.CopyN(io.Discard, b, 64<<10)
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		if source.max == 0 {
			return nil, fail(Invalid, "index.yaml: %s; an index of more than %d bytes must be laid out as helm repo index does it", u.text, l.whole)
		}
		k = newKeeper(l)
		err = readWhole(source.kept, k)
	}
	if err != nil {
		return nil, err
	}
	return k.answer(endKnown)
}

// source is the text of an index. It fails behind its limit, and when the context ends, which a file would not.
type source struct {
	ctx  context.Context
	r    io.Reader
	left int64
	kept []byte // the text so far, while it is at most max bytes
	max  int    // 0 when kept has been given up
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	if s.left -= int64(n); s.left < 0 {
		return 0, fail(TooLarge, "index.yaml: larger than the limit")
	}
	if len(s.kept)+n > s.max {
		s.kept, s.max = nil, 0
	} else {
		s.kept = append(s.kept, p[:n]...)
	}
	return n, err
}

// unsure says that the text is not laid out so that it can be understood piece by piece.
type unsure struct{ text string }

func (u *unsure) Error() string { return u.text }

// keeper collects what an index says.
type keeper struct {
	limits     limits
	apiVersion string
	charts     map[string][]string
	closed     bool // entries is complete, wherever the text ends
	read, kept int
}

func newKeeper(l limits) *keeper { return &keeper{limits: l, charts: map[string][]string{}} }

// chart begins the versions of a chart.
func (k *keeper) chart(name string) error {
	if err := k.count(); err != nil || !validName(name) {
		return err
	}
	if _, ok := k.charts[name]; ok {
		return fail(Invalid, "index.yaml: the chart %q is there twice", name)
	}
	k.charts[strings.Clone(name)] = nil
	return k.keep(name)
}

// version adds a version to a chart, unless Helm would leave it out.
func (k *keeper) version(chart, name, version string) error {
	if err := k.count(); err != nil || name == "" || !validName(chart) || len(version) > maxVersion || !printable(version) {
		return err
	}
	if _, err := semver.NewVersion(version); err != nil {
		return nil
	}
	k.charts[chart] = append(k.charts[chart], strings.Clone(version))
	return k.keep(version)
}

// answer returns the versions of the charts that have one, if the index is one and complete.
func (k *keeper) answer(endKnown bool) (map[string][]string, error) {
	if k.apiVersion == "" {
		return nil, fail(Invalid, "index.yaml: no apiVersion; Helm refuses such an index")
	}
	if !endKnown && !k.closed {
		return nil, fail(Failed, "index.yaml: the response ends where the connection does, so it may be cut off; the server should send a Content-Length")
	}
	maps.DeleteFunc(k.charts, func(_ string, versions []string) bool { return len(versions) == 0 })
	return k.charts, nil
}

func (k *keeper) count() error {
	if k.read++; k.read > k.limits.versions {
		return fail(TooLarge, "index.yaml: more than %d versions", k.limits.versions)
	}
	return nil
}

func (k *keeper) keep(text string) error {
	if k.kept += len(text) + overhead; k.kept > k.limits.kept {
		return fail(TooLarge, "index.yaml: more than %d bytes of names and versions", k.limits.kept)
	}
	return nil
}

// once finds keys that an object has twice, of which parsers take one or the other.
type once map[string]bool

func (o once) add(key string) error {
	if o[key] {
		return fail(Invalid, "index.yaml: the key %q is there twice in one place", key)
	}
	o[key] = true
	return nil
}

// readJSON reads an index as helm repo index --json writes it.
func readJSON(r io.Reader, k *keeper) error {
	p := &paced{r: r, max: int64(k.limits.piece)}
	p.d = jsontext.NewDecoder(p, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	j := jsonReader{d: p.d, k: k}
	err := j.index()
	if err == nil {
		if _, err = j.d.ReadToken(); err == io.EOF {
			k.closed = true
			return nil
		}
	}
	if syntax := (*jsontext.SyntacticError)(nil); err == nil || errors.As(err, &syntax) {
		return &unsure{fmt.Sprintf("byte %d: not JSON", j.d.InputOffset())}
	}
	return err
}

// paced fails when the decoder needs more than max bytes for one token.
type paced struct {
	r         io.Reader
	d         *jsontext.Decoder
	read, max int64
}

func (p *paced) Read(b []byte) (int, error) {
	if p.read-p.d.InputOffset() > p.max {
		return 0, fail(TooLarge, "index.yaml: byte %d: one text of more than %d bytes", p.d.InputOffset(), p.max)
	}
	n, err := p.r.Read(b)
	p.read += int64(n)
	return n, err
}

// jsonReader reads the values of an index. Each method reads one value, which may be null.
type jsonReader struct {
	d *jsontext.Decoder
	k *keeper
}

func (j jsonReader) index() error {
	keys := once{}
	return j.each('{', func(key string) error {
		switch key {
		case "apiVersion":
			return errors.Join(keys.add(key), j.text(&j.k.apiVersion))
		case "entries":
			return errors.Join(keys.add(key), j.each('{', j.chart))
		}
		return j.d.SkipValue()
	})
}

func (j jsonReader) chart(chart string) error {
	if err := j.k.chart(chart); err != nil {
		return err
	}
	return j.each('[', func(string) error {
		keys, name, version := once{}, "", ""
		if err := j.each('{', func(key string) error {
			switch key {
			case "name":
				return errors.Join(keys.add(key), j.text(&name))
			case "version":
				return errors.Join(keys.add(key), j.text(&version))
			}
			return j.d.SkipValue()
		}); err != nil {
			return err
		}
		return j.k.version(chart, name, version)
	})
}

// each calls a function at each value of an object, with its key, or of an array.
func (j jsonReader) each(begin jsontext.Kind, value func(key string) error) error {
	token, err := j.d.ReadToken()
	if err != nil || token.Kind() == 'n' {
		return err
	}
	if token.Kind() != begin {
		return j.unexpected()
	}
	for j.d.PeekKind() != begin+2 { // "}" is two behind "{" in ASCII, and "]" behind "["
		key := ""
		if begin == '{' {
			token, err := j.d.ReadToken()
			if err != nil {
				return err
			}
			key = token.String()
		}
		if err := value(key); err != nil {
			return err
		}
	}
	_, err = j.d.ReadToken()
	return err
}

func (j jsonReader) text(into *string) error {
	token, err := j.d.ReadToken()
	switch {
	case err != nil || token.Kind() == 'n':
		return err
	case token.Kind() != '"':
		return j.unexpected()
	}
	*into = token.String()
	return nil
}

func (j jsonReader) unexpected() error {
	return fail(Invalid, "index.yaml: byte %d: not what an index has there", j.d.InputOffset())
}
