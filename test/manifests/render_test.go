// Package manifests_test checks that the Helm chart and the kustomizations ship the same objects, and what these
// objects allow.
package manifests_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

// manifests is the directory of everything that ships.
const manifests = "../../manifests"

var (
	chart     = filepath.Join(manifests, "chart", "helm-state-metrics")
	kustomize = filepath.Join(manifests, "kustomize")
)

// name is that of the release, of its namespace, and so of all objects.
const name = "helm-state-metrics"

func TestMain(m *testing.M) {
	for _, program := range []string{"helm3", "helm4", "kubectl"} {
		if _, err := os.Stat(binary(program)); err != nil {
			fmt.Fprintf(os.Stderr, "bin/%s is missing: run `make test`, which builds it\n", program)
			os.Exit(1)
		}
	}
	// Go caches the outcome of tests, and runs them again only when a file has changed that it saw them look at. It
	// does not see what Helm looks at.
	if err := filepath.WalkDir(manifests, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func binary(program string) string { return filepath.Join("..", "..", "bin", program) }

// run returns what a program writes, standard error included if it fails.
func run(program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(binary(program), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// template renders the chart, with more arguments for helm template, for the oldest Kubernetes that it says it is for.
func template(helm string, args ...string) (string, error) {
	return run(helm, append([]string{"template", name, chart, "--namespace=" + name, "--kube-version=1.25.0"}, args...)...)
}

func mustTemplate(t *testing.T, helm string, args ...string) string {
	t.Helper()
	text := expect.Value(template(helm, args...))(t)
	return text
}

// build builds a kustomization of the given base and components.
func build(t *testing.T, base string, components ...string) (string, error) {
	t.Helper()
	text := "resources: [ROOT/" + base + "]\ncomponents:\n"
	for _, component := range components {
		text += "- ROOT/components/" + component + "\n"
	}
	return run("kubectl", "kustomize", writeKustomizations(t, map[string]string{".": text}))
}

// writeKustomizations writes some, by directory, into a directory that it returns. ROOT stands for the directory of
// those that ship.
func writeKustomizations(t *testing.T, texts map[string]string) string {
	t.Helper()
	// Kustomize takes no absolute paths, and resolves links first.
	top := expect.Value(filepath.EvalSymlinks(t.TempDir()))(t)
	shipped := expect.Value(filepath.Abs(kustomize))(t)
	for dir, text := range texts {
		dir = filepath.Join(top, dir)
		root := expect.Value(filepath.Rel(dir, shipped))(t)
		expect.NoError(t, os.MkdirAll(dir, 0o700))
		expect.NoError(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(strings.ReplaceAll(text, "ROOT", root)), 0o600))
	}
	return top
}

func mustBuild(t *testing.T, base string, components ...string) string {
	t.Helper()
	text := expect.Value(build(t, base, components...))(t)
	return text
}

// parse reads a stream of objects and sorts them.
func parse(t *testing.T, text string) []unstructured.Unstructured {
	t.Helper()
	var objects []unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		var object unstructured.Unstructured
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) > 0 { // a document may hold nothing but comments
			objects = append(objects, object)
		}
	}
	slices.SortFunc(objects, func(a, b unstructured.Unstructured) int { return strings.Compare(key(a), key(b)) })
	return objects
}

func key(object unstructured.Unstructured) string {
	return object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName()
}

//go:generate go test -run ^TestManifestsAreCurrent$ -update .

var update = flag.Bool("update", false, "write the generated parts of the kustomizations anew")

// generated says which templates of the chart, with which values, make the objects of a kustomization.
var generated = []struct {
	dir       string
	templates []string
	values    string
}{
	{"base", []string{"serviceaccount", "deployment", "service"}, ""},
	{"components/cluster-wide", []string{"rbac"}, ""},
	{"components/namespaced/role", []string{"rbac"}, "namespaces={" + placeholder + "}"},
	{"components/service-monitor", []string{"monitors"}, "serviceMonitor.enabled=true"},
	{"components/pod-monitor", []string{"monitors"}, "podMonitor.enabled=true"},
	{"components/rules", []string{"prometheusrule"}, "prometheusRule.enabled=true"},
	{"components/dashboard", []string{"dashboard"}, "dashboard.enabled=true"},
	{"components/network-policy", []string{"networkpolicy"}, "networkPolicy.enabled=true"},
	{"components/tls", []string{"webconfig"}, "tls.enabled=true"},
}

// placeholder is the namespace of what gets another one from whoever uses it.
const placeholder = "placeholder"

// TestManifestsAreCurrent compares the objects of the kustomizations with what the chart says. With -update it writes
// them.
func TestManifestsAreCurrent(t *testing.T) {
	for _, tc := range generated {
		args := []string{"--set=" + tc.values}
		for _, template := range tc.templates {
			args = append(args, "--show-only=templates/"+template+".yaml")
		}
		want := "# Generated from the Helm chart by `make generate`. Do not edit.\n" + plain(mustTemplate(t, "helm4", args...))
		file := filepath.Join(kustomize, tc.dir, "resources.yaml")
		if *update {
			expect.NoError(t, os.WriteFile(file, []byte(want), 0o644))
			continue
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		expect.Equal(t, fmt.Sprintf("%s is stale, run make generate", file), want, string(got))
	}
}

// ends are where the documents of a stream end, with the blank lines that Helm puts there.
var ends = regexp.MustCompile(`\s*\n(---\n|$)`)

// plain leaves out of a rendered chart what only a release has.
func plain(rendered string) string {
	var kept strings.Builder
	for line := range strings.Lines(ends.ReplaceAllString(rendered, "\n$1")) {
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "namespace: "+placeholder,
			strings.HasPrefix(line, "# Source: "),
			strings.HasPrefix(trimmed, "helm.sh/chart: "),
			strings.HasPrefix(trimmed, "app.kubernetes.io/managed-by: "):
		default:
			kept.WriteString(line)
		}
	}
	return kept.String()
}
