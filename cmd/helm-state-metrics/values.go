package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// checked is a flag's value that is parsed on the way in. Its errors name the
// flag, which kingpin's own do not.
type checked[T any] struct {
	into  *T
	parse func(string) (T, error)
}

// Set implements kingpin.Value.
func (c *checked[T]) Set(s string) (err error) {
	*c.into, err = c.parse(s)
	return err
}

func (c *checked[T]) String() string { return fmt.Sprint(*c.into) }

// named is a flag's value of a library, whose errors do not name the flag.
type named struct {
	kingpin.Value
	flag string
}

// Set implements kingpin.Value.
func (n *named) Set(s string) error {
	if err := n.Value.Set(s); err != nil {
		return fmt.Errorf("--%s=%s: %w", n.flag, s, err)
	}
	return nil
}

// listVar declares a flag that takes a list, by repetition or by commas.
func listVar(app *kingpin.Application, name, help string, into *[]string) {
	app.Flag(name, help).PlaceHolder("NAME").SetValue((*commaList)(into))
}

// commaList is a list of distinct words.
type commaList []string

// Set implements kingpin.Value.
func (l *commaList) Set(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word != "" && !slices.Contains(*l, word) {
			*l = append(*l, word)
		}
	}
	return nil
}

func (l *commaList) String() string { return strings.Join(*l, ",") }

// IsCumulative tells kingpin that the flag may be repeated.
func (l *commaList) IsCumulative() bool { return true }

// storageList is a list of storages.
type storageList struct{ list *[]release.Storage }

// Set implements kingpin.Value.
func (l *storageList) Set(s string) error {
	var words commaList
	if err := words.Set(s); err != nil {
		return err
	}
	for _, word := range words {
		storage := release.Storage(word)
		if storage != release.Secrets && storage != release.ConfigMaps {
			return fmt.Errorf("--storage: %q is neither %s nor %s", word, release.Secrets, release.ConfigMaps)
		}
		if !slices.Contains(*l.list, storage) {
			*l.list = append(*l.list, storage)
		}
	}
	if len(*l.list) == 0 {
		return fmt.Errorf("--storage is empty: name %s, %s or both", release.Secrets, release.ConfigMaps)
	}
	return nil
}

func (l *storageList) String() string { return fmt.Sprint(*l.list) }

// IsCumulative tells kingpin that the flag may be repeated.
func (l *storageList) IsCumulative() bool { return true }

// regexpList is a list of regular expressions, anchored as in Prometheus.
type regexpList struct{ list *[]*regexp.Regexp }

// Set implements kingpin.Value.
func (l *regexpList) Set(s string) error {
	r, err := regexp.Compile("^(?:" + s + ")$")
	if err != nil {
		return fmt.Errorf("%q is no regular expression: %w", s, err)
	}
	*l.list = append(*l.list, r)
	return nil
}

func (l *regexpList) String() string { return fmt.Sprint(*l.list) }

// IsCumulative tells kingpin that the flag may be repeated.
func (l *regexpList) IsCumulative() bool { return true }
