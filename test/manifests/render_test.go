// Package manifests_test checks that the Helm chart and the kustomizations ship the same objects, and their rights.
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
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/shipped"
)

// name is the name of the release, of its namespace, and therefore of all objects.
const name = "helm-state-metrics"

func TestMain(m *testing.M) {
	err := process.Missing("helm3", "helm4", "kubectl")
	// Go caches the result of a test until a file changes that the test itself has looked at. Helm is another process.
	err = errors.Join(err, filepath.WalkDir(shipped.Manifests(), func(_ string, _ fs.DirEntry, err error) error { return err }))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// run runs a program and returns its output. If it fails, the error includes all that it has written.
func run(program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(process.Path(program), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// template renders the chart with more arguments for helm template, for the oldest version of Kubernetes that it
// supports.
func template(helm string, args ...string) (string, error) {
	return run(helm, append([]string{
		"template", name, shipped.Chart(), "--namespace=" + name, "--kube-version=1.25.0", "--set=image.repository=" + name,
	}, args...)...)
}

// build builds a kustomization of the given base and components.
func build(t *testing.T, base string, components ...string) (string, error) {
	t.Helper()
	text := shipped.Kustomization(base, components...)
	return run("kubectl", "kustomize", shipped.WriteKustomizations(t, map[string]string{".": text}))
}

// parse reads objects and sorts them.
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
		if len(object.Object) > 0 { // A document may contain only comments.
			objects = append(objects, object)
		}
	}
	slices.SortFunc(objects, func(a, b unstructured.Unstructured) int { return strings.Compare(key(a), key(b)) })
	return objects
}

func key(object unstructured.Unstructured) string {
	return object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName()
}

//go:generate go test -run ^(TestManifestsAreCurrent|TestValuesAreDocumented)$ -update .

var update = flag.Bool("update", false, "write the generated parts of the kustomizations")

// generated lists the templates and values of the chart that the objects of a kustomization are generated from.
var generated = []struct {
	dir       string
	templates []string
	values    string
}{
	{"base", []string{"serviceaccount", "workload", "service"}, ""},
	{"components/auth", []string{"auth"}, "auth.enabled=true"},
	{"components/chart-versions", []string{"chart-versions/workload"}, versions},
	{"components/chart-versions/auth", []string{"chart-versions/auth"}, versions + "," + open + ",auth.enabled=true"},
	{"components/chart-versions/network-policy", []string{"chart-versions/networkpolicy"}, versions + "," + policy},
	{"components/chart-versions/pod-monitor", []string{"chart-versions/monitors"}, versions + ",podMonitor.enabled=true"},
	{"components/chart-versions/service-monitor", []string{"chart-versions/monitors"}, versions + ",serviceMonitor.enabled=true"},
	{"components/cluster-wide", []string{"rbac"}, ""},
	{"components/namespaced", []string{"rbac"}, "namespaces={placeholder}"},
	{"components/namespaced/binding", []string{"rolebindings"}, "namespaces={placeholder}"},
	{"components/service-monitor", []string{"monitors"}, "serviceMonitor.enabled=true"},
	{"components/pod-monitor", []string{"monitors"}, "podMonitor.enabled=true"},
	{"components/rules", []string{"prometheusrule"}, "prometheusRule.enabled=true"},
	{"components/dashboard", []string{"dashboard"}, "dashboard.enabled=true"},
	{"components/network-policy", []string{"networkpolicy"}, policy},
	{"components/shards", []string{"workload", "service", "poddisruptionbudget"}, "shards=2"},
	{"components/tenant-view", []string{"tenantview"}, "auth.tenantView=true"},
	{"components/tls", []string{"webconfig"}, "tls.enabled=true"},
	{"components/two-replicas", []string{"poddisruptionbudget"}, "replicas=2"},
}

// TestManifestsAreCurrent compares the objects of the kustomizations with the chart. With -update it writes them.
func TestManifestsAreCurrent(t *testing.T) {
	for _, tc := range generated {
		// Components that have more than one pod document that they need this version.
		args := []string{"--set=" + tc.values, "--kube-version=1.28.0"}
		for _, template := range tc.templates {
			args = append(args, "--show-only=templates/"+template+".yaml")
		}
		want := "# Generated from the Helm chart by `make generate`. Do not edit.\n" + plain(expect.Value(template("helm4", args...))(t))
		file := filepath.Join(shipped.Kustomize(), tc.dir, "resources.yaml")
		if *update {
			expect.NoError(t, os.WriteFile(file, []byte(want), 0o644))
			continue
		}
		got := expect.Value(os.ReadFile(file))(t)
		expect.Equal(t, fmt.Sprintf("%s is stale, run make generate", file), want, string(got))
	}
}

// ends matches the ends of documents, with the blank lines that Helm writes there.
var ends = regexp.MustCompile(`\s*\n(---\n|$)`)

// plain removes from a rendered chart what only a release has.
func plain(rendered string) string {
	var kept strings.Builder
	for line := range strings.Lines(ends.ReplaceAllString(rendered, "\n$1")) {
		switch trimmed := strings.TrimSpace(line); {
		case strings.HasPrefix(line, "# Source: "),
			strings.HasPrefix(trimmed, "helm.sh/chart: "),
			strings.HasPrefix(trimmed, "app.kubernetes.io/managed-by: "):
		default:
			kept.WriteString(line)
		}
	}
	return kept.String()
}
