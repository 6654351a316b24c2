package e2e_test

import (
	"fmt"
	"maps"
	"net/http"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
)

// allow grants a user exactly the given verbs for one resource of a namespace.
func allow(t *testing.T, namespace, user, resource string, verbs ...string) {
	t.Helper()
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: user + "-" + resource},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{resource}, Verbs: verbs}},
	}
	roles := shared.client.RbacV1().Roles(namespace)
	_, err := roles.Create(t.Context(), role, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		if _, err := roles.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
	}
	if _, err := shared.client.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestPayloadsForbidden(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "noget")
	user := "user-of-" + namespace
	allow(t, namespace, user, "secrets", "list", "watch")
	// There are enough of them to exceed the deadline of the test if they were tried one by one.
	withoutPayloads, withPayloads := make(series), make(series)
	add := func(release string) {
		app := write(t, namespace, cluster.Secret(release, 2, "deployed", validPayload()))
		maps.Copy(withPayloads, shown(app, "valid"))
		app.Data = nil // Its payload is unknown.
		maps.Copy(withoutPayloads, shown(app, ""))
	}
	for i := range 6 {
		add(fmt.Sprintf("app-%d", i))
	}
	e := startExporter(t, shared.kubeconfig(t, access{user: user}), "--namespaces="+namespace)
	e.awaitReady(t)

	eventually(t, patience, e.shows(withoutPayloads, namespace))
	eventually(t, patience, e.has(series{"helm_state_metrics_payloads_pending": 6}))
	if e.value(t, `helm_state_metrics_payload_fetches_total{result="forbidden"}`) == 0 {
		t.Error("the forbidden GET is not counted")
	}
	if err := e.says("level=ERROR", "verb=get", "resource=secrets", "namespace="+namespace)(); err != nil {
		t.Error(err)
	}
	// The metadata of new releases is exposed, too.
	add("late")
	eventually(t, patience, e.shows(withoutPayloads, namespace))

	allow(t, namespace, user, "secrets", "list", "watch", "get")
	eventually(t, patience, e.shows(withPayloads, namespace))
	eventually(t, patience, e.has(series{"helm_state_metrics_payloads_pending": 0}))
}

func TestListForbidden(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "nolist")
	user := "user-of-" + namespace
	want := shown(write(t, namespace, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	e := startExporter(t, shared.kubeconfig(t, access{user: user}), "--namespaces="+namespace)

	eventually(t, patience, e.answers("/readyz", http.StatusServiceUnavailable,
		"watch", `secrets in namespace "`+namespace+`"`, "forbidden"))
	eventually(t, patience, e.answers("/metrics", http.StatusServiceUnavailable))
	eventually(t, patience, e.answers("/livez", http.StatusOK))
	eventually(t, patience, e.says("level=ERROR", "verb=", "resource=secrets", "namespace="+namespace, "forbidden"))

	allow(t, namespace, user, "secrets", "list", "watch", "get")
	eventually(t, 2*patience, e.answers("/readyz", http.StatusOK))
	eventually(t, patience, e.shows(want, namespace))
}

func TestListForbiddenInAllNamespaces(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "norole")
	user := "user-of-" + namespace
	// A Role is not enough to watch all namespaces at once.
	allow(t, namespace, user, "secrets", "list", "watch", "get")
	e := startExporter(t, shared.kubeconfig(t, access{user: user}))
	eventually(t, patience, e.answers("/readyz", http.StatusServiceUnavailable, "secrets in all namespaces", "forbidden"))
	eventually(t, patience, e.says("level=ERROR", "verb=", "resource=secrets", "forbidden"))
	eventually(t, patience, e.answers("/metrics", http.StatusServiceUnavailable))
}

func TestOneOfTwoStoragesForbidden(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "half")
	user := "user-of-" + namespace
	allow(t, namespace, user, "secrets", "list", "watch", "get")
	e := startExporter(t, shared.kubeconfig(t, access{user: user}), "--namespaces="+namespace, "--storage=secrets,configmaps")
	eventually(t, patience, e.answers("/readyz", http.StatusServiceUnavailable,
		`configmaps in namespace "`+namespace+`"`, "forbidden"))
	eventually(t, patience, e.answers("/metrics", http.StatusServiceUnavailable))
	allow(t, namespace, user, "configmaps", "list", "watch", "get")
	eventually(t, 2*patience, e.answers("/readyz", http.StatusOK))
}

func TestRolesSufficeForNamedNamespaces(t *testing.T) {
	t.Parallel()
	one, two := newNamespace(t, "role"), newNamespace(t, "role")
	user := "user-of-" + one
	allow(t, one, user, "secrets", "list", "watch", "get")
	allow(t, two, user, "secrets", "list", "watch", "get")
	inOne := shown(write(t, one, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	inTwo := shown(write(t, two, cluster.Secret("app", 1, "failed", validPayload())), "valid")
	e := startExporter(t, shared.kubeconfig(t, access{user: user}), "--namespaces="+one, "--namespaces="+two)
	e.awaitReady(t)
	if err := e.shows(inOne, one)(); err != nil {
		t.Error(err)
	}
	if err := e.shows(inTwo, two)(); err != nil {
		t.Error(err)
	}
}

// TestMetadataAlone needs no verb but list and watch.
func TestMetadataAlone(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "never")
	user := "user-of-" + namespace
	allow(t, namespace, user, "secrets", "list", "watch")
	app := write(t, namespace, cluster.Secret("app", 1, "deployed", validPayload()))
	app.Data = nil
	e := startExporter(t, shared.kubeconfig(t, access{user: user}), "--namespaces="+namespace, "--payload=never")
	e.awaitReady(t)
	eventually(t, patience, e.shows(shown(app, ""), namespace))
	eventually(t, patience, e.has(series{
		"helm_state_metrics_payloads_pending":                                         0,
		`helm_state_metrics_payload_fetches_total{result="forbidden"}`:                0,
		`helm_state_metrics_watch_errors_total{reason="forbidden",storage="secrets"}`: 0,
	}))
}
