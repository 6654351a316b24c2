package manifests_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// inAll is the place of what holds in the whole cluster.
const inAll = ""

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
		"everything":                         inTeams(rights(all, metadata)),
	} {
		t.Run(variant, func(t *testing.T) {
			v, ok := variants[variant]
			if !ok {
				t.Fatal("there is no such variant")
			}
			got := granted(t, name, parse(t, mustBuild(t, v.base, v.components...)))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRightsInAnotherNamespace puts the exporter into a namespace of the operator's choice, and roles where they
// belong.
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
			text, err := run("kubectl", "kustomize", writeKustomizations(t, tc.kustomizations))
			if err != nil {
				t.Fatal(err)
			}
			rights := granted(t, "monitoring", parse(t, text))
			if diff := cmp.Diff(tc.places, slices.Sorted(maps.Keys(rights))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// granted returns what the objects let the exporter in a namespace do, by namespace. A role that is not bound, or not
// to the exporter alone, is a failure.
func granted(t *testing.T, namespace string, objects []unstructured.Unstructured) map[string][]rbacv1.PolicyRule {
	t.Helper()
	roles := make(map[string][]rbacv1.PolicyRule)
	bound := make(map[string][]rbacv1.PolicyRule)
	for _, o := range objects { // roles come before their bindings
		switch kind := o.GetKind(); {
		case kind == "ClusterRole" || kind == "Role":
			roles[key(o)] = into[rbacv1.Role](t, o).Rules
		case strings.HasSuffix(kind, "RoleBinding"):
			binding := into[rbacv1.RoleBinding](t, o)
			exporter := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: namespace}}
			if diff := cmp.Diff(exporter, binding.Subjects); diff != "" {
				t.Errorf("%s binds others (-want +got):\n%s", key(o), diff)
			}
			role := binding.RoleRef.Kind + " " + o.GetNamespace() + "/" + binding.RoleRef.Name
			bound[o.GetNamespace()] = slices.Concat(bound[o.GetNamespace()], roles[role])
			delete(roles, role)
		}
	}
	if len(roles) > 0 {
		t.Errorf("these roles are bound to nobody: %v", roles)
	}
	return bound
}

func into[T any](t *testing.T, o unstructured.Unstructured) T {
	t.Helper()
	var object T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &object, true); err != nil {
		t.Fatal(err)
	}
	return object
}
