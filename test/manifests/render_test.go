// Package manifests_test checks that the Helm chart and the kustomizations ship the same objects, and what these
// objects allow.
package manifests_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
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
	text, err := template(helm, args...)
	if err != nil {
		t.Fatal(err)
	}
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
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := filepath.Abs(kustomize)
	if err != nil {
		t.Fatal(err)
	}
	for dir, text := range texts {
		dir = filepath.Join(top, dir)
		root, err := filepath.Rel(dir, shipped)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(strings.ReplaceAll(text, "ROOT", root)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

func mustBuild(t *testing.T, base string, components ...string) string {
	t.Helper()
	text, err := build(t, base, components...)
	if err != nil {
		t.Fatal(err)
	}
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
