package release_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/docs"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

//go:generate go test -run ^TestDependencies$ -update .

var update = flag.Bool("update", false, "rewrite the generated part of docs/dependencies.md")

// linked is a package that is linked into a program.
type linked struct {
	module  string
	imports []string
}

// TestDependencies checks that docs/dependencies.md has a reason for each direct dependency, and no others, and that its
// table is current.
func TestDependencies(t *testing.T) {
	exporter, companion := packages(t, "./cmd/helm-state-metrics"), packages(t, "./cmd/helm-chart-versions")
	all := maps.Clone(exporter)
	maps.Copy(all, companion)
	licenses := make(map[string]string)
	for line := range strings.Lines(command(t, process.Root(), "go", "run", "-C", "image", "./licenses", "-arch", "amd64")) {
		if module, license, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && license != "" {
			licenses[module] = license
		}
	}

	file := filepath.Join(process.Root(), "docs", "dependencies.md")
	want := map[string][]string{"For the image": nil, "For tests": nil, "In the programs": nil}
	var table strings.Builder
	table.WriteString("| module | version | license | exporter | companion | others that come with it |\n|---|---|---|---:|---:|---:|\n")
	for _, m := range direct(t, "go.mod") {
		if count(all, m.Path) == 0 {
			want["For tests"] = append(want["For tests"], m.Path)
			continue
		}
		want["In the programs"] = append(want["In the programs"], m.Path)
		fmt.Fprintf(&table, "| `%s` | %s | %s | %d | %d | %d |\n", m.Path, m.Version, licenses[m.Path+" "+m.Version],
			count(exporter, m.Path), count(companion, m.Path), len(all)-count(all, m.Path)-reachable(all, m.Path))
	}
	for _, m := range direct(t, "image/go.mod") {
		want["For the image"] = append(want["For the image"], m.Path)
	}
	expect.Equal(t, "the reasons in docs/dependencies.md are not those of the direct dependencies", want, reasons(t, file))
	docs.Check(t, *update, docs.Part{File: file, Name: "dependencies", Text: table.String()})
}

// direct returns what a go.mod file requires because the module itself imports it.
func direct(t *testing.T, file string) []struct{ Path, Version string } {
	t.Helper()
	file = filepath.Join(process.Root(), file)
	parsed := expect.Value(modfile.Parse(file, expect.Value(os.ReadFile(file))(t), nil))(t)
	var modules []struct{ Path, Version string }
	for _, r := range parsed.Require {
		if !r.Indirect {
			modules = append(modules, struct{ Path, Version string }(r.Mod))
		}
	}
	slices.SortFunc(modules, func(a, b struct{ Path, Version string }) int { return strings.Compare(a.Path, b.Path) })
	return modules
}

// packages returns what is linked for a pattern, but for the standard library.
func packages(t *testing.T, pattern string) map[string]linked {
	t.Helper()
	all := make(map[string]linked)
	list := command(t, process.Root(), "env", "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "go", "list", "-deps",
		"-f", `{{if not .Standard}}{{.ImportPath}} {{.Module.Path}} {{join .Imports " "}}{{end}}`, pattern)
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		all[fields[0]] = linked{module: fields[1], imports: fields[2:]}
	}
	return all
}

func count(all map[string]linked, module string) int {
	n := 0
	for _, p := range all {
		if p.module == module {
			n++
		}
	}
	return n
}

// reachable counts the packages that would still be linked without a module.
func reachable(all map[string]linked, without string) int {
	seen := make(map[string]bool)
	var visit func(path string)
	visit = func(path string) {
		p, ok := all[path]
		if !ok || seen[path] || p.module == without {
			return
		}
		seen[path] = true
		for _, imported := range p.imports {
			visit(imported)
		}
	}
	for path := range all {
		if strings.Contains(path, "/cmd/") && strings.HasPrefix(path, "github.com/helm-state-metrics/") {
			visit(path)
		}
	}
	return len(seen)
}

// reasons returns the modules in the tables of a file, by section. All cells have a text. The generated table is not
// among them.
func reasons(t *testing.T, file string) map[string][]string {
	t.Helper()
	text := string(expect.Value(os.ReadFile(file))(t))
	before, generated, _ := strings.Cut(text, "<!-- begin generated")
	_, after, _ := strings.Cut(generated, "<!-- end generated")
	found, section := make(map[string][]string), ""
	for line := range strings.Lines(before + after) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = title
		}
		module, cells, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | ")
		if !strings.HasPrefix(line, "| `") || !ok {
			continue
		}
		for cell := range strings.SplitSeq(strings.TrimSuffix(cells, "|"), "|") {
			if strings.TrimSpace(cell) == "" {
				t.Errorf("%s: a cell of %s is empty", file, module)
			}
		}
		found[section] = append(found[section], module)
	}
	return found
}

// TestFuzzTargets checks that docs/fuzzing.md says of each fuzz target what it checks.
func TestFuzzTargets(t *testing.T) {
	var want []string
	for _, file := range expect.Value(filepath.Glob(filepath.Join(process.Root(), "internal", "*", "*_test.go")))(t) {
		for line := range strings.Lines(string(expect.Value(os.ReadFile(file))(t))) {
			if name, ok := strings.CutPrefix(line, "func Fuzz"); ok {
				name, _, _ = strings.Cut(name, "(")
				want = append(want, filepath.Base(filepath.Dir(file))+"/Fuzz"+name)
			}
		}
	}
	slices.Sort(want)
	expect.Equal(t, "docs/fuzzing.md has other targets", want, reasons(t, filepath.Join(process.Root(), "docs", "fuzzing.md"))["Targets"])
}
