package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"

	"github.com/helm-state-metrics/helm-state-metrics/internal/auth"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

// kubernetes answers reviews. client-go's fake clientset would do so one at a time, under a lock, and without
// the context.
type kubernetes struct {
	mu      sync.Mutex
	tokens  map[string]authenticationv1.TokenReviewStatus        // by token
	rights  map[string]authorizationv1.SubjectAccessReviewStatus // by user, a space, and the namespace or path
	failing map[string]error                                     // by resource
	delay   time.Duration                                        // of each review
	seen    []string                                             // the reviews
	running int                                                  // reviews at this moment
	most    int                                                  // the most that ran at once
	review  *authenticationv1.TokenReviewSpec                    // the last one
	access  *authorizationv1.SubjectAccessReviewSpec             // the last one
}

// ask does what both reviews have in common.
func (k *kubernetes) ask(ctx context.Context, resource, what string) error {
	k.mu.Lock()
	k.seen = append(k.seen, what)
	k.running++
	k.most = max(k.most, k.running)
	err, delay := k.failing[resource], k.delay
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.running--
	}()
	if delay == 0 {
		return err
	}
	select {
	case <-time.After(delay):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reviews returns what was asked since the last call.
func (k *kubernetes) reviews() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := k.seen
	k.seen = nil
	slices.Sort(seen)
	return seen
}

func (k *kubernetes) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *kubernetes) TokenReviews() authenticationclient.TokenReviewInterface { return tokenReviews{k} }

func (k *kubernetes) SubjectAccessReviews() authorizationclient.SubjectAccessReviewInterface {
	return accessReviews{k}
}

type tokenReviews struct{ *kubernetes }

func (k tokenReviews) Create(ctx context.Context, r *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	if err := k.ask(ctx, "tokenreviews", "token "+r.Spec.Token); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	r = r.DeepCopy()
	k.review = &r.Spec
	r.Status = k.tokens[r.Spec.Token]
	return r, nil
}

type accessReviews struct{ *kubernetes }

func (k accessReviews) Create(ctx context.Context, r *authorizationv1.SubjectAccessReview, _ metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error) {
	what := r.Spec.User + " "
	if r.Spec.NonResourceAttributes != nil {
		what += r.Spec.NonResourceAttributes.Path
	}
	if r.Spec.ResourceAttributes != nil {
		what += r.Spec.ResourceAttributes.Namespace
	}
	if err := k.ask(ctx, "subjectaccessreviews", what); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	r = r.DeepCopy()
	k.access = &r.Spec
	r.Status = k.rights[what]
	return r, nil
}

func user(name string, audiences ...string) authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: name}, Audiences: audiences}
}

// tenants is a cluster where platform may read all, and tenant the namespaces a and b.
func tenants() *kubernetes {
	allowed := authorizationv1.SubjectAccessReviewStatus{Allowed: true}
	return &kubernetes{
		tokens: map[string]authenticationv1.TokenReviewStatus{"platform-token": user("platform"), "tenant-token": user("tenant")},
		rights: map[string]authorizationv1.SubjectAccessReviewStatus{
			"platform /metrics": allowed, "platform a": allowed, "tenant a": allowed, "tenant b": allowed,
		},
		failing: map[string]error{},
	}
}

// exporter is a handler behind a filter, with what the filter logs and counts.
type exporter struct {
	http.Handler
	log      *bytes.Buffer
	registry *prometheus.Registry
}

// served answers with the query that it sees, by each way to read it.
func served(w http.ResponseWriter, req *http.Request) {
	_, query, _ := strings.Cut(req.RequestURI, "?")
	if query != req.URL.RawQuery || req.FormValue("namespace") != req.URL.Query().Get("namespace") {
		http.Error(w, "the parsers disagree", http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, "served "+req.URL.RawQuery)
}

func behind(k *kubernetes, audiences ...string) exporter {
	e := exporter{log: new(bytes.Buffer), registry: prometheus.NewPedanticRegistry()}
	e.Handler = auth.New(auth.Config{
		TokenReviews: k, SubjectAccessReviews: k, Audiences: audiences, Registerer: e.registry,
		Logger: slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}).Wrap(http.HandlerFunc(served))
	return e
}

// response is what a client gets.
type response struct {
	code   int
	header http.Header
	body   string
}

// scrape asks for /metrics. The authorization is the whole header.
func (e exporter) scrape(ctx context.Context, query, authorization string) response {
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
	req.URL.RawQuery = query
	req.RequestURI += "?" + query
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, req)
	return response{w.Code, w.Header(), strings.TrimSpace(w.Body.String())}
}

