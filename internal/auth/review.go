package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	// allowedFor is how long a valid token and a right are remembered, and so how long either may outlive its
	// revocation. A kubelet remembers them for 2 and 5 minutes.
	allowedFor = 2 * time.Minute
	// refusedFor is how long the opposite is remembered. A kubelet remembers a missing right for 30 seconds; a
	// person who has just granted one waits less here.
	refusedFor = 10 * time.Second
	// knownFor is how long a token that was valid takes precedence over tokens that never were.
	knownFor = 10 * time.Minute
	// maxAnswers is how many answers are kept. At 50 new ones per second it takes 80 seconds to displace one that
	// is in use.
	maxAnswers = 4096

	// reviewsPerSecond and reviewBurst limit the requests to the API server, whatever clients send.
	reviewsPerSecond = 50
	reviewBurst      = 100
	// maxReviews is how many reviews of each queue are under way at once, placeTimeout how long one waits for its
	// turn, and timeout how long it may take with that, and how long a client waits for all of its reviews.
	maxReviews = 8
	// maxReviewsOfToken is how many of the rights of one token are.
	maxReviewsOfToken = 2
	placeTimeout      = 3 * time.Second
	timeout           = 5 * time.Second
)

var (
	errBusy      = errors.New("too many reviews are waiting")
	errLate      = errors.New("there was no answer in time: too many reviews are waiting, or the API server is slow")
	errUndecided = errors.New("the authorizers could not be evaluated")
)

// Clients returns the two clients that Config wants. They share one limit of requests per second.
func Clients(config *rest.Config) (authenticationclient.TokenReviewsGetter, authorizationclient.SubjectAccessReviewsGetter, error) {
	config = rest.CopyConfig(config)
	config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(reviewsPerSecond, reviewBurst)
	authentication, err := authenticationclient.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("authentication client for %s: %w", config.Host, err)
	}
	authorization, err := authorizationclient.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("authorization client for %s: %w", config.Host, err)
	}
	return authentication, authorization, nil
}

// answer is what Kubernetes said of a token or a right. Its key is the SHA-256 of the token; for a right a slash
// follows, and the namespace if it is not all of them.
type answer struct {
	allowed bool
	user    authenticationv1.UserInfo // whose token it is, if it is valid
	until   time.Time                 // it is not used afterwards
}

func (a *answer) isFresh() bool { return a != nil && time.Now().Before(a.until) }

// authenticate returns the answer about a token, by a TokenReview if there is none yet.
func (f *Filter) authenticate(ctx context.Context, digest, token string) (*answer, error) {
	last := f.last(digest)
	if last.isFresh() {
		return last, nil
	}
	queue := f.newTokens
	if last != nil && last.allowed {
		queue = f.known
	}
	return f.review(ctx, digest, func(ctx context.Context) (*answer, error) {
		began := time.Now()
		review, err := f.cfg.TokenReviews.TokenReviews().Create(ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: f.cfg.Audiences},
		}, metav1.CreateOptions{})
		if err != nil {
			f.logFailure(err, token)
			return nil, err
		}
		// A server that ignores audiences returns none.
		forAudience := len(f.cfg.Audiences) == 0 || slices.ContainsFunc(review.Status.Audiences, func(audience string) bool {
			return slices.Contains(f.cfg.Audiences, audience)
		})
		if !review.Status.Authenticated || !forAudience {
			f.cfg.Logger.Debug("The API server rejects a token", "err", truncate(review.Status.Error, token))
			return &answer{until: began.Add(refusedFor)}, nil
		}
		return &answer{true, review.Status.User, began.Add(lifetime(token, began))}, nil
	}, queue)
}

