// Package rules_test has promtool check the alert rules and run their unit tests, the YAML files in this directory.
package rules_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/shipped"
)

var rules = filepath.Join(shipped.Chart(), "files", "rules.yaml")

// run runs promtool. Go caches the result of a test until a file changes that the test itself has looked at.
func run(t *testing.T, command string, files ...string) {
	t.Helper()
	expect.NoError(t, process.Missing("promtool"))
	args := strings.Fields(command)
	for _, file := range append(files, rules) {
		expect.Value(os.Stat(file))(t)
	}
	out, err := exec.CommandContext(t.Context(), process.Path("promtool"), append(args, files...)...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", command, err, out)
	}
}

func TestRulesAreValid(t *testing.T) {
	run(t, "check rules --lint=all --lint-fatal", rules)
}

func TestUnits(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no unit tests: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".yaml"), func(t *testing.T) { run(t, "test rules", file) })
	}
}

// TestMigration records the query of docs/migration.md that has the words of helm-exporter.
func TestMigration(t *testing.T) {
	guide := string(expect.Value(os.ReadFile(filepath.Join(process.Root(), "docs", "migration.md")))(t))
	_, rest, found := strings.Cut(guide, "as `helm_chart_outdated`:\n\n```promql\n")
	query, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("there is no query")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "rules.yaml")
	text := fmt.Sprintf("groups: [{name: migration, rules: [{record: helm_chart_outdated, expr: %q}]}]\n", query)
	expect.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	const test = "migration.yaml"
	expect.NoError(t, os.WriteFile(filepath.Join(dir, test), expect.Value(os.ReadFile(filepath.Join("testdata", test)))(t), 0o600))
	run(t, "test rules", filepath.Join(dir, test))
}

// alert is what the tests read of a rule.
type alert struct {
	Alert       string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text := expect.Value(os.ReadFile(rules))(t)
	var file struct{ Groups []struct{ Rules []alert } }
	expect.NoError(t, yaml.Unmarshal(text, &file))
	var found []alert
	for _, group := range file.Groups {
		found = append(found, group.Rules...)
	}
	return slices.DeleteFunc(found, func(a alert) bool { return a.Alert == "" }) // the others record
}

func TestAlertsSayWhatPeopleNeed(t *testing.T) {
	for _, a := range alerts(t) {
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("the severity of %s is %q", a.Alert, a.Labels["severity"])
		}
		for _, annotation := range []string{"summary", "description"} {
			if a.Annotations[annotation] == "" {
				t.Errorf("%s has no %s", a.Alert, annotation)
			}
		}
		want := "https://github.com/helm-state-metrics/helm-state-metrics/blob/main/docs/runbook.md#" + strings.ToLower(a.Alert)
		expect.Equal(t, fmt.Sprintf("the runbook of %s", a.Alert), want, a.Annotations["runbook_url"])
	}
}

// TestRunbook expects one section for each alert, in the order of the rules.
func TestRunbook(t *testing.T) {
	text := expect.Value(os.ReadFile(filepath.Join(process.Root(), "docs", "runbook.md")))(t)
	var want, got []string
	for _, a := range alerts(t) {
		want = append(want, a.Alert)
	}
	for _, heading := range regexp.MustCompile(`(?m)^### (.+)$`).FindAllSubmatch(text, -1) {
		got = append(got, string(heading[1]))
	}
	expect.Equal(t, "sections of docs/runbook.md", want, got)
}

// TestEveryAlertHasUnitTests looks for a test that names the alert as one that is expected.
func TestEveryAlertHasUnitTests(t *testing.T) {
	files := expect.Value(filepath.Glob("*.yaml"))(t)
	tested := make(map[string]bool)
	for _, file := range files {
		text := expect.Value(os.ReadFile(file))(t)
		for _, match := range regexp.MustCompile(`(?m)^ +- alertname: (\w+)$`).FindAllSubmatch(text, -1) {
			tested[string(match[1])] = true
		}
	}
	for _, a := range alerts(t) {
		if !tested[a.Alert] {
			t.Errorf("no unit test says what %s looks like when it fires", a.Alert)
		}
	}
}
