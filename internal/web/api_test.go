package web_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// answer is what a handler answered.
type answer struct {
	status int
	header http.Header
	body   string
}

func ask(handler http.Handler, method, path string) answer {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(method, path, nil))
	return answer{recorder.Code, recorder.Header(), recorder.Body.String()}
}

func askGzip(handler http.Handler, path string) answer {
	request := httptest.NewRequest(http.MethodGet, path, nil)
	request.Header.Set("Accept-Encoding", "gzip")
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return answer{recorder.Code, recorder.Header(), recorder.Body.String()}
}

func at(hour int) time.Time { return time.Date(2026, 1, 2, hour, 3, 4, 0, time.UTC) }

// known returns a release whose head has been read.
func known(namespace, name string, status release.Status, chart, version string) *release.Release {
	r := unread(namespace, name, status)
	r.Payload = &release.Payload{
		Bytes: 34_567, Read: at(5), ResourceVersion: 11,
		Head: release.Head{
			FirstDeployed: at(1), LastDeployed: at(3), Description: "Upgrade complete",
			Chart: release.Chart{Name: chart, Version: version, AppVersion: "v" + version},
		},
	}
	if status == release.Deployed {
		r.Deployed = r.Newest.Number
	}
	return r
}

func unread(namespace, name string, status release.Status) *release.Release {
	return &release.Release{
		Key: release.Key{Namespace: namespace, Name: name}, Stored: 1,
		Newest: &release.Revision{
			UID: release.ParseUID("uid-" + name), Number: 4, Status: status, Storage: release.Secrets,
			ResourceVersion: 11, Created: release.TimeOf(at(2)), Modified: release.TimeOf(at(4)),
		},
	}
}

func undecodable(namespace, name string) *release.Release {
	r := unread(namespace, name, release.Failed)
	r.Payload = &release.Payload{Bytes: 12, Problem: "gzip", Read: at(5), ResourceVersion: 11}
	return r
}

func several() *fake {
	f := &fake{}
	f.set(
		known("shop", "front", release.Deployed, "web", "1.10.0"),
		known("shop", "cart", release.Failed, "web", "1.9.0"),
		known("payments", "my.app", release.Deployed, "Ledger", "2.0.0"),
		unread("payments", "import", release.PendingInstall),
		undecodable("legacy", "wiki"),
	)
	return f
}

// names lists what an answer of the API lists.
func names(t *testing.T, body string) (names []string, next string) {
	t.Helper()
	var list struct {
		Releases []struct{ Namespace, Name string }
		Continue string
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	for _, r := range list.Releases {
		names = append(names, r.Namespace+"/"+r.Name)
	}
	return names, list.Continue
}

func TestAPIListFilters(t *testing.T) {
	handler := routes(t, several())
	for name, tc := range map[string]struct{ query, want string }{
		"everything, by namespace and name":      {"", "legacy/wiki payments/import payments/my.app shop/cart shop/front"},
		"a namespace":                            {"?namespace=shop", "shop/cart shop/front"},
		"two namespaces":                         {"?namespace=shop&namespace=legacy", "legacy/wiki shop/cart shop/front"},
		"two namespaces, by comma":               {"?namespace=shop,legacy", "legacy/wiki shop/cart shop/front"},
		"a namespace by half its name":           {"?namespace=sho", ""},
		"a status":                               {"?status=failed", "legacy/wiki shop/cart"},
		"two statuses":                           {"?status=failed,pending-install", "legacy/wiki payments/import shop/cart"},
		"a chart":                                {"?chart=web", "shop/cart shop/front"},
		"text in the name of a release":          {"?q=my.app", "payments/my.app"},
		"text in the name of a namespace":        {"?q=PAY", "payments/import payments/my.app"},
		"text in the name of a chart":            {"?q=ledg", "payments/my.app"},
		"text in a version":                      {"?q=1.9", "shop/cart"},
		"several words, each of which must be":   {"?q=shop+1.10", "shop/front"},
		"everything at once":                     {"?q=web&namespace=shop&status=deployed&chart=web", "shop/front"},
		"parameters without a value are ignored": {"?q=&namespace=&status=&chart=&limit=&continue=", "legacy/wiki payments/import payments/my.app shop/cart shop/front"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(handler, http.MethodGet, "/api/v1/releases"+tc.query)
			if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%d %s", got.status, got.header)
			}
			list, next := names(t, got.body)
			if strings.Join(list, " ") != tc.want || next != "" {
				t.Errorf("got %q and %q, want %q", list, next, tc.want)
			}
		})
	}
}

