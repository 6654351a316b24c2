package manifests_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/shipped"
)

// TestValuesAreDocumented compares the table in the README of the chart with values.yaml. With -update it writes it.
func TestValuesAreDocumented(t *testing.T) {
	const begin, end = "<!-- begin generated values -->\n", "<!-- end generated values -->"
	file := filepath.Join(shipped.Chart(), "README.md")
	before, rest, found := strings.Cut(string(expect.Value(os.ReadFile(file))(t)), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no markers for the values", file)
	}
	want := valueTable(t)
	if *update {
		expect.NoError(t, os.WriteFile(file, []byte(before+begin+want+end+after), 0o644))
		return
	}
	expect.Equal(t, fmt.Sprintf("%s is stale, run make generate", file), want, got)
}

// valueTable returns a row for each value with a comment. Every value must have one, or be part of one that has.
func valueTable(t *testing.T) string {
	t.Helper()
	text := string(expect.Value(os.ReadFile(filepath.Join(shipped.Chart(), "values.yaml")))(t))
	values := make(map[string]any)
	expect.NoError(t, yaml.Unmarshal([]byte(text), &values))
	var table strings.Builder
	table.WriteString("| value | default | meaning |\n|---|---|---|\n")
	var path, comment []string
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if words, ok := strings.CutPrefix(trimmed, "#"); ok {
			comment = append(comment, strings.TrimSpace(words))
			continue
		}
		if trimmed != "" {
			key, _, _ := strings.Cut(trimmed, ":")
			path = append(path[:strings.Index(line, trimmed)/2], key)
			if len(comment) > 0 {
				value, found, err := unstructured.NestedFieldNoCopy(values, path...)
				if err != nil || !found {
					t.Fatalf("%s is documented, and is not a value: %v", strings.Join(path, "."), err)
				}
				fmt.Fprintf(&table, "| `%s` | `%s` | %s |\n", strings.Join(path, "."), expect.Value(json.Marshal(value))(t),
					strings.ReplaceAll(strings.Join(comment, " "), "|", `\|`))
				unstructured.RemoveNestedField(values, path...)
			}
		}
		comment = nil
	}
	requireEmpty(t, "", values)
	return table.String()
}

// requireEmpty fails the test if a value is left.
func requireEmpty(t *testing.T, path string, values map[string]any) {
	t.Helper()
	for name, value := range values {
		if group, ok := value.(map[string]any); ok {
			requireEmpty(t, path+name+".", group)
		} else {
			t.Errorf("%s%s has no comment in values.yaml", path, name)
		}
	}
}