// lifetime returns for how long a token that is valid now may be remembered: not beyond its expiry if it is a
// JWT. The API server has verified what it says.
func lifetime(token string, now time.Time) time.Duration {
	var claims struct {
		Expiry *float64 `json:"exp"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return allowedFor
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.Expiry == nil {
		return allowedFor
	}
	left := *claims.Expiry - float64(now.UnixMicro())/1e6
	return time.Duration(max(0, min(left, allowedFor.Seconds())) * float64(time.Second))
}

// authorize returns which of the namespaces the user of a token has no right to; no namespaces means all of
// /metrics, and if that is missing "" is returned.
func (f *Filter) authorize(ctx context.Context, digest string, valid *answer, namespaces []string) (missing []string, err error) {
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	for _, namespace := range namespaces {
		key := digest + "/" + namespace
		a := f.last(key)
		if !a.isFresh() {
			// Few rights of one token are reviewed at a time, so that a client that asks for ever more namespaces does
			// not fill the queue of all.
			turns := f.turns[int(key[0])%len(f.turns)]
			if a, err = f.review(ctx, key, func(ctx context.Context) (*answer, error) {
				return f.reviewAccess(ctx, valid, namespace)
			}, turns, f.known); err != nil {
				return nil, err
			}
		}
		if !a.allowed {
			missing = append(missing, namespace)
		}
	}
	return missing, nil
}

// reviewAccess asks by a SubjectAccessReview. The answer does not outlive that about the token, so that a change
// of the user's groups counts as soon as the token is reviewed again.
func (f *Filter) reviewAccess(ctx context.Context, valid *answer, namespace string) (*answer, error) {
	began := time.Now()
	spec := authorizationv1.SubjectAccessReviewSpec{
		User: valid.user.Username, Groups: valid.user.Groups, UID: valid.user.UID,
		Extra: make(map[string]authorizationv1.ExtraValue, len(valid.user.Extra)),
	}
	for key, value := range valid.user.Extra {
		spec.Extra[key] = authorizationv1.ExtraValue(value)
	}
	if namespace == "" {
		spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: "/metrics", Verb: "get"}
	} else {
		spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
			Verb: "get", Version: "v1", Resource: "namespaces", Subresource: "metrics", Namespace: namespace, Name: namespace,
		}
	}
	review, err := f.cfg.SubjectAccessReviews.SubjectAccessReviews().Create(ctx,
		&authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	if err == nil && !review.Status.Allowed && !review.Status.Denied && review.Status.EvaluationError != "" {
		err = fmt.Errorf("%w: %s", errUndecided, review.Status.EvaluationError)
	}
	if err != nil {
		f.logFailure(err, "")
		return nil, err
	}
	a := &answer{allowed: review.Status.Allowed && !review.Status.Denied, until: began.Add(refusedFor)}
	if a.allowed {
		a.until = began.Add(allowedFor)
	}
	if valid.until.Before(a.until) {
		a.until = valid.until
	}
	return a, nil
}

// last returns the last answer of a key, which may not be fresh, nil if there is none.
func (f *Filter) last(key string) *answer {
	a, ok := f.answers.Get(key)
	if !ok {
		return nil
	}
	return a.(*answer)
}

// review asks Kubernetes when it has a place in all queues, once for all requests that need the same answer. It goes on,
// and keeps its places, when the request that needed it first ends. Errors are not remembered.
func (f *Filter) review(ctx context.Context, key string, ask func(context.Context) (*answer, error), queues ...chan struct{}) (*answer, error) {
	result := f.reviews.DoChan(key, func() (any, error) {
		if a := f.last(key); a.isFresh() { // another request's review has just ended
			return a, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		late := time.After(placeTimeout)
		for _, queue := range queues {
			select {
			case queue <- struct{}{}:
				defer func() { <-queue }()
			case <-late:
				f.logFailure(errBusy, "")
				return nil, errBusy
			}
		}
		a, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		f.answers.Add(key, a, knownFor)
		return a, nil
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*answer), nil
	case <-ctx.Done():
		return nil, f.late(ctx)
	}
}

// late returns why a client is no longer waited for: because it has gone, or because it has waited too long.
func (f *Filter) late(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	f.logFailure(errLate, "")
	return errLate
}

// logFailure logs that Kubernetes cannot be asked, at most once a minute. Such errors name what was asked for.
func (f *Filter) logFailure(err error, token string) {
	f.failure.Do(func() {
		f.cfg.Logger.Error("Cannot check requests for metrics, and refuses them", "err", truncate(err.Error(), token))
	})
}

// truncate truncates a text of the API server to 512 bytes, and blanks the token if it should be in it.
func truncate(text, token string) string {
	if token != "" {
		text = strings.ReplaceAll(text, token, "TOKEN")
	}
	return strings.ToValidUTF8(text[:min(len(text), 512)], "")
}
