package manifests_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/shipped"
)

// variants are kustomizations and the values with which the chart is the same.
var variants = map[string]struct {
	base       string
	components []string
	values     []string
}{
	"the default":                        {base: "default"},
	"the default with monitoring":        {base: "monitoring", values: []string{"serviceMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true"}},
	"no rights":                          {base: "base", values: []string{"rbac.create=false"}},
	"two namespaces":                     {"base", []string{"namespaced"}, []string{teams}},
	"ConfigMaps, too":                    {"default", []string{"configmaps"}, []string{both}},
	"ConfigMaps, too, in two namespaces": {"base", []string{"namespaced", "configmaps"}, []string{teams, both}},
	"ConfigMaps alone":                   {"default", []string{"configmaps-only"}, []string{"storage={configmaps}"}},
	"ConfigMaps alone in two namespaces": {"base", []string{"namespaced", "configmaps-only"}, []string{teams, "storage={configmaps}"}},
	"metadata alone":                     {"default", []string{"payload-never"}, []string{"payload=never"}},
	"metadata alone in two namespaces":   {"base", []string{"namespaced", "payload-never"}, []string{teams, "payload=never"}},
	"a ServiceMonitor":                   {"default", []string{"service-monitor"}, []string{"serviceMonitor.enabled=true"}},
	"a PodMonitor":                       {"default", []string{"pod-monitor"}, []string{"podMonitor.enabled=true"}},
	"rules":                              {"default", []string{"rules"}, []string{"prometheusRule.enabled=true"}},
	"a dashboard":                        {"default", []string{"dashboard"}, []string{"dashboard.enabled=true"}},
	"a network policy":                   {"default", []string{"network-policy"}, []string{policy}},
	"TLS":                                {"default", []string{"tls"}, []string{"tls.enabled=true"}},
	"a ServiceMonitor with TLS":          {"default", []string{"service-monitor", "tls"}, []string{"tls.enabled=true", "serviceMonitor.enabled=true"}},
	"a PodMonitor with TLS":              {"default", []string{"pod-monitor", "tls"}, []string{"tls.enabled=true", "podMonitor.enabled=true"}},
	"two replicas":                       {"default", []string{"two-replicas"}, []string{"replicas=2"}},
	"shards":                             {"default", []string{"shards"}, []string{"shards=2"}},
	"shards in two namespaces":           {"base", []string{"shards", "namespaced"}, []string{teams, "shards=2"}},
	"authorization":                      {"default", []string{"auth"}, []string{"auth.enabled=true"}},
	"a ServiceMonitor with a token":      {"default", []string{"service-monitor", "auth"}, []string{"auth.enabled=true", "serviceMonitor.enabled=true"}},
	"a PodMonitor with a token":          {"default", []string{"pod-monitor", "auth"}, []string{"auth.enabled=true", "podMonitor.enabled=true", token}},
	"tenants who may view":               {"default", []string{"tenant-view"}, []string{"auth.tenantView=true"}},
	"chart versions":                     {"default", []string{"chart-versions"}, []string{versions}},
	"chart versions with a PodMonitor": {
		"default", []string{"pod-monitor", "chart-versions", "chart-versions/pod-monitor"}, []string{versions, "podMonitor.enabled=true"},
	},
	"chart versions with everything that concerns them": {
		"default",
		[]string{"service-monitor", "network-policy", "tls", "auth", "chart-versions", "chart-versions/service-monitor",
			"chart-versions/network-policy", "chart-versions/tls", "chart-versions/auth"},
		[]string{versions, "serviceMonitor.enabled=true", policy, "tls.enabled=true,auth.enabled=true"},
	},
	"everything": {
		"base",
		[]string{"namespaced", "two-replicas", "service-monitor", "rules", "dashboard", "network-policy", "tls", "auth", "tenant-view", "payload-never", "configmaps"},
		[]string{teams, both, "replicas=2", "payload=never", "serviceMonitor.enabled=true", "prometheusRule.enabled=true",
			"dashboard.enabled=true", policy, "tls.enabled=true", "auth.enabled=true,auth.tenantView=true"},
	},
	"everything, the other way round": {
		"default",
		[]string{"shards", "configmaps", "payload-never", "network-policy", "dashboard", "rules", "pod-monitor", "tenant-view", "auth", "tls"},
		[]string{both, "shards=2", "payload=never", "podMonitor.enabled=true", token, "prometheusRule.enabled=true",
			"dashboard.enabled=true", policy, "tls.enabled=true", "auth.enabled=true,auth.tenantView=true"},
	},
}

const (
	teams = "namespaces={team-a,team-b}"
	both  = "storage={secrets,configmaps}"

	versions = "chartVersions.enabled=true"
	open     = "chartVersions.allowUnauthenticated=true"
	policy   = "networkPolicy.enabled=true,networkPolicy.namespaces={monitoring}"
	token    = "podMonitor.authorization.credentials.name=" + name + "-scraper,podMonitor.authorization.credentials.key=token"
)

func TestKustomizeAndChartAgree(t *testing.T) {
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			built := normalized(parse(t, expect.Value(build(t, v.base, v.components...))(t)))
			if len(built) == 0 {
				t.Fatal("there are no objects")
			}
			for _, helm := range []string{"helm3", "helm4"} {
				rendered := normalized(parse(t, expect.Value(template(helm, append(sets(v.values), "--kube-version=1.28.0")...))(t)))
				expect.Equal(t, "kustomize differs from "+helm, rendered, built)
			}
		})
	}
}

