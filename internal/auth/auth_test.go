package auth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/auth"
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
			reviews: []string{"tenant a", "tenant c", "token tenant-token"},
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

// TestCostOfScrapes counts the requests to the API server of a target that is scraped every 30 seconds.
func TestCostOfScrapes(t *testing.T) {
	for name, c := range map[string]struct {
		query, authorization string
		first                int // reviews of the first scrape
		hour                 int // reviews of an hour, 120 scrapes
	}{
		"everything":       {"", "Bearer platform-token", 2, 2 * 30},
		"one namespace":    {"namespace=a", "Bearer tenant-token", 2, 2 * 30},
		"two namespaces":   {"namespace=a&namespace=b", "Bearer tenant-token", 3, 3 * 30},
		"an invalid token": {"", "Bearer forged", 1, 120},
		"a missing right":  {"namespace=c", "Bearer tenant-token", 2, 30 + 120},
		"no token":         {"", "", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := tenants()
				e := behind(k)
				total := 0
				for i := range 120 {
					first := e.scrape(t.Context(), c.query, c.authorization)
					n := len(k.reviews())
					if i == 0 && n != c.first {
						t.Errorf("%d reviews for the first scrape, want %d", n, c.first)
					}
					total += n
					// Another replica of Prometheus, a second later.
					<-time.After(time.Second)
					second := e.scrape(t.Context(), c.query, c.authorization)
					if extra := k.reviews(); extra != nil || second.code != first.code || second.body != first.body {
						t.Fatalf("%q, then %d %q after %q", first.body, second.code, second.body, extra)
					}
					<-time.After(29 * time.Second)
				}
				if total != c.hour {
					t.Errorf("%d reviews in an hour, want %d", total, c.hour)
				}
			})
		})
	}
}

func TestAnswersExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := tenants()
		e := behind(k)
		after := func(wait time.Duration, code int) {
			t.Helper()
			<-time.After(wait)
			if got := e.scrape(t.Context(), "namespace=a", "Bearer tenant-token"); got.code != code {
				t.Errorf("got %d %q, want %d", got.code, got.body, code)
			}
		}
		after(0, 200)
		k.set(func() { delete(k.rights, "tenant a") })
		after(119*time.Second, 200)
		after(time.Second, 403)
		k.set(func() { k.rights["tenant a"] = authorizationv1.SubjectAccessReviewStatus{Allowed: true} })
		after(9*time.Second, 403)
		after(time.Second, 200)
		k.set(func() { delete(k.tokens, "tenant-token") })
		after(109*time.Second, 200)
		after(time.Second, 401)
		k.set(func() { k.tokens["tenant-token"] = user("tenant") })
		after(9*time.Second, 401)
		after(time.Second, 200)
		// The API server goes away: what is known is used until it expires, and no longer.
		k.set(func() { k.failing["tokenreviews"] = errors.New("connection refused") })
		after(119*time.Second, 200)
		after(time.Second, 503)
		// Errors are not remembered.
		k.set(func() { delete(k.failing, "tokenreviews") })
		after(0, 200)
	})
}

// A right that is checked later does not outlive the answer about its token: groups may have changed.
func TestARightDoesNotOutliveItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := tenants()
		e := behind(k)
		e.scrape(t.Context(), "namespace=a", "Bearer tenant-token")
		<-time.After(100 * time.Second)
		e.scrape(t.Context(), "namespace=b", "Bearer tenant-token")
		k.reviews()
		<-time.After(20 * time.Second)
		e.scrape(t.Context(), "namespace=b", "Bearer tenant-token")
		if diff := cmp.Diff([]string{"tenant b", "token tenant-token"}, k.reviews()); diff != "" {
			t.Errorf("reviews (-want +got):\n%s", diff)
		}
	})
}

// jwt returns a token with the given claims, as JSON.
func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestAnAnswerDoesNotOutliveItsJWT(t *testing.T) {
	for name, c := range map[string]struct {
		token func() string
		want  time.Duration // for how long it is used without a review
	}{
		"expires within two minutes": {func() string { return jwt(fmt.Sprintf(`{"exp":%d}`, time.Now().Unix()+45)) }, 45 * time.Second},
		"expires at a fraction":      {func() string { return jwt(fmt.Sprintf(`{"exp":%d.5}`, time.Now().Unix()+45)) }, 45*time.Second + 500*time.Millisecond},
		"expires later":              {func() string { return jwt(fmt.Sprintf(`{"exp":%d}`, time.Now().Unix()+3600)) }, 2 * time.Minute},
		"expires in another age":     {func() string { return jwt(`{"exp":1e300}`) }, 2 * time.Minute},
		"has expired by our clock":   {func() string { return jwt(`{"exp":1}`) }, 0},
		"expired in another age":     {func() string { return jwt(`{"exp":-1e300}`) }, 0},
		"does not expire":            {func() string { return jwt(`{"sub":"x"}`) }, 2 * time.Minute},
		"has another type of expiry": {func() string { return jwt(`{"exp":"soon"}`) }, 2 * time.Minute},
		"is no JSON":                 {func() string { return jwt(`exp`) }, 2 * time.Minute},
		"is no base64":               {func() string { return "a.?.c" }, 2 * time.Minute},
		"is opaque":                  {func() string { return "opaque" }, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := tenants()
				token := c.token()
				k.tokens[token] = user("tenant")
				e := behind(k)
				reviews := func() int {
					if got := e.scrape(t.Context(), "namespace=a", "Bearer "+token); got.code != 200 {
						t.Errorf("got %d %q", got.code, got.body)
					}
					return len(k.reviews())
				}
				if n := reviews(); n != 2 {
					t.Errorf("%d reviews at first", n)
				}
				if c.want > 0 {
					<-time.After(c.want - time.Millisecond)
					if n := reviews(); n != 0 {
						t.Errorf("%d reviews before it expires", n)
					}
					<-time.After(time.Millisecond)
				}
				if n := reviews(); n != 2 {
					t.Errorf("%d reviews after %s, want 2", n, c.want)
				}
			})
		})
	}
}

