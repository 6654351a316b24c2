package e2e_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	rbacapply "k8s.io/client-go/applyconfigurations/rbac/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

// allow grants a user exactly the given verbs for one resource of a namespace. It may be called again with other verbs.
func allow(t *testing.T, namespace, user, resource string, verbs ...string) {
	t.Helper()
	name := user + "-" + resource
	options := metav1.ApplyOptions{FieldManager: "e2e"}
	role := rbacapply.Role(name, namespace).
		WithRules(rbacapply.PolicyRule().WithAPIGroups("").WithResources(resource).WithVerbs(verbs...))
	expect.Value(shared.client.RbacV1().Roles(namespace).Apply(t.Context(), role, options))(t)
	binding := rbacapply.RoleBinding(name, namespace).
		WithSubjects(rbacapply.Subject().WithKind(rbacv1.UserKind).WithAPIGroup(rbacv1.GroupName).WithName(user)).
		WithRoleRef(rbacapply.RoleRef().WithKind("Role").WithAPIGroup(rbacv1.GroupName).WithName(name))
	expect.Value(shared.client.RbacV1().RoleBindings(namespace).Apply(t.Context(), binding, options))(t)
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
	expect.NoError(t, e.says("level=ERROR", "verb=get", "resource=secrets", "namespace="+namespace)())
	e.keepsSecrets(t, namespace, "app-0")
	// The metadata of new releases is exposed, too.
	add("late")
	eventually(t, patience, e.shows(withoutPayloads, namespace))

	allow(t, namespace, user, "secrets", "list", "watch", "get")
	eventually(t, patience, e.shows(withPayloads, namespace))
	eventually(t, patience, e.has(series{"helm_state_metrics_payloads_pending": 0}))
}

// TestForbidden starts exporters that may not watch everything. They have to say so, and to become ready when they may.
func TestForbidden(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before, after string // resources that the user may read in the namespace at first, and later; may be empty
		flags         string // NAMESPACE stands for the namespace
		forbidden     string // what /readyz calls forbidden
	}{
		"a namespace": {"", "secrets", "--namespaces=NAMESPACE", `secrets in namespace "NAMESPACE"`},
		"one of two storages": {
			"secrets", "configmaps", "--namespaces=NAMESPACE --storage=secrets,configmaps", `configmaps in namespace "NAMESPACE"`,
		},
		"all namespaces, for which a Role in one is not enough": {"secrets", "", "", "secrets in all namespaces"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := newNamespace(t, "forbidden")
			user := "user-of-" + namespace
			insert := strings.NewReplacer("NAMESPACE", namespace).Replace
			want := shown(write(t, namespace, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
			if test.before != "" {
				allow(t, namespace, user, test.before, "list", "watch", "get")
			}
			e := startExporter(t, shared.kubeconfig(t, access{user: user}), strings.Fields(insert(test.flags))...)
			eventually(t, patience, e.answers("/readyz", http.StatusServiceUnavailable, "watch", insert(test.forbidden), "forbidden"))
			eventually(t, patience, e.answers("/metrics", http.StatusServiceUnavailable))
			eventually(t, patience, e.answers("/livez", http.StatusOK))
			resource := strings.Fields(test.forbidden)[0]
			eventually(t, patience, e.says("level=ERROR", "verb=", "resource="+resource, "forbidden"))
			if test.after == "" {
				return
			}
			expect.NoError(t, e.says("level=ERROR", "namespace="+namespace, "forbidden")())
			allow(t, namespace, user, test.after, "list", "watch", "get")
			eventually(t, 2*patience, e.answers("/readyz", http.StatusOK))
			eventually(t, patience, e.shows(want, namespace))
		})
	}
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
	expect.NoError(t, e.shows(inOne, one)())
	expect.NoError(t, e.shows(inTwo, two)())
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

// TestRightsAreUsed installs the variants of the chart that grant different rights, runs the exporter with the flags
// and the token of each, and compares its requests with its rights.
func TestRightsAreUsed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		values  string // ONE and TWO stand for the namespaces with releases
		drivers []string
	}{
		"the whole cluster":                   {"", []string{"secret"}},
		"two namespaces":                      {"--set=namespaces={ONE,TWO}", []string{"secret"}},
		"both storages":                       {"--set=storage={secrets,configmaps}", []string{"secret", "configmap"}},
		"ConfigMaps alone, in two namespaces": {"--set=namespaces={ONE,TWO},storage={configmaps}", []string{"configmap"}},
		"metadata alone":                      {"--set=payload=never", []string{"secret"}},
		"metadata of both storages alone, in two namespaces": {"--set=namespaces={ONE,TWO},storage={secrets,configmaps},payload=never", []string{"secret", "configmap"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two, home := newNamespace(t, "one"), newNamespace(t, "two"), newNamespace(t, "rights")
			for _, namespace := range []string{one, two} {
				for _, driver := range test.drivers {
					newHelm(t, "helm4", namespace, driver).run(t, "install by-"+driver+" chart:hook --no-hooks")
				}
			}
			values := strings.NewReplacer("ONE", one, "TWO", two).Replace(test.values)
			newHelm(t, "helm4", home, "secret").run(t, "install app "+exporterChart()+" "+values)
			d := deployed(t, home, "app-helm-state-metrics")
			e := startExporter(t, tokenKubeconfig(t, d), d.Spec.Template.Spec.Containers[0].Args...)
			e.awaitReady(t)
			eventually(t, patience, rightsAreUsed(t, d))
			e.stop(t)
			expect.NoError(t, rightsAreUsed(t, d)()) // Nothing may have been added.
		})
	}
}