func sets(values []string) []string {
	args := make([]string, len(values))
	for i, value := range values {
		args[i] = "--set=" + value
	}
	return args
}

// TestPatches patches components as manifests/README.md says.
func TestPatches(t *testing.T) {
	values := filepath.Join(t.TempDir(), "values.yaml")
	expect.NoError(t, os.WriteFile(values, []byte(`
chartVersions:
  enabled: true
  config:
    repositories: [{name: stable, url: https://charts.example.com}]
    rules: [{chart: legacy-*, ignore: true}]
`), 0o600))
	for heading, tc := range map[string]struct {
		components []string
		values     string
	}{
		"## Shards":                     {[]string{"shards"}, "--set=shards=4"},
		"## Chart versions":             {[]string{"chart-versions"}, "--values=" + values},
		"### Chart versions and shards": {[]string{"shards", "chart-versions"}, "--set=shards=2,chartVersions.enabled=true"},
	} {
		t.Run(heading, func(t *testing.T) {
			readme := string(expect.Value(os.ReadFile(filepath.Join(shipped.Manifests(), "README.md")))(t))
			_, section, _ := strings.Cut(readme, "\n"+heading+"\n")
			_, patches, found := strings.Cut(section, "```yaml\npatches:\n")
			patches, _, closed := strings.Cut(patches, "```")
			if !found || !closed {
				t.Fatal("there is no patch")
			}
			text := shipped.Kustomization("default", tc.components...) + "patches:\n" + patches
			built := expect.Value(run("kubectl", "kustomize", shipped.WriteKustomizations(t, map[string]string{".": text})))(t)
			rendered := expect.Value(template("helm4", tc.values, "--kube-version=1.28.0"))(t)
			expect.Equal(t, "kustomize differs", normalized(parse(t, rendered)), normalized(parse(t, built)))
		})
	}
}

// normalized removes the differences that are intended.
func normalized(objects []unstructured.Unstructured) []unstructured.Unstructured {
	// Helm creates the namespace of a release by a flag.
	objects = slices.DeleteFunc(objects, func(o unstructured.Unstructured) bool { return o.GetKind() == "Namespace" })
	for _, o := range objects {
		// Only what Helm installs may have these labels.
		labels := o.GetLabels()
		delete(labels, "app.kubernetes.io/managed-by")
		delete(labels, "helm.sh/chart")
		o.SetLabels(labels)
		if o.GetKind() == "Deployment" || o.GetKind() == "StatefulSet" {
			// The order of the flags is that of the components.
			slices.SortFunc(args(o), func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
	}
	return objects
}

func args(workload unstructured.Unstructured) []any {
	containers, _, _ := unstructured.NestedFieldNoCopy(workload.Object, "spec", "template", "spec", "containers")
	return containers.([]any)[0].(map[string]any)["args"].([]any)
}

// TestComponentsInTheWrongOrder expects errors where the result would lack a right, a credential or a flag.
func TestComponentsInTheWrongOrder(t *testing.T) {
	const changed = "spec/template/spec/containers/0/args"
	for name, tc := range map[string]struct {
		base       string
		components []string
		reason     string
	}{
		"ConfigMaps before the rights":         {"base", []string{"configmaps", "cluster-wide"}, changed},
		"ConfigMaps alone before the rights":   {"base", []string{"configmaps-only", "cluster-wide"}, changed},
		"metadata alone before the rights":     {"base", []string{"payload-never", "cluster-wide"}, changed},
		"the same with shards":                 {"base", []string{"shards", "payload-never", "cluster-wide"}, changed},
		"ConfigMaps before the namespaces":     {"base", []string{"configmaps", "namespaced"}, changed},
		"metadata alone before the namespaces": {"base", []string{"payload-never", "namespaced"}, changed},
		"ConfigMaps, and then them alone":      {"default", []string{"configmaps", "configmaps-only"}, changed},
		"TLS before a ServiceMonitor":          {"default", []string{"tls", "service-monitor"}, "the component tls must come after service-monitor"},
		"TLS before a PodMonitor":              {"default", []string{"tls", "pod-monitor"}, "the component tls must come after pod-monitor"},
		"tokens before a ServiceMonitor":       {"default", []string{"auth", "service-monitor"}, "the component auth must come after service-monitor"},
		"tokens before a PodMonitor":           {"default", []string{"auth", "pod-monitor"}, "the component auth must come after pod-monitor"},
		"namespaces besides the whole cluster": {"default", []string{"namespaced"}, "ClusterRole"},
		"the whole cluster besides namespaces": {"base", []string{"namespaced", "cluster-wide"}, "ClusterRole"},
		"namespaces before shards":             {"base", []string{"namespaced", "shards"}, changed},
		"TLS before shards":                    {"default", []string{"tls", "shards"}, changed},
		"two replicas before shards":           {"default", []string{"two-replicas", "shards"}, "PodDisruptionBudget"},
		"chart versions' CA before them":       {"default", []string{"tls", "chart-versions/tls", "chart-versions"}, "no resource matches"},
		"chart versions' token before them":    {"default", []string{"auth", "chart-versions/auth", "chart-versions"}, "no resource matches"},
		"chart versions without a policy":      {"default", []string{"chart-versions", "chart-versions/network-policy"}, "no resource matches"},
		"two replicas of shards":               {"default", []string{"shards", "two-replicas"}, "PodDisruptionBudget"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := build(t, tc.base, tc.components...); err == nil || !strings.Contains(err.Error(), tc.reason) {
				t.Errorf("the error does not contain %q: %v", tc.reason, err)
			}
		})
	}
}