func TestConcurrentRequestsShareAReview(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := tenants()
		k.delay = time.Second
		e := behind(k)
		// The first one gives up while its review is under way.
		impatient, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		codes := make([]int, 50)
		var running sync.WaitGroup
		running.Go(func() { e.scrape(impatient, "namespace=a", "Bearer tenant-token") })
		synctest.Wait()
		for i := range codes {
			running.Go(func() { codes[i] = e.scrape(t.Context(), "namespace=a", "Bearer tenant-token").code })
		}
		running.Wait()
		if diff := cmp.Diff(slices.Repeat([]int{200}, len(codes)), codes); diff != "" {
			t.Errorf("codes (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"tenant a", "token tenant-token"}, k.reviews()); diff != "" {
			t.Errorf("reviews (-want +got):\n%s", diff)
		}
	})
}

// TestFlood has a client send a new token every 10 ms for five minutes.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := tenants()
		e := behind(k)
		if got := e.scrape(t.Context(), "namespace=a", "Bearer tenant-token"); got.code != 200 {
			t.Fatalf("got %d %q", got.code, got.body)
		}
		k.set(func() { k.delay = time.Second })
		codes, mu := make(map[int]int), sync.Mutex{}
		longest := time.Duration(0)
		var running sync.WaitGroup
		for i := range 30_000 {
			running.Go(func() {
				began := time.Now()
				got := e.scrape(t.Context(), "", fmt.Sprintf("Bearer forged-%d", i))
				mu.Lock()
				defer mu.Unlock()
				codes[got.code]++
				longest = max(longest, time.Since(began))
			})
			if i%3000 == 2999 { // every 30 seconds
				running.Go(func() {
					began := time.Now()
					if got := e.scrape(t.Context(), "namespace=a", "Bearer tenant-token"); got.code != 200 || time.Since(began) > 2*time.Second {
						t.Errorf("a known client got %d %q after %s", got.code, got.body, time.Since(began))
					}
				})
			}
			<-time.After(10 * time.Millisecond)
		}
		running.Wait()
		if k.most > 9 { // 8, and the known client's
			t.Errorf("%d reviews at once", k.most)
		}
		if codes[401] < 8*290 || codes[401] > 8*310 || codes[401]+codes[503] != 30_000 {
			t.Errorf("got %v", codes)
		}
		if longest > 5*time.Second {
			t.Errorf("a client waited for %s", longest)
		}
	})
}

func TestAHundredNamespacesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := tenants()
		k.delay = 100 * time.Millisecond
		var query []string
		for i := range 100 {
			query = append(query, fmt.Sprintf("namespace=n%02d", i))
		}
		got := behind(k).scrape(t.Context(), strings.Join(query, "&"), "Bearer tenant-token")
		if got.code != 403 || !strings.Contains(got.body, "in namespace n00, n01, n02, n03, n04, n05, n06, n07, n08, n09 and 90 more: grant") {
			t.Errorf("got %d %q", got.code, got.body)
		}
		if n := len(k.reviews()); n != 101 || k.most != 8 {
			t.Errorf("%d reviews, %d at once", n, k.most)
		}
	})
}

func TestAnAPIServerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := tenants()
		k.delay = time.Hour
		began := time.Now()
		got := behind(k).scrape(t.Context(), "", "Bearer tenant-token")
		if took := time.Since(began); got.code != 503 || took != 5*time.Second {
			t.Errorf("got %d %q after %s", got.code, got.body, took)
		}
		synctest.Wait()
		if k.running != 0 {
			t.Error("the review goes on")
		}
	})
}

func TestFailuresAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := tenants()
		k.failing["subjectaccessreviews"] = errors.New("connection refused " + strings.Repeat("x", 5000))
		e := behind(k)
		for range 150 {
			e.scrape(t.Context(), "namespace=a", "Bearer tenant-token")
			<-time.After(time.Second)
		}
		var lines []string
		for line := range strings.Lines(e.log.String()) {
			if !strings.Contains(line, "level=DEBUG") {
				lines = append(lines, line)
			}
		}
		if len(lines) != 3 || !strings.Contains(lines[0], "connection refused") || len(lines[0]) > 1024 {
			t.Errorf("got %d lines: %q", len(lines), lines)
		}
	})
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
	expect := func(allowed, forbidden, invalid, unauthorized, unavailable int) {
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
	expect(0, 0, 0, 0, 0)
	e.scrape(t.Context(), "namespace=a", "Bearer tenant-token")
	e.scrape(t.Context(), "namespace=a", "Bearer tenant-token")
	e.scrape(t.Context(), "namespace=c", "Bearer tenant-token")
	e.scrape(t.Context(), "namespace=%", "Bearer tenant-token")
	e.scrape(t.Context(), "namespace=a", "Bearer forged")
	k.set(func() { k.failing["subjectaccessreviews"] = errors.New("EOF") })
	e.scrape(t.Context(), "namespace=d", "Bearer tenant-token")
	expect(2, 1, 1, 1, 1)
	if problems, err := testutil.GatherAndLint(e.registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// apiServer answers what client-go sends for reviews, over HTTP.
func apiServer(t *testing.T, token, access string) (server *httptest.Server, paths func() []string) {
	var mu sync.Mutex
	var seen []string
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, req.Method+" "+req.URL.Path)
		body := access
		if strings.HasSuffix(req.URL.Path, "/tokenreviews") {
			body = token
		}
		var status metav1.Status
		w.Header().Set("Content-Type", "application/json")
		if err := json.Unmarshal([]byte(body), &status); err == nil && status.Kind == "Status" {
			w.WriteHeader(int(status.Code))
		} else {
			w.WriteHeader(http.StatusCreated)
		}
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

func TestClients(t *testing.T) {
	const (
		valid   = `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":true,"user":{"username":"u"}}}`
		allowed = `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":true}}`
		refused = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"no"}`
	)
	for name, c := range map[string]struct {
		token, access string
		closed        bool
		code          int
		body          string
		paths         []string
	}{
		"allowed": {
			token: valid, access: allowed, code: 200, body: "served",
			paths: []string{"POST /apis/authentication.k8s.io/v1/tokenreviews", "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"},
		},
		"reviews are forbidden": {
			token: valid, access: refused, code: 503, body: "may not create subjectaccessreviews",
			paths: []string{"POST /apis/authentication.k8s.io/v1/tokenreviews", "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"},
		},
		"not an API server": {
			token: "<html>", code: 503, body: "did not answer, or with an error",
			paths: []string{"POST /apis/authentication.k8s.io/v1/tokenreviews"},
		},
		"an empty review": {
			token: `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1"}`, code: 401, body: "rejects",
			paths: []string{"POST /apis/authentication.k8s.io/v1/tokenreviews"},
		},
		"no API server": {closed: true, code: 503, body: "did not answer, or with an error"},
	} {
		t.Run(name, func(t *testing.T) {
			server, paths := apiServer(t, c.token, c.access)
			if c.closed {
				server.Close()
			}
			tokens, access, err := auth.Clients(&rest.Config{Host: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			e := exporter{Handler: auth.New(auth.Config{
				TokenReviews: tokens, SubjectAccessReviews: access,
				Registerer: prometheus.NewPedanticRegistry(), Logger: slog.New(slog.DiscardHandler),
			}).Wrap(http.HandlerFunc(served))}
			got := e.scrape(t.Context(), "", "Bearer x")
			if got.code != c.code || !strings.Contains(got.body, c.body) {
				t.Errorf("got %d %q", got.code, got.body)
			}
			if diff := cmp.Diff(c.paths, paths()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClientsShareALimit(t *testing.T) {
	config := &rest.Config{Host: "https://cluster.invalid", QPS: -1}
	tokens, access, err := auth.Clients(config)
	if err != nil {
		t.Fatal(err)
	}
	type limited interface{ RESTClient() rest.Interface }
	one, two := tokens.(limited).RESTClient().GetRateLimiter(), access.(limited).RESTClient().GetRateLimiter()
	if one == nil || one != two || one.QPS() != 50 {
		t.Errorf("the limits are %v and %v", one, two)
	}
	if config.RateLimiter != nil {
		t.Error("the config of the caller is changed")
	}
	if _, _, err := auth.Clients(&rest.Config{Host: "https://[:1"}); err == nil {
		t.Error("an invalid config is no error")
	}
}

func BenchmarkCached(b *testing.B) {
	// A token of a service account has about 1 KB.
	token := jwt(fmt.Sprintf(`{"exp":%d,"sub":%q}`, time.Now().Add(time.Hour).Unix(), strings.Repeat("x", 700)))
	k := tenants()
	k.tokens[token] = user("platform")
	e := behind(k)
	silent := auth.New(auth.Config{
		TokenReviews: k, SubjectAccessReviews: k, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	}).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	e.Handler = silent
	for name, query := range map[string]string{"everything": "", "namespace": "namespace=a"} {
		b.Run(name, func(b *testing.B) {
			req := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics?"+query, nil)
			req.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				e.ServeHTTP(w, req)
			}
			if w.Code != http.StatusOK {
				b.Fatal(w.Body)
			}
		})
	}
}
