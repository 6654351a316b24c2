package chartrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// maxMarks bounds the memory that decoding takes: a value begins behind a character of a few, and takes about 200
// bytes.
const maxMarks = 100_000

// readWhole decodes a text at once, whatever its layout.
func readWhole(text []byte, k *keeper) error {
	root, err := decodeYAML(text)
	if err != nil {
		return fail(Invalid, "index.yaml: not YAML: %v", err)
	}
	fields, err := fieldsOf(root, 0)
	if err != nil {
		return err
	}
	keys := once{}
	for i, f := range fields {
		if err := keys.add(f.key); err != nil {
			return err
		}
		switch f.key {
		case "apiVersion":
			k.apiVersion = textOf(f.value)
		case "entries":
			k.closed = i < len(fields)-1 || root.Style&yaml.FlowStyle != 0
			if err := k.yamlCharts(f.value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *keeper) yamlCharts(n *yaml.Node) error {
	charts, err := fieldsOf(n, 0)
	if err != nil {
		return err
	}
	for _, chart := range charts {
		if err := k.chart(chart.key); err != nil {
			return err
		}
		versions := target(chart.value)
		if versions.Kind != yaml.SequenceNode && versions.ShortTag() != "!!null" {
			return invalidAt(versions.Line, "not a list of versions")
		}
		for _, version := range versions.Content {
			if err := k.yamlVersion(chart.key, version, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// yamlVersion keeps one version of a chart. The node's text begins behind the given number of lines.
func (k *keeper) yamlVersion(chart string, n *yaml.Node, lines int) error {
	fields, err := fieldsOf(n, lines)
	if err != nil {
		return err
	}
	keys, name, version := once{}, "", ""
	for _, f := range fields {
		var into *string
		switch f.key {
		case "name":
			into = &name
		case "version":
			into = &version
		default:
			continue
		}
		if err := keys.add(f.key); err != nil {
			return err
		}
		*into = textOf(f.value)
	}
	return k.version(chart, name, version)
}

type field struct {
	key   string
	value *yaml.Node
}

// fieldsOf returns what a mapping has. Null has nothing.
func fieldsOf(n *yaml.Node, lines int) ([]field, error) {
	n = target(n)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return nil, nil
	}
	if n.Kind != yaml.MappingNode {
		return nil, invalidAt(n.Line+lines, "not what an index has there")
	}
	fields := make([]field, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := target(n.Content[i])
		if tag := key.ShortTag(); key.Kind != yaml.ScalarNode || tag == "!!null" || tag == "!!merge" {
			return nil, invalidAt(key.Line+lines, "a key that an index cannot have")
		}
		fields = append(fields, field{key.Value, n.Content[i+1]})
	}
	return fields, nil
}

// target is what an alias stands for.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// textOf returns a text, or a number as Helm writes it: 1.10 without quotes is 1.1. Of all else it returns "".
func textOf(n *yaml.Node) string {
	n = target(n)
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	switch n.ShortTag() {
	case "!!str":
		return n.Value
	case "!!int":
		var number int64
		if n.Decode(&number) == nil {
			return strconv.FormatInt(number, 10)
		}
	case "!!float":
		var number float64
		if n.Decode(&number) == nil {
			return strconv.FormatFloat(number, 'g', -1, 64)
		}
	}
	return ""
}

// decodeYAML decodes the one document of a text. The decoder panics at some texts.
func decodeYAML(text []byte) (root *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("the decoder failed")
		}
	}()
	marks := 0
	for _, mark := range []string{"\n", ",", ":", "[", "{", "- ", "? "} {
		marks += bytes.Count(text, []byte(mark))
	}
	if marks > maxMarks {
		return nil, errors.New("too many values")
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	if err := d.Decode(&document); err != nil {
		if err == io.EOF {
			return nil, errors.New("empty")
		}
		return nil, err
	}
	if err := d.Decode(&more); err != io.EOF {
		return nil, errors.New("more than one document")
	}
	return document.Content[0], nil
}

func invalidAt(line int, format string, args ...any) error {
	return fail(Invalid, "index.yaml: line %d: %s", line, fmt.Sprintf(format, args...))
}
