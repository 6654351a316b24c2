// Package shipped finds what is in manifests/, and writes kustomizations as users of it do.
package shipped

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// Manifests returns the path of everything that is shipped.
func Manifests() string { return filepath.Join(process.Root(), "manifests") }

// Chart returns the path of the Helm chart.
func Chart() string { return filepath.Join(Manifests(), "chart", "helm-state-metrics") }

// Kustomize returns the path of the kustomizations.
func Kustomize() string { return filepath.Join(Manifests(), "kustomize") }

// Kustomization returns a kustomization of a base with components, for WriteKustomizations.
func Kustomization(base string, components ...string) string {
	text := "resources: [ROOT/" + base + "]\ncomponents:\n"
	for _, component := range components {
		text += "- ROOT/components/" + component + "\n"
	}
	return text
}

// WriteKustomizations writes kustomizations, by directory, into a new directory, and returns its path. In their texts
// ROOT stands for the directory of the kustomizations that are shipped.
func WriteKustomizations(t testing.TB, texts map[string]string) string {
	t.Helper()
	top := expect.Value(filepath.EvalSymlinks(t.TempDir()))(t) // Kustomize accepts only relative paths without links.
	for dir, text := range texts {
		dir = filepath.Join(top, dir)
		root := expect.Value(filepath.Rel(dir, Kustomize()))(t)
		expect.NoError(t, os.MkdirAll(dir, 0o700))
		expect.NoError(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(strings.ReplaceAll(text, "ROOT", root)), 0o600))
	}
	return top
}