func TestAPIListGoesOnWhereItStopped(t *testing.T) {
	f := several()
	handler := routes(t, f)
	first := ask(handler, http.MethodGet, "/api/v1/releases?limit=2&q=p")
	list, next := names(t, first.body)
	if strings.Join(list, " ") != "payments/import payments/my.app" || next == "" {
		t.Fatalf("got %q and %q", list, next)
	}
	// What came and went meanwhile, the last one listed among it, disturbs nothing.
	f.set(known("payments", "another", release.Deployed, "web", "1.0.0"), known("shop", "zip", release.Deployed, "web", "1.0.0"),
		known("shop", "plain", release.Deployed, "web", "1.0.0"))
	list, next = names(t, ask(handler, http.MethodGet, "/api/v1/releases?limit=2&q=p&continue="+next).body)
	if strings.Join(list, " ") != "shop/plain shop/zip" || next != "" {
		t.Errorf("got %q and %q", list, next)
	}
}

func TestAPIRelease(t *testing.T) {
	f := several()
	r := known("shop", "cart", release.Failed, "web", "1.9.0")
	r.Deployed, r.Stored, r.Shadowed = 3, 2, 1
	r.Payload.ResourceVersion = 10
	older := *r.Newest
	older.Number, older.Status = 3, release.Deployed
	f.details = map[release.Key]release.Detail{r.Key: {Key: r.Key, Shown: r, Revisions: []*release.Revision{r.Newest, &older}}}
	got := ask(routes(t, f), http.MethodGet, "/api/v1/releases/shop/cart")
	want := `{
 "namespace": "shop", "name": "cart", "status": "failed", "revision": 4, "deployedRevision": 3,
 "created": "2026-01-02T02:03:04Z", "modified": "2026-01-02T04:03:04Z",
 "head": "decoded", "headRead": "2026-01-02T05:03:04Z", "modifiedSinceRead": true,
 "chart": "web", "chartVersion": "1.9.0", "appVersion": "v1.9.0",
 "firstDeployed": "2026-01-02T01:03:04Z", "lastDeployed": "2026-01-02T03:03:04Z",
 "description": "Upgrade complete", "payloadBytes": 34567,
 "revisions": [
  {"revision": 4, "status": "failed", "storage": "secrets", "object": "sh.helm.release.v1.cart.v4", "created": "2026-01-02T02:03:04Z", "modified": "2026-01-02T04:03:04Z"},
  {"revision": 3, "status": "deployed", "storage": "secrets", "object": "sh.helm.release.v1.cart.v3", "created": "2026-01-02T02:03:04Z", "modified": "2026-01-02T04:03:04Z"}
 ],
 "notes": [
  "Revision 4 is shown: it has the highest number of the 2 stored in secrets.",
  "1 more revisions are in another storage, and are not shown.",
  "The last operation failed. Revision 3 is still deployed.",
  "The record was written again after its payload was read. The description and the payload's size may be out of date; chart and versions never change."
 ]}`
	if diff := cmp.Diff(parsed(t, want), parsed(t, got.body)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func parsed(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func TestAPITellsHowFarTheHeadIs(t *testing.T) {
	waiting, bare := unread("a", "waiting", release.Deployed), known("a", "b", release.Deployed, "", "")
	bare.Payload.Head.Chart = release.Chart{}
	for name, tc := range map[string]struct {
		release *release.Release
		failure *release.Failure
		never   bool // no payload is ever read
		head    string
		problem string
		chart   string
		note    string
	}{
		"read":             {release: known("a", "b", release.Deployed, "web", "1.0.0"), head: "decoded", chart: "web", note: "only one stored"},
		"not yet read":     {release: waiting, head: "pending", note: "has not been read yet"},
		"never read":       {release: waiting, never: true, head: "not_read", note: "--payload=never"},
		"failing":          {release: waiting, failure: &release.Failure{At: at(1), Error: "connection refused"}, head: "pending", note: "will be tried again; until then helm_release_info and helm_release_updated are absent. The error: connection refused"},
		"not decodable":    {release: undecodable("a", "b"), head: "undecodable", problem: "gzip", note: "cannot be decoded (gzip)"},
		"without metadata": {release: bare, head: "decoded", chart: "MISSING", note: "shown as MISSING"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{details: map[release.Key]release.Detail{{Namespace: "a", Name: "b"}: {
				Shown: tc.release, Revisions: []*release.Revision{tc.release.Newest}, Failure: tc.failure,
			}}}
			handler := routes(t, f)
			if tc.never {
				handler = routesWithoutPayloads(t, f)
			}
			got := ask(handler, http.MethodGet, "/api/v1/releases/a/b")
			var answer struct {
				Head, HeadProblem, HeadError, Chart string
				Notes                               []string
			}
			if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
				t.Fatal(err)
			}
			if answer.Head != tc.head || answer.HeadProblem != tc.problem || answer.Chart != tc.chart || (answer.HeadError != "") != (tc.failure != nil) || !strings.Contains(strings.Join(answer.Notes, "\n"), tc.note) {
				t.Errorf("got %+v", answer)
			}
		})
	}
}

func TestATimeThatJSONHasNoFormForHarmsNobody(t *testing.T) {
	odd := known("shop", "cart", release.Deployed, "web", "1.9.0")
	odd.Newest.Modified = release.TimeOf(time.Date(12_345, 1, 1, 0, 0, 0, 0, time.UTC))
	odd.Payload.Head.FirstDeployed = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)
	odd.Payload.Head.LastDeployed = time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600)).UTC()
	f := &fake{}
	f.set(odd, known("shop", "front", release.Deployed, "web", "1.10.0"))
	handler := routes(t, f)
	if list, _ := names(t, ask(handler, http.MethodGet, "/api/v1/releases").body); len(list) != 2 {
		t.Errorf("got %q", list)
	}
	for _, path := range []string{"/api/v1/releases/shop/cart", "/releases/shop/cart", "/"} {
		if got := ask(handler, http.MethodGet, path); got.status != http.StatusOK || !strings.Contains(got.body, "cart") {
			t.Errorf("%s: %d %q", path, got.status, got.body)
		}
	}
}