func TestDecisions(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "tokenreviews"}, "", errors.New("RBAC"))
	for name, c := range map[string]struct {
		query, authorization string
		audiences            []string
		change               func(*kubernetes)
		code                 int
		body                 string // in it
		reviews              []string
	}{
		"a right to everything is enough for everything": {
			authorization: "Bearer platform-token",
			code:          200, body: "served", reviews: []string{"platform /metrics", "token platform-token"},
		},
		"a right to everything is not one to a namespace": {
			query: "namespace=b", authorization: "Bearer platform-token",
			code: 403, body: `user "platform" cannot get resource namespaces/metrics in API group "" in namespace b: grant`,
			reviews: []string{"platform b", "token platform-token"},
		},
		"a right to a namespace is not one to everything": {
			authorization: "Bearer tenant-token",
			code:          403, body: `user "tenant" cannot get path /metrics, the releases of all namespaces: grant the verb get on nonResourceURLs`,
			reviews: []string{"tenant /metrics", "token tenant-token"},
		},
		"each namespace is checked": {
			query: "namespace=b&namespace=a", authorization: "Bearer tenant-token",
			code: 200, body: "served namespace=a&namespace=b", reviews: []string{"tenant a", "tenant b", "token tenant-token"},
		},
		"one right of three is missing": {
			query: "namespace=a&namespace=c&namespace=b", authorization: "Bearer tenant-token",
			code: 403, body: "in namespace c: grant", reviews: []string{"tenant a", "tenant b", "tenant c", "token tenant-token"},
		},
		"all missing rights are named": {
			query: "namespace=d&namespace=a&namespace=c", authorization: "Bearer tenant-token",
			code: 403, body: "in namespace c, d: grant", reviews: []string{"tenant a", "tenant c", "tenant d", "token tenant-token"},
		},
		"the scheme is not case-sensitive": {
			query: "namespace=a", authorization: "bearer  tenant-token ",
			code: 200, body: "served", reviews: []string{"tenant a", "token tenant-token"},
		},
		"no token":                  {code: 401, body: "a token is required"},
		"an empty token":            {authorization: "Bearer ", code: 401, body: "a token is required"},
		"a scheme only":             {authorization: "Bearer", code: 401, body: "a token is required"},
		"a password":                {authorization: "Basic dTpw", code: 401, body: "a token is required"},
		"two tokens":                {authorization: "Bearer tenant-token platform-token", code: 401, body: "a token is required"},
		"a token of a megabyte":     {authorization: "Bearer " + strings.Repeat("x", 1<<20), code: 401, body: "a token is required"},
		"an invalid token":          {authorization: "Bearer forged", code: 401, body: "the API server rejects the token", reviews: []string{"token forged"}},
		"an invalid query is first": {query: "namespace=", code: 400, body: `namespace ""`},
		"a token for one of the audiences": {
			query: "namespace=a", authorization: "Bearer tenant-token", audiences: []string{"x", "metrics"},
			change: func(k *kubernetes) { k.tokens["tenant-token"] = user("tenant", "metrics") },
			code:   200, body: "served", reviews: []string{"tenant a", "token tenant-token"},
		},
		"a server that ignores audiences": {
			query: "namespace=a", authorization: "Bearer tenant-token", audiences: []string{"metrics"},
			code: 401, body: `it has to be for one of the audiences ["metrics"]`, reviews: []string{"token tenant-token"},
		},
		"a token for another audience": {
			query: "namespace=a", authorization: "Bearer tenant-token", audiences: []string{"metrics"},
			change: func(k *kubernetes) { k.tokens["tenant-token"] = user("tenant", "vault") },
			code:   401, body: "audiences", reviews: []string{"token tenant-token"},
		},
		"a user of an unauthenticated token": {
			authorization: "Bearer platform-token",
			change: func(k *kubernetes) {
				k.tokens["platform-token"] = authenticationv1.TokenReviewStatus{User: authenticationv1.UserInfo{Username: "platform"}}
			},
			code: 401, body: "rejects", reviews: []string{"token platform-token"},
		},
		"token reviews fail": {
			authorization: "Bearer tenant-token",
			change: func(k *kubernetes) {
				k.failing["tokenreviews"] = errors.New("dial tcp 10.0.0.1:443: connection refused")
			},
			code: 503, body: "cannot check the token: the API server did not answer, or with an error, when asked for tokenreviews.authentication.k8s.io",
			reviews: []string{"token tenant-token"},
		},
		"access reviews fail": {
			query: "namespace=a&namespace=c", authorization: "Bearer tenant-token",
			change: func(k *kubernetes) { k.failing["subjectaccessreviews"] = errors.New("EOF") },
			code:   503, body: `cannot check the rights of user "tenant": the API server did not answer`,
			reviews: []string{"tenant a", "token tenant-token"},
		},
		"the exporter may not review tokens": {
			authorization: "Bearer tenant-token",
			change:        func(k *kubernetes) { k.failing["tokenreviews"] = forbidden },
			code:          503, body: "the exporter may not create tokenreviews.authentication.k8s.io; its service account needs the ClusterRole system:auth-delegator",
			reviews: []string{"token tenant-token"},
		},
		"the exporter may not review access": {
			authorization: "Bearer tenant-token",
			change:        func(k *kubernetes) { k.failing["subjectaccessreviews"] = forbidden },
			code:          503, body: "the exporter may not create subjectaccessreviews.authorization.k8s.io",
			reviews: []string{"tenant /metrics", "token tenant-token"},
		},
		"the exporter's own token has expired": {
			authorization: "Bearer tenant-token",
			change:        func(k *kubernetes) { k.failing["tokenreviews"] = apierrors.NewUnauthorized("expired") },
			code:          503, body: "the API server rejects the exporter's own credentials", reviews: []string{"token tenant-token"},
		},
		"an authorizer that failed": {
			query: "namespace=a", authorization: "Bearer tenant-token",
			change: func(k *kubernetes) {
				k.rights["tenant a"] = authorizationv1.SubjectAccessReviewStatus{EvaluationError: "webhook 10.0.0.1"}
			},
			code: 503, body: `cannot check the rights of user "tenant": the authorizers could not be evaluated`,
			reviews: []string{"tenant a", "token tenant-token"},
		},
		"an authorizer that failed after another allowed": {
			query: "namespace=a", authorization: "Bearer tenant-token",
			change: func(k *kubernetes) {
				k.rights["tenant a"] = authorizationv1.SubjectAccessReviewStatus{Allowed: true, EvaluationError: "webhook"}
			},
			code: 200, body: "served", reviews: []string{"tenant a", "token tenant-token"},
		},
		"an authorizer that failed after another denied": {
			query: "namespace=a", authorization: "Bearer tenant-token",
			change: func(k *kubernetes) {
				k.rights["tenant a"] = authorizationv1.SubjectAccessReviewStatus{Denied: true, EvaluationError: "webhook"}
			},
			code: 403, body: "in namespace a", reviews: []string{"tenant a", "token tenant-token"},
		},
		"allowed and denied at once": {
			query: "namespace=a", authorization: "Bearer tenant-token",
			change: func(k *kubernetes) {
				k.rights["tenant a"] = authorizationv1.SubjectAccessReviewStatus{Allowed: true, Denied: true}
			},
			code: 403, body: "in namespace a", reviews: []string{"tenant a", "token tenant-token"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := tenants()
			if c.change != nil {
				c.change(k)
			}
			e := behind(k, c.audiences...)
			got := e.scrape(t.Context(), c.query, c.authorization)
			if got.code != c.code || !strings.Contains(got.body, c.body) {
				t.Errorf("got %d %q, want %d %q", got.code, got.body, c.code, c.body)
			}
			if diff := cmp.Diff(c.reviews, k.reviews()); diff != "" {
				t.Errorf("reviews (-want +got):\n%s", diff)
			}
			if challenge := got.header.Get("WWW-Authenticate"); (challenge == "Bearer") != (got.code == 401) {
				t.Errorf("challenge %q", challenge)
			}
			if retry := got.header.Get("Retry-After"); (retry != "") != (got.code == 503) {
				t.Errorf("Retry-After %q", retry)
			}
			if strings.Contains(got.body, "10.0.0.1") {
				t.Errorf("%q tells of an address", got.body)
			}
		})
	}
}

