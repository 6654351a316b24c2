package chartrepo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const maxTopKeys = 1000

// topKey is a key of the index itself, as every writer of an index writes it.
var topKey = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_-]*):(?:[ \r\n]|$)`)

// readYAML reads an index piece by piece: a piece is a key of the index with its value, the name of a chart, or
// one version. Each is decoded by itself.
//
// Why that gives what the whole would: a line that is indented no more than the dash of a version's element, or not
// at all, ends every plain and block scalar and every collection of a piece in block style. Nothing else can be
// open there if the piece is complete by itself, since an open quote or bracket is an error at its end. So the line
// is read in the state that it is read in at the beginning of a text. Blank lines and comments, which could be within
// a quoted text, never end a piece. What this argument does not cover, such as another character that breaks
// lines, is left to the decoding of the whole.
func readYAML(r *bufio.Reader, k *keeper) error {
	s := &splitter{r: r, k: k, keys: once{}}
	for {
		line, err := s.next()
		if err == io.EOF {
			return s.flush()
		}
		if err == nil {
			err = s.line(line)
		}
		if err != nil {
			return err
		}
	}
}

// splitter cuts an index into its pieces.
type splitter struct {
	r       *bufio.Reader
	k       *keeper
	number  int    // of the line
	long    []byte // a line that the reader's buffer does not hold
	started bool   // something other than comments has been read
	keys    once

	piece []byte
	first int    // the piece's first line
	key   string // of the index, that the piece is the value of; or
	// in entries, the columns of names and dashes, -1 while they are not known, and the chart whose versions
	// may follow.
	entries    bool
	name, dash int
	chart      string
	open       bool
}

func (s *splitter) unsure(format string, args ...any) error {
	return &unsure{fmt.Sprintf("line %d: ", s.number) + fmt.Sprintf(format, args...)}
}

// next returns the next line with its break. It is valid until the next call.
func (s *splitter) next() ([]byte, error) {
	s.number++
	line, err := s.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		s.long = append(s.long[:0], line...)
		for err == bufio.ErrBufferFull && len(s.long) <= s.k.limits.piece {
			line, err = s.r.ReadSlice('\n')
			s.long = append(s.long, line...)
		}
		line = s.long
	}
	switch {
	case len(line) > s.k.limits.piece:
		return nil, s.tooLong()
	case err == io.EOF && len(line) == 0, err != nil && err != io.EOF:
		return nil, err
	}
	if s.number == 1 {
		line = bytes.TrimPrefix(line, []byte("\uFEFF"))
	}
	content := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	for _, other := range []string{"\r", "\u0085", "\u2028", "\u2029"} {
		if bytes.Contains(content, []byte(other)) {
			return nil, s.unsure("breaks lines with %q", other)
		}
	}
	return line, nil
}

func (s *splitter) tooLong() error {
	return fail(TooLarge, "index.yaml: line %d: more than %d bytes about one version", s.number, s.k.limits.piece)
}

// line adds a line to the piece, or ends the piece and begins another.
func (s *splitter) line(line []byte) error {
	content := bytes.TrimRight(line, "\r\n")
	column := len(content) - len(bytes.TrimLeft(content, " "))
	rest := content[column:]
	dash := len(rest) > 0 && rest[0] == '-' && (len(rest) == 1 || rest[1] == ' ')
	switch {
	case len(rest) == 0 || rest[0] == '#':
		if len(s.piece) == 0 {
			// Nothing decodes it, and so finds what YAML does not allow.
			if !utf8.Valid(rest) || bytes.ContainsFunc(rest, func(c rune) bool { return c != '\t' && !unicode.IsGraphic(c) }) {
				return s.unsure("has characters that YAML does not allow")
			}
			return nil
		}
	case column == 0 && dash && !s.entries && s.key != "":
		// A list that is indented as its key is.
	case column == 0:
		return s.top(line)
	case !s.entries && s.key != "":
	case !s.entries:
		return s.unsure("is indented")
	case s.dash >= 0 && column > s.dash:
	case dash && s.open && (s.dash == column || s.dash < 0 && column >= s.name):
		err := s.flush()
		s.dash = column
		return errors.Join(err, s.begin(line))
	case !dash && (s.name < 0 || s.name == column):
		err := s.flush()
		s.name, s.dash = column, -1
		return errors.Join(err, s.chartName(line))
	default:
		return s.unsure("is neither the name of a chart nor one of its versions")
	}
	if len(s.piece)+len(line) > s.k.limits.piece {
		return s.tooLong()
	}
	s.piece = append(s.piece, line...)
	return nil
}

func (s *splitter) begin(line []byte) error {
	s.piece, s.first = append(s.piece[:0], line...), s.number
	return nil
}

// top begins a key of the index.
func (s *splitter) top(line []byte) error {
	if err := s.flush(); err != nil {
		return err
	}
	if !s.started && bytes.Equal(bytes.TrimRight(line, " \r\n"), []byte("---")) {
		s.started = true
		return nil
	}
	s.started = true
	match := topKey.FindSubmatch(line)
	if match == nil {
		return s.unsure("is not a key of an index")
	}
	if s.keys["entries"] {
		s.k.closed = true
	}
	s.key, s.entries, s.open = string(match[1]), false, false
	if len(s.keys) == maxTopKeys {
		return s.unsure("more than %d keys", maxTopKeys)
	}
	if err := s.keys.add(s.key); err != nil {
		return err
	}
	if s.key == "entries" {
		_, value, err := s.pair(line)
		if err != nil {
			return err
		}
		if isBlank(value) {
			s.entries, s.name, s.dash = true, -1, -1
			return nil
		}
		// Only {} is left, since it has to be complete in this line.
		if value.Kind != yaml.MappingNode || len(value.Content) > 0 || value.Anchor != "" {
			return s.unsure("entries are not in lines below it")
		}
	}
	return s.begin(line)
}

// chartName begins a chart.
func (s *splitter) chartName(line []byte) error {
	switch c := bytes.TrimLeft(line, " ")[0]; {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '"', c == '\'':
	default:
		return s.unsure("does not begin as the name of a chart does")
	}
	key, value, err := s.pair(line)
	if err != nil {
		return err
	}
	s.open = isBlank(value)
	if !s.open && (value.Kind != yaml.SequenceNode || len(value.Content) > 0 || value.Anchor != "") {
		return s.unsure("the versions of %.64q are not in lines below it", key)
	}
	s.chart = key
	return s.k.chart(key)
}

// pair decodes a line that is a key with a value.
func (s *splitter) pair(line []byte) (string, *yaml.Node, error) {
	node, err := decodeYAML(line)
	if err != nil || node.Kind != yaml.MappingNode || len(node.Content) != 2 {
		return "", nil, s.unsure("is not a key by itself")
	}
	fields, err := fieldsOf(node, s.number-1)
	if err != nil {
		return "", nil, err
	}
	return fields[0].key, node.Content[1], nil
}

// isBlank tells whether nothing at all is written for a value, so that the lines below may be it.
func isBlank(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && n.Style == 0 && n.Anchor == "" && n.ShortTag() == "!!null"
}

// flush decodes the piece.
func (s *splitter) flush() error {
	if len(s.piece) == 0 {
		return nil
	}
	node, err := decodeYAML(s.piece)
	s.piece = s.piece[:0]
	if err != nil {
		s.number = s.first
		return s.unsure("cannot be decoded by itself: %v", err)
	}
	if s.entries {
		if node.Kind != yaml.SequenceNode || len(node.Content) != 1 {
			return s.unsure("is not the end of one version")
		}
		return s.k.yamlVersion(s.chart, node.Content[0], s.first-1)
	}
	if node.Kind != yaml.MappingNode || len(node.Content) != 2 || node.Content[0].Value != s.key {
		return s.unsure("is not the end of %s", s.key)
	}
	if s.key == "apiVersion" {
		s.k.apiVersion = textOf(node.Content[1])
	}
	return nil
}
