package manifests_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/shipped"
)

// TestPodIsConfined checks more than the level "restricted", which the API server enforces.
func TestPodIsConfined(t *testing.T) {
	yes, no := true, false
	found := map[string]int{}
	for _, o := range parse(t, expect.Value(build(t, "default", "tls", "chart-versions"))(t)) {
		found[o.GetKind()]++
		switch o.GetKind() {
		case "ServiceAccount":
			account := into[corev1.ServiceAccount](t, o)
			expect.Equal(t, "every pod of the account gets its token", &no, account.AutomountServiceAccountToken)
		case "Deployment":
			pod := into[appsv1.Deployment](t, o).Spec.Template.Spec
			want := pod
			want.AutomountServiceAccountToken, want.EnableServiceLinks = &no, &no
			want.SecurityContext = &corev1.PodSecurityContext{
				RunAsNonRoot:   &yes,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			}
			want.HostNetwork, want.HostPID, want.HostIPC, want.InitContainers = false, false, false, nil
			want.Containers = []corev1.Container{*pod.Containers[0].DeepCopy()}
			want.Containers[0].SecurityContext = &corev1.SecurityContext{
				AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}
			expect.Equal(t, "the pod is not confined", want, pod)
		}
	}
	if found["ServiceAccount"] != 1 || found["Deployment"] != 2 {
		t.Errorf("the objects are %v", found)
	}
}

// TestRightsOfChartVersions expects that helm-chart-versions has no token, except where the exporter asks for one: then
// that of an account that may do nothing else than scrape it.
func TestRightsOfChartVersions(t *testing.T) {
	scrapes := []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}}
	const account = name + "-chart-versions"
	for values, want := range map[string]struct {
		account, audience string
		token             bool
		rules             []rbacv1.PolicyRule
	}{
		"":                  {},
		"tls.enabled=true":  {},
		"auth.enabled=true": {account: account, token: true, rules: scrapes},
		"auth.enabled=true,auth.audiences={helm-state-metrics}":                               {account: account, audience: name, token: true, rules: scrapes},
		"auth.enabled=true,rbac.create=false":                                                 {account: account, token: true},
		"auth.enabled=true,chartVersions.exporterURLs={https://exporter.example.com/metrics}": {},
	} {
		inBoth(t, func(t *testing.T, helm string) {
			got := want
			got.account, got.audience, got.token, got.rules = "", "", false, nil
			objects := parse(t, expect.Value(template(helm, "--set="+versions+","+open+","+values))(t))
			roles := make(map[string][]rbacv1.PolicyRule)
			for _, o := range objects {
				switch {
				case o.GetKind() == "ClusterRole":
					roles[o.GetName()] = into[rbacv1.ClusterRole](t, o).Rules
				case o.GetKind() == "ClusterRoleBinding" && o.GetName() == account:
					binding := into[rbacv1.ClusterRoleBinding](t, o)
					expect.Equal(t, "it binds others", []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: name}}, binding.Subjects)
					got.rules = roles[binding.RoleRef.Name]
				case o.GetKind() == "Deployment" && o.GetName() == account:
					pod := into[appsv1.Deployment](t, o).Spec.Template.Spec
					expect.Equal(t, "the kubelet mounts a token", new(bool), pod.AutomountServiceAccountToken)
					got.account = pod.ServiceAccountName
					for _, source := range pod.Volumes[0].Projected.Sources {
						if token := source.ServiceAccountToken; token != nil {
							got.token, got.audience = true, token.Audience
						}
					}
				}
			}
			if got.account != want.account || got.audience != want.audience || got.token != want.token {
				t.Errorf("%s: the account and its token are %+v, want %+v", values, got, want)
			}
			expect.Equal(t, values+": the rights differ", want.rules, got.rules)
		})
	}
}