func TestConfusedNamespaces(t *testing.T) {
	var many []string
	for i := range 101 {
		many = append(many, fmt.Sprintf("namespace=n%d", i))
	}
	for name, c := range map[string]struct {
		query  string
		served string // "" if it is refused as invalid
		text   string
	}{
		"repeated":                         {"namespace=a&namespace=a", "namespace=a", ""},
		"encoded":                          {"namespace=%61", "namespace=a", ""},
		"with an encoded name":             {"%6eamespace=a", "namespace=a", ""},
		"among other parameters":           {"name%5B%5D=helm_release_info&namespace=a&x=1", "name%5B%5D=helm_release_info&namespace=a&x=1", ""},
		"encoded separators in a value":    {"x=1%26namespace%3Dz&namespace=a", "namespace=a&x=1%26namespace%3Dz", ""},
		"empty":                            {"namespace=", "", `namespace "" is not`},
		"without a value":                  {"namespace", "", `namespace "" is not`},
		"empty after a valid one":          {"namespace=a&namespace=", "", `namespace "" is not`},
		"in upper case":                    {"namespace=A", "", `namespace "A" is not`},
		"a list in one value":              {"namespace=a,b", "", `namespace "a,b" is not`},
		"a subdomain":                      {"namespace=a.b", "", `namespace "a.b" is not`},
		"a pattern":                        {"namespace=*", "", `namespace "*" is not`},
		"with a line break":                {"namespace=a%0A", "", `namespace "a\n" is not`},
		"with a space":                     {"namespace=+a", "", `namespace " a" is not`},
		"with a null byte":                 {"namespace=a%00", "", `namespace "a\x00" is not`},
		"with markup":                      {"namespace=%3Cb%3E", "", `namespace "<b>" is not`},
		"encoded twice":                    {"namespace=%2561", "", `namespace "%61" is not`},
		"in another script":                {"namespace=%D0%B0", "", "namespace \"\u0430\" is not"},
		"longer than a label":              {"namespace=" + strings.Repeat("a", 5000), "", `namespace "` + strings.Repeat("a", 64) + `" is not`},
		"separated by a semicolon":         {"namespace=a;namespace=b", "", "invalid semicolon separator"},
		"a semicolon before it":            {"x=1;namespace=b", "", "invalid semicolon separator"},
		"an escape that is broken":         {"namespace=a&namespace=%zz", "", "invalid URL escape"},
		"a broken escape elsewhere":        {"namespace=a&x=%", "", "invalid URL escape"},
		"more than a hundred":              {strings.Join(many, "&"), "", "more than 100 namespaces"},
		"more than a hundred times, twice": {strings.Repeat("namespace=a&", 100) + "namespace=b", "namespace=a&namespace=b", ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := tenants()
			got := behind(k).scrape(t.Context(), c.query, "Bearer tenant-token")
			if c.served != "" {
				if got.code != 200 || got.body != "served "+c.served {
					t.Errorf("got %d %q, want %q", got.code, got.body, c.served)
				}
				return
			}
			if got.code != 400 || !strings.Contains(got.body, c.text) || len(got.body) > 256 {
				t.Errorf("got %d %q, want %q", got.code, got.body, c.text)
			}
			if reviews := k.reviews(); reviews != nil {
				t.Errorf("it was reviewed: %q", reviews)
			}
		})
	}
}