func TestAPIListTellsOfProblems(t *testing.T) {
	f := several()
	f.problems = []release.Problem{{Kind: release.NeverListed, Storage: release.Secrets, Err: errAwaited}}
	body := ask(routes(t, f), http.MethodGet, "/api/v1/releases?status=uninstalled").body
	if diff := cmp.Diff(parsed(t, `{"problems":["releases are missing: `+errAwaited.Error()+`"],"releases":[]}`), parsed(t, body)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAPIRefuses(t *testing.T) {
	waiting := &fake{awaited: errAwaited}
	for name, tc := range map[string]struct {
		source       *fake
		method, path string
		status       int
		reason, want string
	}{
		"a status that Helm does not know": {several(), "GET", "/api/v1/releases?status=broken", 400, "invalid", `unknown status "broken"; known are [deployed `},
		"a limit that is not a number":     {several(), "GET", "/api/v1/releases?limit=ten", 400, "invalid", `limit "ten"`},
		"a limit of nothing":               {several(), "GET", "/api/v1/releases?limit=0", 400, "invalid", "limit"},
		"an invalid continue":              {several(), "GET", "/api/v1/releases?continue=%25", 400, "invalid", "continue"},
		"an unknown parameter":             {several(), "GET", "/api/v1/releases?name=cart", 400, "invalid", `unknown parameter "name"; known are [namespace status chart q limit continue]`},
		"a query that is too long":         {several(), "GET", "/api/v1/releases?q=" + strings.Repeat("x", 5_000), 400, "invalid", "the query is longer than 4096 bytes"},
		"more words than anybody types":    {several(), "GET", "/api/v1/releases?q=" + strings.Repeat("x+", 20), 400, "invalid", "q has more than 16 words"},
		"half a parameter":                 {several(), "GET", "/api/v1/releases?status=failed;namespace=shop", 400, "invalid", "invalid query"},
		"an invalid escape":                {several(), "GET", "/api/v1/releases?q=%zz", 400, "invalid", "invalid query"},
		"two limits":                       {several(), "GET", "/api/v1/releases?limit=1&limit=2", 400, "invalid", `parameter "limit" is given more than once`},
		"an unknown release":               {several(), "GET", "/api/v1/releases/shop/nothing", 404, "not_found", "no release shop/nothing: There is no record of it in the secrets of this namespace."},
		"an unknown path":                  {several(), "GET", "/api/v2/releases", 404, "not_found", "/api/v1/releases"},
		"a list before there is one":       {waiting, "GET", "/api/v1/releases", 503, "not_ready", errAwaited.Error()},
		"a release before there is one":    {waiting, "GET", "/api/v1/releases/shop/cart", 503, "not_ready", errAwaited.Error()},
		"a change":                         {several(), "DELETE", "/api/v1/releases/shop/cart", 405, "method_not_allowed", "GET"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(routes(t, tc.source), tc.method, tc.path)
			var answer struct{ Error, Reason string }
			if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
				t.Fatalf("%v in %q", err, got.body)
			}
			if got.status != tc.status || answer.Reason != tc.reason || !strings.Contains(answer.Error, tc.want) {
				t.Errorf("got %d %+v, want %d %s with %q", got.status, answer, tc.status, tc.reason, tc.want)
			}
			if tc.status == http.StatusMethodNotAllowed && got.header.Get("Allow") == "" {
				t.Error("it does not say what is allowed")
			}
		})
	}
}

