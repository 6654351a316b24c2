package auth_test

import (
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
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/auth"
)

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
		running.Go(func() {
			began := time.Now()
			got := e.scrape(impatient, "namespace=a", "Bearer tenant-token")
			if took := time.Since(began); got.code != 503 || took != time.Second/2 {
				t.Errorf("the impatient client got %d %q after %s", got.code, got.body, took)
			}
		})
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
		k.delay = 20 * time.Millisecond
		var query []string
		for i := range 100 {
			query = append(query, fmt.Sprintf("namespace=n%02d", i))
		}
		got := behind(k).scrape(t.Context(), strings.Join(query, "&"), "Bearer tenant-token")
		if got.code != 403 || !strings.Contains(got.body, "in namespace n00, n01, n02, n03, n04, n05, n06, n07, n08, n09 and 90 more: grant") {
			t.Errorf("got %d %q", got.code, got.body)
		}
		if n := len(k.reviews()); n != 101 || k.most != 1 {
			t.Errorf("%d reviews, %d at once", n, k.most)
		}
	})
}

// TestAClientThatAsksForEverMore has a token and no right, and asks for other namespaces over many connections.
func TestAClientThatAsksForEverMore(t *testing.T) {
	for name, tc := range map[string]struct {
		connections int
		patience    time.Duration
	}{
		"and waits for the answers": {100, time.Minute},
		"and gives up at once":      {8, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := tenants()
				k.delay = 160 * time.Millisecond
				e := behind(k)
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				for i := range tc.connections {
					running.Go(func() {
						for n := 0; ctx.Err() == nil; n++ {
							limited, cancel := context.WithTimeout(ctx, tc.patience)
							e.scrape(limited, fmt.Sprintf("namespace=a%d-%d&namespace=b%d-%d", i, n, i, n), "Bearer tenant-token")
							cancel()
						}
					})
				}
				<-time.After(10 * time.Second)
				for range 2 {
					began := time.Now()
					if got := e.scrape(t.Context(), "", "Bearer platform-token"); got.code != 200 || time.Since(began) > time.Second {
						t.Errorf("another client got %d %q after %s", got.code, got.body, time.Since(began))
					}
					<-time.After(2 * time.Minute) // until both are reviewed again
				}
				cancel()
				running.Wait()
				<-time.After(10 * time.Second) // reviews go on without their clients
			})
		})
	}
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
