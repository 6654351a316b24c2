// Command licenses writes the licenses of all that is in the programs and in the image to stdout: first a line for each
// module, then each text once. It fails if it does not know a license. It runs in the directory of package image.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

func main() {
	arch := flag.String("arch", runtime.GOARCH, "architecture of the programs")
	flag.Parse()
	all := newCollection()
	err := errors.Join(
		all.goItself(),
		all.packages("..", *arch, "./cmd/..."),
		all.packages(".", *arch, "golang.org/x/crypto/x509roots/fallback/bundle"), // the certificates
	)
	if err == nil {
		err = all.write(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

// collection holds the licenses of each module, and the files of each text.
type collection struct {
	licenses map[string][]string // by module and version
	sources  map[string][]string // by text
}

func newCollection() *collection {
	return &collection{licenses: make(map[string][]string), sources: make(map[string][]string)}
}

// named are the files that have licenses, and what Apache-2.0 asks to be passed on. LICENSE.docs is about documentation.
var named = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|copyright|notice)s?([-.]|$)`)
var skipped = regexp.MustCompile(`(?i)\.(go|docs)$`)

// accepted returns the licenses that ask for no more than that their text is passed on.
func accepted() []string { return []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"} }

func (c *collection) goItself() error {
	out, err := run(".", nil, "env", "GOVERSION", "GOROOT")
	version, root, _ := strings.Cut(strings.TrimSpace(out), "\n")
	if err != nil {
		return err
	}
	return c.directory("Go "+strings.TrimPrefix(version, "go"), "", root)
}

// packages adds what is linked for some packages of a module: the texts beside each of them and in the directories above.
func (c *collection) packages(dir, arch string, patterns ...string) error {
	const format = "{{if not .Standard}}{{.Module.Path}} {{.Module.Version}}\t{{.Module.Dir}}\t{{.Dir}}{{end}}"
	out, err := run(dir, []string{"GOOS=linux", "GOARCH=" + arch, "CGO_ENABLED=0"}, append([]string{"list", "-deps", "-f", format}, patterns...)...)
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(out) {
		module, dirs, _ := strings.Cut(strings.TrimSpace(line), "\t")
		root, at, _ := strings.Cut(dirs, "\t")
		for ; !seen[at]; at = filepath.Dir(at) {
			seen[at] = true
			within, err := filepath.Rel(root, at)
			if err == nil {
				err = c.directory(strings.TrimSpace(module), filepath.ToSlash(within), at)
			}
			if err != nil {
				return err
			}
			if at == root {
				break
			}
		}
	}
	return nil
}

// directory adds the texts in a directory of a module.
func (c *collection) directory(module, within, dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if c.licenses[module] == nil {
		c.licenses[module] = []string{} // write wants some
	}
	for _, file := range files {
		if file.Type()&fs.ModeType != 0 || !named.MatchString(file.Name()) || skipped.MatchString(file.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return err
		}
		source := strings.TrimSpace(module + " " + filepath.ToSlash(filepath.Join(within, file.Name())))
		text = bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r"), nil))
		c.sources[string(text)] = append(c.sources[string(text)], source)
		if strings.HasPrefix(strings.ToLower(file.Name()), "notice") {
			continue
		}
		found := licensecheck.Scan(text)
		for _, match := range found.Match {
			if !slices.Contains(accepted(), match.ID) {
				return fmt.Errorf("%s has the license %s, which is not among those that are accepted", source, match.ID)
			}
			c.licenses[module] = append(c.licenses[module], match.ID)
		}
		if len(found.Match) == 0 || found.Percent < 75 {
			return fmt.Errorf("%s is not a license that is known: %.0f%% of it are recognized", source, found.Percent)
		}
	}
	return nil
}

func (c *collection) write(w io.Writer) error {
	var b strings.Builder
	b.WriteString("Licenses of helm-state-metrics and helm-chart-versions, of what is linked into them, and of the certificates in the image.\n\n")
	for _, module := range slices.Sorted(maps.Keys(c.licenses)) {
		licenses := slices.Compact(slices.Sorted(slices.Values(c.licenses[module])))
		if len(licenses) == 0 {
			return fmt.Errorf("%s has no license", module)
		}
		fmt.Fprintf(&b, "%s: %s\n", module, strings.Join(licenses, " AND "))
	}
	texts := make(map[string]string) // by their sources
	for text, sources := range c.sources {
		slices.Sort(sources)
		texts[strings.Join(sources, "\n")] = text
	}
	for _, sources := range slices.Sorted(maps.Keys(texts)) {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), sources, texts[sources])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func run(dir string, env []string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), env...), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return string(out), nil
}