func TestProblemsAndAbsencesInSentences(t *testing.T) {
	f := &fake{}
	for _, namespace := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		f.problems = append(f.problems,
			release.Problem{Kind: release.WatchDown, Storage: release.Secrets, Namespace: namespace, Err: errors.New("cannot watch " + namespace)},
			release.Problem{Kind: release.PayloadsForbidden, Storage: release.Secrets, Namespace: namespace})
	}
	want := `{"problems":[
  "what is shown may be out of date: cannot watch a", "what is shown may be out of date: cannot watch b",
  "what is shown may be out of date: cannot watch c", "what is shown may be out of date: cannot watch d",
  "what is shown may be out of date: cannot watch e", "2 more watches are down",
  "new payloads in secrets of a, b, c, d, e and 2 more cannot be read, so charts and versions are unknown; grant the verb get"
 ],"releases":[]}`
	if diff := cmp.Diff(parsed(t, want), parsed(t, ask(routes(t, f), http.MethodGet, "/api/v1/releases").body)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	key := release.Key{Namespace: "a", Name: "b"}
	for want, absence := range map[string]release.Absence{
		"--namespaces does not name it":                 {Cause: release.NamespaceNotWatched},
		"--namespaces-denylist names it":                {Cause: release.NamespaceDenied},
		"It is unknown whether":                         {Cause: release.ListFailed, Err: errAwaited},
		"in the secrets or configmaps of this namespac": {Cause: release.NoRecord, Storages: []release.Storage{release.Secrets, release.ConfigMaps}},
	} {
		f.details = map[release.Key]release.Detail{key: {Key: key, Absence: absence}}
		if got := ask(routes(t, f), http.MethodGet, "/api/v1/releases/a/b"); got.status != http.StatusNotFound || !strings.Contains(got.body, want) {
			t.Errorf("%d %s, want %q", got.status, got.body, want)
		}
	}
}