// tokenKubeconfig writes a kubeconfig with the rights of a Deployment, for an exporter outside of a container.
func tokenKubeconfig(t *testing.T, d *appsv1.Deployment) string {
	t.Helper()
	return writeKubeconfig(t, access{server: shared.config.Host, ca: shared.config.CAData}, clientcmdapi.AuthInfo{Token: requestToken(t, d)})
}

// rightsAreUsed returns a check that an exporter has used all its rights and has made no other requests.
func rightsAreUsed(t *testing.T, d *appsv1.Deployment) func() error {
	return func() error {
		t.Helper()
		may := granted(t, d)
		// Lists are for API servers that cannot begin a watch with a list.
		maps.DeleteFunc(may, func(right string, _ bool) bool { return strings.HasPrefix(right, "list ") })
		did := make(map[string]bool)
		for _, request := range requestsBy(t, exporterUser(d)) {
			if decision := request.Annotations["authorization.k8s.io/decision"]; decision != "allow" {
				t.Fatalf("the decision on %s is %q", request.RequestURI, decision)
			}
			right := request.Verb + " " + request.ObjectRef.Resource
			if inNamespace := right + " in " + request.ObjectRef.Namespace; !may[right] {
				right = inNamespace
			}
			did[right] = true
		}
		return expect.Same("rights and requests differ", may, did)
	}
}

// granted returns the rights of an exporter's account, such as "list secrets" or "get secrets in team-a".
func granted(t *testing.T, d *appsv1.Deployment) map[string]bool {
	t.Helper()
	rbac := shared.client.RbacV1()
	everywhere := expect.Value(rbac.ClusterRoleBindings().List(t.Context(), metav1.ListOptions{}))(t)
	somewhere := expect.Value(rbac.RoleBindings("").List(t.Context(), metav1.ListOptions{}))(t)
	rights := make(map[string]bool)
	add := func(where string, subjects []rbacv1.Subject, rules func() ([]rbacv1.PolicyRule, error)) {
		account := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: d.Spec.Template.Spec.ServiceAccountName, Namespace: d.Namespace}
		if !slices.Contains(subjects, account) {
			return
		}
		found := expect.Value(rules())(t)
		for _, rule := range found {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					rights[verb+" "+resource+where] = true
				}
			}
		}
	}
	clusterRole := func(name string) ([]rbacv1.PolicyRule, error) {
		role, err := rbac.ClusterRoles().Get(t.Context(), name, metav1.GetOptions{})
		return role.Rules, err
	}
	for _, b := range everywhere.Items {
		add("", b.Subjects, func() ([]rbacv1.PolicyRule, error) { return clusterRole(b.RoleRef.Name) })
	}
	for _, b := range somewhere.Items {
		add(" in "+b.Namespace, b.Subjects, func() ([]rbacv1.PolicyRule, error) {
			if b.RoleRef.Kind == "ClusterRole" {
				return clusterRole(b.RoleRef.Name)
			}
			role, err := rbac.Roles(b.Namespace).Get(t.Context(), b.RoleRef.Name, metav1.GetOptions{})
			return role.Rules, err
		})
	}
	return rights
}

// allowed returns a check that a user has a right, according to the API server.
func allowed(t *testing.T, user, right string) func() error {
	what, namespace, _ := strings.Cut(right, " in ")
	verb, resource, _ := strings.Cut(what, " ")
	return func() error {
		review, err := shared.client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: verb, Resource: resource, Namespace: namespace,
			}},
		}, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			err = fmt.Errorf("%s may not %s", user, right)
		}
		return err
	}
}

// requestsBy returns the requests of a user that impersonates nobody.
func requestsBy(t *testing.T, user string) []auditEvent {
	t.Helper()
	return slices.DeleteFunc(auditEvents(t, user), func(e auditEvent) bool { return e.User.Username != user })
}