// Parameters that are not spelled "namespace" are none to the handler, so they are a request for everything.
func TestWhatOnlyLooksLikeANamespaceIsEverything(t *testing.T) {
	for _, query := range []string{"", "?", "&", "Namespace=a", "namespace%00=a", "namespace[]=a", "+namespace=a", "=a"} {
		k := tenants()
		got := behind(k).scrape(t.Context(), query, "Bearer tenant-token")
		if got.code != 403 || !strings.Contains(got.body, "cannot get path /metrics") {
			t.Errorf("%q: got %d %q", query, got.code, got.body)
		}
	}
}

func TestABodyAndAnEarlierParserDoNotCount(t *testing.T) {
	e := behind(tenants())
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		req := httptest.NewRequestWithContext(t.Context(), method, "/metrics?namespace=a&namespace=a", strings.NewReader("namespace=secret"))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Authorization", "Bearer tenant-token")
		req.Form = map[string][]string{"namespace": {"secret"}}
		before := req.URL.String()
		w := httptest.NewRecorder()
		e.ServeHTTP(w, req)
		if got := w.Body.String(); got != "served namespace=a" {
			t.Errorf("%s: got %d %q", method, w.Code, got)
		}
		if req.URL.String() != before {
			t.Errorf("the request of the caller is changed to %s", req.URL)
		}
	}
}

