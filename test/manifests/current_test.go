package manifests_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s is stale, run make generate (-want +got):\n%s", file, diff)
		}
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
