// Package auth lets only those requests through that Kubernetes allows.
package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apimachinery/pkg/util/validation"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
)

const (
	// maxNamespaces may be asked for at once: each is a review.
	maxNamespaces = reviewBurst
	maxToken      = 32 << 10 // bytes
	maxNamed      = 10       // namespaces, in the text of a refusal

	tokenReviews  = "tokenreviews.authentication.k8s.io"
	accessReviews = "subjectaccessreviews.authorization.k8s.io"
)

// The results of requests.
const (
	resultAllowed      = "allowed"
	resultInvalid      = "invalid"
	resultUnauthorized = "unauthorized"
	resultForbidden    = "forbidden"
	resultUnavailable  = "unavailable"
)

// Config says whom to ask, and for which tokens.
type Config struct {
	TokenReviews         authenticationclient.TokenReviewsGetter
	SubjectAccessReviews authorizationclient.SubjectAccessReviewsGetter
	// Audiences are what a token may be for, one of them. If there are none, it has to be for the API server.
	Audiences  []string
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Filter decides about requests. It is safe for concurrent use.
type Filter struct {
	cfg      Config
	requests *prometheus.CounterVec // by result
	answers  *cache.LRUExpireCache  // of *answer, by key
	reviews  singleflight.Group     // by key
	// The two queues: tokens that were never valid have their own, so that a flood of them does not hold up
	// clients that are known.
	newTokens, known chan struct{}
	turns            [64]chan struct{} // by the first byte of a token's digest
	failure          rate.Sometimes    // is logged
}

// New returns a Filter. It starts nothing.
func New(cfg Config) *Filter {
	f := &Filter{
		cfg: cfg,
		requests: promauto.With(cfg.Registerer).NewCounterVec(prometheus.CounterOpts{
			Name: "helm_state_metrics_auth_requests_total",
			Help: "Requests that the authorization filter let through (allowed) or refused, by result.",
		}, []string{"result"}),
		answers:   cache.NewLRUExpireCache(maxAnswers),
		newTokens: make(chan struct{}, maxReviews), known: make(chan struct{}, maxReviews),
		failure: rate.Sometimes{Interval: time.Minute},
	}
	for i := range f.turns {
		f.turns[i] = make(chan struct{}, maxReviewsOfToken)
	}
	for _, result := range []string{resultAllowed, resultInvalid, resultUnauthorized, resultForbidden, resultUnavailable} {
		f.requests.WithLabelValues(result)
	}
	return f
}

// Wrap returns a handler that calls the given one for requests with a bearer token whose user may get what the
// query asks for: the non-resource URL /metrics, or with the parameter namespace, which may be repeated,
// namespaces/metrics in each of these namespaces. The handler sees the namespaces that were checked, each once,
// and no others. If Kubernetes cannot be asked, requests are refused.
func (f *Filter) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		query, refused := f.check(req)
		if refused == nil {
			f.requests.WithLabelValues(resultAllowed).Inc()
			next.ServeHTTP(w, withQuery(req, query))
			return
		}
		if req.Context().Err() == nil { // otherwise the client has gone away
			f.requests.WithLabelValues(refused.result).Inc()
		}
		f.cfg.Logger.Debug("Refused a request", "result", refused.result, "user", refused.user, "client", req.RemoteAddr, "err", refused.text)
		code := http.StatusServiceUnavailable
		switch refused.result {
		case resultInvalid:
			code = http.StatusBadRequest
		case resultUnauthorized:
			code = http.StatusUnauthorized
			w.Header().Set("WWW-Authenticate", "Bearer")
		case resultForbidden:
			code = http.StatusForbidden
		case resultUnavailable:
			w.Header().Set("Retry-After", "5")
		}
		http.Error(w, refused.text, code)
	})
}

// withQuery returns a request that every parser reads the same query from.
func withQuery(req *http.Request, query url.Values) *http.Request {
	checked, u := *req, *req.URL
	u.RawQuery = query.Encode()
	checked.URL, checked.RequestURI = &u, u.RequestURI()
	checked.Form, checked.PostForm, checked.MultipartForm = nil, nil, nil
	return &checked
}

