package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

// auditPolicy logs all requests about Secrets and ConfigMaps, in which Helm keeps its records, and all requests of
// service accounts, and reviews of tokens and rights. It does not log the content of objects.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: [system:serviceaccounts]
- level: Metadata
  resources:
  - resources: [secrets, configmaps]
  - {group: authentication.k8s.io, resources: [tokenreviews]}
  - {group: authorization.k8s.io, resources: [subjectaccessreviews]}
- level: None
`

func (c *controlPlane) auditLog() string { return filepath.Join(c.dir, "audit.log") }

// auditEvent is a line of the audit log.
type auditEvent struct {
	Stage            string
	Verb             string
	RequestURI       string
	UserAgent        string
	User             struct{ Username string }
	ImpersonatedUser struct{ Username string }
	Annotations      map[string]string
	ObjectRef        struct{ Resource, Namespace, Name string }
}

// auditEvents returns the lines of the audit log that mention a user.
func auditEvents(t *testing.T, user string) []auditEvent {
	t.Helper()
	text := expect.Value(os.ReadFile(shared.auditLog()))(t)
	var events []auditEvent
	// The last line may be incomplete.
	for line := range bytes.Lines(text[:bytes.LastIndexByte(text, '\n')+1]) {
		if !bytes.Contains(line, []byte(user)) {
			continue
		}
		var e auditEvent
		expect.NoError(t, json.Unmarshal(line, &e))
		events = append(events, e)
	}
	return events
}

// requests returns, in order, what one impersonated user has asked of the API server: verb and resource, then the name
// of one object or the selectors for many. A watch counts when it begins.
func requests(t *testing.T, user string) []string {
	t.Helper()
	requests := []string{}
	for _, e := range auditEvents(t, user) {
		if e.ImpersonatedUser.Username != user || e.Verb == "watch" && e.Stage != "ResponseStarted" {
			continue
		}
		if !strings.HasPrefix(e.UserAgent, "helm-state-metrics/") {
			t.Errorf("a request has the User-Agent %q", e.UserAgent)
		}
		uri := expect.Value(url.Parse(e.RequestURI))(t)
		request := fmt.Sprintf("%s %s %s", e.Verb, e.ObjectRef.Resource, e.ObjectRef.Name)
		if e.ObjectRef.Name == "" {
			request += fmt.Sprintf("labels=%s fields=%s", uri.Query().Get("labelSelector"), uri.Query().Get("fieldSelector"))
		}
		requests = append(requests, request)
	}
	return requests
}

// asked returns a check that a user has made exactly the given requests, in any order.
func asked(t *testing.T, user string, want ...string) func() error {
	return func() error {
		t.Helper()
		got := requests(t, user)
		return expect.Same("requests differ", slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got)))
	}
}

// followAll is the request by which the exporter lists and watches the Secrets of a namespace.
const followAll = "watch secrets labels=owner=helm fields=type=helm.sh/release.v1"

func getRevision(revision int) string { return "get secrets " + cluster.RecordName("app", revision) }

// TestRequestsOfALife follows a release from its install to its uninstall, and counts the requests to the API server:
// one WATCH, which begins with the list, and one GET for each revision.
func TestRequestsOfALife(t *testing.T) {
	t.Parallel()
	inBoth(t, "life", "secret", func(t *testing.T, h helm) {
		lazy, never := "lazy-"+h.namespace, "never-"+h.namespace
		admins := []string{administrators}
		e := startExporter(t, shared.kubeconfig(t, access{user: lazy, groups: admins}), "--namespaces="+h.namespace)
		cheap := startExporter(t, shared.kubeconfig(t, access{user: never, groups: admins}), "--namespaces="+h.namespace, "--payload=never")
		e.awaitReady(t)
		cheap.awaitReady(t)

		want := []string{followAll}
		for _, turn := range []struct {
			step  step
			costs []string
		}{
			{does("install app chart:site-settings"), []string{getRevision(1)}},
			{rewrites("test app"), nil},
			{patchLabels("app", 1, `{"status":"failed"}`), nil},
			{patchLabels("app", 1, `{"status":"deployed","team":"shop"}`), nil},
			{does("upgrade app chart:web"), []string{getRevision(2)}},
			{fails("upgrade app chart:web --set broken=true", refusedPort), []string{getRevision(3)}},
			{does("rollback app 1"), []string{getRevision(4)}},
			{does("uninstall app --keep-history"), nil},
			{does("rollback app 4"), []string{getRevision(5)}},
			{does("uninstall app"), nil},
			{does("install app chart:web"), []string{getRevision(1)}},
		} {
			turn.step(t, h)
			want = append(want, turn.costs...)
			eventually(t, patience, e.shows(view{}.series(t, h.labelled(t, h.facts(t))), h.namespace, sizeWhenRead))
			eventually(t, patience, asked(t, lazy, want...))
		}
		eventually(t, patience, asked(t, never, followAll))
	})
}

// TestRequestsOfAStart starts the exporter when a release has several revisions, of which it may read only the newest.
func TestRequestsOfAStart(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "start")
	user := "user-of-" + namespace
	h := newHelm(t, "helm4", namespace, "secret")
	for revision := 1; revision <= 3; revision++ {
		write(t, namespace, cluster.Secret("app", revision, "superseded", validPayload()))
	}
	below := write(t, namespace, cluster.Secret("app", 4, "deployed", validPayload()))
	newest := write(t, namespace, cluster.Secret("app", 5, "failed", validPayload()))
	e := startExporter(t, shared.kubeconfig(t, access{user: user, groups: []string{administrators}}), "--namespaces="+namespace)
	deployed := seriesName("helm_release_deployed_revision", map[string]string{"name": "app", "namespace": namespace})
	want := shown(newest, "valid", 5)
	want[deployed] = 4
	eventually(t, patience, e.shows(want, namespace))
	asking := []string{followAll, getRevision(5)}
	eventually(t, patience, asked(t, user, asking...))

	// The revision below becomes the newest, so it is read.
	deleteRecord("app", 5)(t, h)
	eventually(t, patience, e.shows(shown(below, "valid", 4), namespace))
	asking = append(asking, getRevision(4))
	eventually(t, patience, asked(t, user, asking...))

	// Another record with a name that was read before is another revision.
	want = shown(write(t, namespace, cluster.Secret("app", 5, "failed", validPayload())), "valid", 5)
	want[deployed] = 4
	eventually(t, patience, e.shows(want, namespace))
	asking = append(asking, getRevision(5))
	eventually(t, patience, asked(t, user, asking...))

	// Revision 4 is the newest again, and is not read again. Then a superseded revision becomes the newest.
	deleteRecord("app", 5)(t, h)
	eventually(t, patience, e.shows(shown(below, "valid", 4), namespace))
	write(t, namespace, cluster.Secret("app", 9, "superseded", validPayload()))
	deleteRecord("app", 4)(t, h)
	asking = append(asking, getRevision(9))
	eventually(t, patience, asked(t, user, asking...))
}