// TestScrapesKeepNamespaces checks for honorLabels, without which all releases had the namespace of the exporter.
func TestScrapesKeepNamespaces(t *testing.T) {
	endpoints, checked := map[string]string{"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}, 0
	for _, o := range parse(t, expect.Value(build(t, "default", "service-monitor", "pod-monitor",
		"chart-versions", "chart-versions/service-monitor", "chart-versions/pod-monitor"))(t)) {
		list, found, err := unstructured.NestedSlice(o.Object, "spec", endpoints[o.GetKind()])
		if err != nil || !found {
			continue
		}
		checked++
		for _, endpoint := range list {
			if endpoint.(map[string]any)["honorLabels"] != true {
				t.Errorf("%s does not honor labels: %v", key(o), endpoint)
			}
		}
	}
	if checked != 4 {
		t.Errorf("there are %d monitors instead of 4", checked)
	}
}

// inAll stands for the whole cluster in place of a namespace.
const inAll = ""

// authorizes is what system:auth-delegator, which every cluster has, grants.
var authorizes = []rbacv1.PolicyRule{
	{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
	{APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"subjectaccessreviews"}, Verbs: []string{"create"}},
}

// TestRights reads the roles that are bound to the exporter.
func TestRights(t *testing.T) {
	secrets, configMaps, all := []string{"secrets"}, []string{"configmaps"}, []string{"secrets", "configmaps"}
	read, metadata := []string{"list", "watch", "get"}, []string{"list", "watch"}
	rights := func(resources, verbs []string) []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: resources, Verbs: verbs}}
	}
	inTeams := func(rules []rbacv1.PolicyRule) map[string][]rbacv1.PolicyRule {
		return map[string][]rbacv1.PolicyRule{"team-a": rules, "team-b": rules}
	}
	for variant, want := range map[string]map[string][]rbacv1.PolicyRule{
		"the default":                        {inAll: rights(secrets, read)},
		"no rights":                          {},
		"ConfigMaps, too":                    {inAll: rights(all, read)},
		"ConfigMaps alone":                   {inAll: rights(configMaps, read)},
		"metadata alone":                     {inAll: rights(secrets, metadata)},
		"two namespaces":                     inTeams(rights(secrets, read)),
		"ConfigMaps, too, in two namespaces": inTeams(rights(all, read)),
		"ConfigMaps alone in two namespaces": inTeams(rights(configMaps, read)),
		"metadata alone in two namespaces":   inTeams(rights(secrets, metadata)),
		"shards":                             {inAll: rights(secrets, read)},
		"authorization":                      {inAll: slices.Concat(rights(secrets, read), authorizes)},
		"tenants who may view":               {inAll: rights(secrets, read)},
		"everything":                         {"team-a": rights(all, metadata), "team-b": rights(all, metadata), inAll: authorizes},
	} {
		t.Run(variant, func(t *testing.T) {
			v, ok := variants[variant]
			if !ok {
				t.Fatal("there is no such variant")
			}
			got := granted(t, name, parse(t, expect.Value(build(t, v.base, v.components...))(t)))
			expect.Equal(t, "the rights differ", want, got)
		})
	}
}

// TestRightsInAnotherNamespace has users put the exporter into another namespace, and roles where they belong.
func TestRightsInAnotherNamespace(t *testing.T) {
	for name, tc := range map[string]struct {
		kustomizations map[string]string
		places         []string
	}{
		"for the whole cluster": {
			map[string]string{".": "namespace: monitoring\nresources: [ROOT/base]\ncomponents: [ROOT/components/cluster-wide]\n"},
			[]string{inAll},
		},
		"for namespaces": {
			map[string]string{
				"exporter": "namespace: monitoring\nresources: [ROOT/base]\n",
				".":        "resources: [exporter]\ncomponents: [ROOT/components/namespaced]\n",
			},
			[]string{"team-a", "team-b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := expect.Value(run("kubectl", "kustomize", shipped.WriteKustomizations(t, tc.kustomizations)))(t)
			rights := granted(t, "monitoring", parse(t, text))
			expect.Equal(t, "the namespaces with rights differ", tc.places, slices.Sorted(maps.Keys(rights)))
		})
	}
}

// granted returns the rules that hold for an exporter, by namespace. All roles must be bound, and to it alone, except
// for those that are for others.
func granted(t *testing.T, namespace string, objects []unstructured.Unstructured) map[string][]rbacv1.PolicyRule {
	t.Helper()
	roles := map[string][]rbacv1.PolicyRule{"ClusterRole /system:auth-delegator": authorizes}
	bound, used := make(map[string][]rbacv1.PolicyRule), map[string]bool{
		"ClusterRole /system:auth-delegator": true, "ClusterRole /" + name + "-scraper": true, "ClusterRole /" + name + "-tenant-view": true,
	}
	for _, o := range objects { // roles come before their bindings
		switch kind := o.GetKind(); {
		case kind == "ClusterRole" || kind == "Role":
			roles[key(o)] = into[rbacv1.Role](t, o).Rules
		case strings.HasSuffix(kind, "RoleBinding"):
			binding := into[rbacv1.RoleBinding](t, o)
			exporter := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: namespace}}
			expect.Equal(t, fmt.Sprintf("%s binds others", key(o)), exporter, binding.Subjects)
			role := "ClusterRole /" + binding.RoleRef.Name
			if binding.RoleRef.Kind == "Role" {
				role = "Role " + o.GetNamespace() + "/" + binding.RoleRef.Name
			}
			bound[o.GetNamespace()] = slices.Concat(bound[o.GetNamespace()], roles[role])
			used[role] = true
		}
	}
	for role := range roles {
		if !used[role] {
			t.Errorf("%s is bound to nobody", role)
		}
	}
	return bound
}

func into[T any](t *testing.T, o unstructured.Unstructured) T {
	t.Helper()
	var object T
	expect.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &object, true))
	return object
}