// refusal is why a request is refused. Its text is for the client, and names neither the token nor addresses of
// the cluster.
type refusal struct{ result, user, text string }

// check returns the query of a request that is allowed, with each namespace once.
func (f *Filter) check(req *http.Request) (url.Values, *refusal) {
	query, namespaces, err := parse(req.URL.RawQuery)
	if err != nil {
		return nil, &refusal{result: resultInvalid, text: err.Error()}
	}
	token := bearer(req.Header)
	if token == "" {
		return nil, &refusal{result: resultUnauthorized, text: `a token is required, in the header "Authorization: Bearer TOKEN"`}
	}
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	defer cancel()
	digest := sha256.Sum256([]byte(token))
	valid, err := f.authenticate(ctx, string(digest[:]), token)
	if err != nil {
		return nil, &refusal{result: resultUnavailable, text: "cannot check the token: " + explain(tokenReviews, err)}
	}
	if !valid.allowed {
		text := "the API server rejects the token"
		if len(f.cfg.Audiences) > 0 {
			text += fmt.Sprintf("; it has to be for one of the audiences %q", f.cfg.Audiences)
		}
		return nil, &refusal{result: resultUnauthorized, text: text}
	}
	user := fmt.Sprintf("%.256s", valid.user.Username)
	missing, err := f.authorize(ctx, string(digest[:]), valid, namespaces)
	if err != nil {
		return nil, &refusal{resultUnavailable, user, fmt.Sprintf("cannot check the rights of user %q: %s", user, explain(accessReviews, err))}
	}
	if len(missing) > 0 {
		return nil, &refusal{resultForbidden, user, forbidden(user, missing)}
	}
	return query, nil
}

// parse reads a query, and the namespaces in it; none means all. A query that another parser may read in another
// way is an error.
func parse(raw string) (url.Values, []string, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("invalid query: %w", err)
	}
	if !query.Has("namespace") {
		return query, nil, nil
	}
	namespaces := slices.Compact(slices.Sorted(slices.Values(query["namespace"])))
	if len(namespaces) > maxNamespaces {
		return nil, nil, fmt.Errorf("more than %d namespaces", maxNamespaces)
	}
	for _, namespace := range namespaces {
		if len(validation.IsDNS1123Label(namespace)) > 0 {
			return nil, nil, fmt.Errorf("namespace %.64q is not the name of a namespace: lower case letters, digits and hyphens, at most 63", namespace)
		}
	}
	query["namespace"] = namespaces
	return query, namespaces, nil
}

// bearer returns the bearer token of a request, "" if there is none, or more than one header that may have it: a
// proxy may read another one.
func bearer(header http.Header) string {
	all := header.Values("Authorization")
	if len(all) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(all[0], " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || len(token) > maxToken || strings.ContainsAny(token, " \t") {
		return ""
	}
	return token
}

// explain tells a client why a review failed, without the API server's own words.
func explain(resource string, err error) string {
	switch {
	case errors.Is(err, errBusy), errors.Is(err, errLate):
		return err.Error()
	case errors.Is(err, errUndecided):
		return errUndecided.Error()
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("the exporter may not create %s; its service account needs the ClusterRole system:auth-delegator", resource)
	case apierrors.IsUnauthorized(err):
		return "the API server rejects the exporter's own credentials"
	}
	return fmt.Sprintf("the API server did not answer, or with an error, when asked for %s; the exporter's log has the cause", resource)
}

// forbidden names the rights that a user lacks.
func forbidden(user string, namespaces []string) string {
	if namespaces[0] == "" {
		return fmt.Sprintf("user %q cannot get path /metrics, the releases of all namespaces: "+
			"grant the verb get on nonResourceURLs /metrics, or ask for single namespaces with ?namespace=NAME", user)
	}
	where := "namespace " + strings.Join(namespaces[:min(len(namespaces), maxNamed)], ", ")
	if n := len(namespaces) - maxNamed; n > 0 {
		where += fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("user %q cannot get resource namespaces/metrics in API group \"\" in %s: grant the verb get on namespaces/metrics there", user, where)
}
