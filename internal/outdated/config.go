// Package outdated decides which releases run an older version of their chart than the latest: it reads the rules, and
// compares versions. It asks nobody.
package outdated

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"
	"go.yaml.in/yaml/v3"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
)

// Config is a config file: where charts come from.
type Config struct {
	Repositories []chartrepo.Config `yaml:"repositories"`
	Rules        []Rule             `yaml:"rules"`

	// Helm writes these into its repositories.yaml. They mean nothing here.
	APIVersion any `yaml:"apiVersion"`
	Generated  any `yaml:"generated"`

	fallback Rule // for releases that no rule matches
}

// Rule says what the latest version of some charts is. The first rule that matches a release applies.
type Rule struct {
	// Chart and Namespace are globs as path.Match has them; "" matches all.
	Chart     string `yaml:"chart"`
	Namespace string `yaml:"namespace"`
	// Repository is the name of the one that has the charts; "" for the only one that lists them.
	Repository string `yaml:"repository"`
	// Constraint is what the latest version must satisfy, as Helm has it: ~0.7.
	Constraint string `yaml:"constraint"`
	// DesiredVersion is taken for the latest, and no repository is asked.
	DesiredVersion string `yaml:"desiredVersion"`
	// Prerelease says that the latest version may be a pre-release.
	Prerelease bool `yaml:"prerelease"`
	// Ignore leaves the releases out.
	Ignore bool `yaml:"ignore"`

	desired *semver.Version
	// strict is the constraint; lenient lets pre-releases through, too.
	strict, lenient *semver.Constraints
}

// ParseConfig reads a config file. Errors name the line.
func ParseConfig(text []byte) (*Config, error) {
	cfg := &Config{}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(cfg); err != nil && !errors.Is(err, io.EOF) {
		return nil, plain(err)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one YAML document; keep one")
	}
	lines, err := linesOf(text)
	if err != nil {
		return nil, err
	}
	known := make(map[string]int)
	for i, r := range cfg.Repositories {
		line := lines["repositories"][i]
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if other, taken := known[r.Name]; taken {
			return nil, fmt.Errorf("line %d: repository %q is in line %d, too; give one another name", line, r.Name, other)
		}
		known[r.Name] = line
	}
	for i := range cfg.Rules {
		if err := cfg.Rules[i].complete(known); err != nil {
			return nil, fmt.Errorf("line %d: %w", lines["rules"][i], err)
		}
	}
	return cfg, nil
}

// kinds are what the YAML library says of a value of the wrong kind. It may quote the value, which may be a password.
var kinds = regexp.MustCompile(`cannot (unmarshal|decode) !!.*? (into|as a) \S+`)

// plain turns an error of the YAML library into one line that says nothing about Go.
func plain(err error) error {
	text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n", "")
	text = strings.ReplaceAll(text, "\n", ";")
	text = regexp.MustCompile(`field (.*) not found in type \S+`).ReplaceAllString(text, `unknown key "$1"`)
	text = regexp.MustCompile(`(key "[^":]*):[^;]*`).ReplaceAllString(text, `$1:…"; there must be a space behind a colon`)
	text = regexp.MustCompile(`unknown anchor '.*' referenced`).ReplaceAllString(text, "a value that begins with * needs quotes")
	text = kinds.ReplaceAllString(text, "the value is of another kind than the key takes")
	return errors.New(strings.Join(strings.Fields(text), " "))
}

// linesOf returns where the elements of the lists begin.
func linesOf(text []byte) (map[string][]int, error) {
	var file map[string]yaml.Node
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, plain(err)
	}
	lines := make(map[string][]int)
	for key, list := range file {
		if list.Kind == yaml.AliasNode {
			list = *list.Alias
		}
		for _, element := range list.Content {
			if element.Tag != "!!null" { // which the decoder leaves out
				lines[key] = append(lines[key], element.Line)
			}
		}
	}
	return lines, nil
}

// complete checks a rule and parses its versions.
func (r *Rule) complete(repositories map[string]int) (err error) {
	for key, glob := range map[string]string{"chart": r.Chart, "namespace": r.Namespace} {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("%s: %q is no glob; it may have *, ? and [a-z]", key, glob)
		}
	}
	if _, known := repositories[r.Repository]; r.Repository != "" && !known {
		return fmt.Errorf("repository: no repository has the name %q", r.Repository)
	}
	if *r == (Rule{}) {
		return errors.New("the rule is empty, and would apply to all releases; remove it")
	}
	asks := r.Repository != "" || r.Constraint != "" || r.Prerelease
	if r.Ignore && (asks || r.DesiredVersion != "") {
		return errors.New("ignore: remove the keys that choose a version, or ignore")
	}
	if r.DesiredVersion != "" {
		if asks {
			return errors.New("desiredVersion: remove repository, constraint and prerelease, because no repository is asked")
		}
		if r.desired, err = semver.NewVersion(r.DesiredVersion); err != nil {
			return fmt.Errorf("desiredVersion: %q is not a semantic version, such as 1.2.3", r.DesiredVersion)
		}
	}
	if r.Constraint == "" {
		return nil
	}
	if r.strict, err = semver.NewConstraint(r.Constraint); err != nil {
		return fmt.Errorf("constraint: %q is not one, such as ~1.2 or >=1.2 <3", r.Constraint)
	}
	if r.lenient, err = semver.NewConstraint(r.Constraint); err == nil {
		r.lenient.IncludePrerelease, r.strict.IncludePrerelease = true, r.Prerelease
	}
	return err
}

// matches reports whether a rule is about a release.
func (r *Rule) matches(running *Release) bool {
	return glob(r.Chart, running.Chart) && glob(r.Namespace, running.Namespace)
}

func glob(pattern, name string) bool {
	matched, err := path.Match(pattern, name)
	return pattern == "" || matched && err == nil
}