// TestOtherHeadersGiveNoRights sends headers that other servers take for a user.
func TestOtherHeadersGiveNoRights(t *testing.T) {
	ask := func(header http.Header) int {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		req.Header = header
		w := httptest.NewRecorder()
		behind(tenants()).ServeHTTP(w, req)
		return w.Code
	}
	const tenant, platform = "Bearer tenant-token", "Bearer platform-token"
	for _, all := range [][]string{{tenant, platform}, {platform, tenant}, {"Basic cGxhdGZvcm06", platform}, {platform, platform}, {platform, ""}} {
		if code := ask(http.Header{"Authorization": all}); code != 401 {
			t.Errorf("%q: got %d", all, code)
		}
	}
	for _, name := range []string{
		"Impersonate-User", "X-Remote-User", "X-Forwarded-User", "X-Auth-Request-User", "Proxy-Authorization", "X-Authorization", "Cookie", "X-Forwarded-Access-Token",
		"X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Uri", "X-Http-Method-Override", "Impersonate-Group", "X-Remote-Group",
	} {
		for _, value := range []string{"platform", "system:masters", platform, "/livez", ""} {
			if code := ask(http.Header{"Authorization": {tenant}, name: {value}}); code != 403 {
				t.Errorf("%s: %s: got %d with the token of a tenant", name, value, code)
			}
		}
		if code := ask(http.Header{name: {platform}}); code != 401 {
			t.Errorf("%s: got %d without a token", name, code)
		}
	}
}

func TestReviewsCarryTheWholeUser(t *testing.T) {
	k := tenants()
	status := user("tenant", "metrics")
	status.User.UID, status.User.Groups = "7", []string{"system:authenticated", "team"}
	status.User.Extra = map[string]authenticationv1.ExtraValue{"scopes": {"x", "y"}}
	k.tokens["tenant-token"] = status
	e := behind(k, "metrics")
	e.scrape(t.Context(), "namespace=a", "Bearer tenant-token")
	want := authorizationv1.SubjectAccessReviewSpec{
		User: "tenant", UID: "7", Groups: []string{"system:authenticated", "team"},
		Extra: map[string]authorizationv1.ExtraValue{"scopes": {"x", "y"}},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: "get", Version: "v1", Resource: "namespaces", Subresource: "metrics", Namespace: "a", Name: "a",
		},
	}
	if diff := cmp.Diff(&want, k.access); diff != "" {
		t.Errorf("one namespace (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&authenticationv1.TokenReviewSpec{Token: "tenant-token", Audiences: []string{"metrics"}}, k.review); diff != "" {
		t.Errorf("token (-want +got):\n%s", diff)
	}
	e.scrape(t.Context(), "", "Bearer tenant-token")
	want.ResourceAttributes = nil
	want.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: "/metrics", Verb: "get"}
	if diff := cmp.Diff(&want, k.access); diff != "" {
		t.Errorf("everything (-want +got):\n%s", diff)
	}
}

func TestTokensAreNeitherToldNorLogged(t *testing.T) {
	const secret = "a-very-secret-token"
	for name, change := range map[string]func(*kubernetes){
		"valid": func(k *kubernetes) { k.tokens[secret] = user("tenant") },
		"invalid, and the API server repeats it": func(k *kubernetes) {
			k.tokens[secret] = authenticationv1.TokenReviewStatus{Error: "no such token: " + secret}
		},
		"not reviewed, and a proxy repeats it": func(k *kubernetes) { k.failing["tokenreviews"] = errors.New("bad request: " + secret) },
	} {
		t.Run(name, func(t *testing.T) {
			k := tenants()
			change(k)
			e := behind(k)
			for _, authorization := range []string{"Bearer " + secret, "Basic " + secret, secret, "Bearer x " + secret} {
				for _, query := range []string{"", "namespace=a", "namespace=c", "namespace="} {
					if got := e.scrape(t.Context(), query, authorization); strings.Contains(fmt.Sprint(got), secret) {
						t.Errorf("it is in the response %v", got)
					}
				}
			}
			if strings.Contains(e.log.String(), secret) || !strings.Contains(e.log.String(), "Refused a request") {
				t.Errorf("the log is %s", e.log)
			}
		})
	}
}

