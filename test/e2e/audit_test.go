package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// auditPolicy records who did what to the objects that Helm keeps its records
// in, and no byte of them; and all that service accounts do.
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
- level: None
`

func (c *cluster) auditLog() string { return filepath.Join(c.dir, "audit.log") }

// auditEvent is what the tests look at of a line of the audit log.
type auditEvent struct {
	Stage            string
	Verb             string
	RequestURI       string
	UserAgent        string
	ImpersonatedUser struct{ Username string }
	ObjectRef        struct{ Resource, Namespace, Name string }
}

// requests tells, in order, what one user has asked of the API server: verb
// and resource, then the name of one object or the selectors for many. A watch
// is told of when it begins.
func requests(t *testing.T, user string) []string {
	t.Helper()
	text, err := os.ReadFile(shared.auditLog())
	if err != nil {
		t.Fatal(err)
	}
	// The last line may still be under way.
	text = text[:strings.LastIndexByte(string(text), '\n')+1]
	told := []string{}
	for _, line := range lines(string(text)) {
		if !strings.Contains(line, user) {
			continue
		}
		var e auditEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.ImpersonatedUser.Username != user || e.Verb == "watch" && e.Stage != "ResponseStarted" {
			continue
		}
		if !strings.HasPrefix(e.UserAgent, "helm-state-metrics/") {
			t.Errorf("a request has the User-Agent %q", e.UserAgent)
		}
		uri, err := url.Parse(e.RequestURI)
		if err != nil {
			t.Fatal(err)
		}
		request := fmt.Sprintf("%s %s %s", e.Verb, e.ObjectRef.Resource, e.ObjectRef.Name)
		if e.ObjectRef.Name == "" {
			request += fmt.Sprintf("labels=%s fields=%s", uri.Query().Get("labelSelector"), uri.Query().Get("fieldSelector"))
		}
		told = append(told, request)
	}
	return told
}

// asked is what requests are expected to be, in any order, for eventually.
func asked(t *testing.T, user string, want ...string) func() error {
	return func() error {
		t.Helper()
		got := requests(t, user)
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
			return fmt.Errorf("requests differ (-want +got):\n%s", diff)
		}
		return nil
	}
}