func TestRefusalsAreLoggedForDebugging(t *testing.T) {
	e := behind(tenants())
	e.scrape(t.Context(), "namespace=c", "Bearer tenant-token")
	for _, want := range []string{"level=DEBUG", "result=forbidden", "user=tenant", "in namespace c"} {
		if !strings.Contains(e.log.String(), want) {
			t.Errorf("no %q in %s", want, e.log)
		}
	}
}

func TestRequestsAreCounted(t *testing.T) {
	k := tenants()
	e := behind(k)
	counts := func(allowed, forbidden, invalid, unauthorized, unavailable int) {
		t.Helper()
		want := fmt.Sprintf(`
# HELP helm_state_metrics_auth_requests_total Requests that the authorization filter let through (allowed) or refused, by result.
# TYPE helm_state_metrics_auth_requests_total counter
helm_state_metrics_auth_requests_total{result="allowed"} %d
helm_state_metrics_auth_requests_total{result="forbidden"} %d
helm_state_metrics_auth_requests_total{result="invalid"} %d
helm_state_metrics_auth_requests_total{result="unauthorized"} %d
helm_state_metrics_auth_requests_total{result="unavailable"} %d
`, allowed, forbidden, invalid, unauthorized, unavailable)
		if err := testutil.GatherAndCompare(e.registry, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	}
	counts(0, 0, 0, 0, 0)
	e.scrape(t.Context(), "namespace=a", "Bearer tenant-token")
	e.scrape(t.Context(), "namespace=a", "Bearer tenant-token")
	e.scrape(t.Context(), "namespace=c", "Bearer tenant-token")
	e.scrape(t.Context(), "namespace=%", "Bearer tenant-token")
	e.scrape(t.Context(), "namespace=a", "Bearer forged")
	k.set(func() { k.failing["subjectaccessreviews"] = errors.New("EOF") })
	e.scrape(t.Context(), "namespace=d", "Bearer tenant-token")
	counts(2, 1, 1, 1, 1)
	if problems, err := testutil.GatherAndLint(e.registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// FuzzFilter checks that no query and no header get a tenant more than the namespaces that are his, however the query is
// read.
func FuzzFilter(f *testing.F) {
	f.Add("namespace=a", "Bearer tenant-token")
	f.Add("namespace=a&namespace=b&name[]=helm_release_info", "bearer  tenant-token")
	f.Add("namespace=a;namespace=c&namespace=%62", "Bearer tenant-token,platform-token")
	f.Add("namespace=a%00&Namespace=c&namespace=", "Basic dGVuYW50OnRva2Vu")
	f.Add("%6eamespace=a&namespace[]=c", "Bearer tenant-token\r\nAuthorization: Bearer platform-token")
	f.Add("", "Bearer tenant-token")
	f.Fuzz(func(t *testing.T, query, authorization string) {
		if strings.Contains(authorization, "platform-token") {
			authorization = "Bearer tenant-token"
		}
		k := tenants()
		r := behind(k).scrape(t.Context(), query, authorization)
		if r.code != http.StatusOK {
			if !slices.Contains([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden}, r.code) {
				t.Fatalf("status %d: %s", r.code, r.body)
			}
			return
		}
		namespaces := url.Values{}
		for part := range strings.FieldsFuncSeq(strings.TrimPrefix(r.body, "served "), func(c rune) bool { return c == '&' || c == ';' }) {
			name, value, _ := strings.Cut(part, "=")
			name, value = expect.Value(url.QueryUnescape(name))(t), expect.Value(url.QueryUnescape(value))(t)
			namespaces.Add(name, value)
		}
		if got := namespaces["namespace"]; len(got) == 0 || slices.ContainsFunc(got, func(n string) bool { return n != "a" && n != "b" }) {
			t.Errorf("%q got the namespaces %q", query, got)
		}
		if asked := k.reviews(); !slices.Contains(asked, "token tenant-token") {
			t.Errorf("%q was not reviewed: %q", authorization, asked)
		}
	})
}
