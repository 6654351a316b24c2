package e2e_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/prometheus"
)

// grant binds a new ClusterRole with one rule to a subject, in a namespace or, if that is empty, in the whole cluster.
func grant(t *testing.T, namespace string, subject rbacv1.Subject, rule rbacv1.PolicyRule) {
	t.Helper()
	rbac := shared.client.RbacV1()
	named := metav1.ObjectMeta{GenerateName: "tenants-"}
	role := expect.Value(rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: named, Rules: []rbacv1.PolicyRule{rule}}, metav1.CreateOptions{}))(t)
	bind(t, namespace, subject, role.Name)
}

func bind(t *testing.T, namespace string, subject rbacv1.Subject, role string) {
	t.Helper()
	rbac := shared.client.RbacV1()
	named := metav1.ObjectMeta{GenerateName: "tenants-"}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	var err error
	if namespace == "" {
		_, err = rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: named, RoleRef: ref, Subjects: []rbacv1.Subject{subject}}, metav1.CreateOptions{})
	} else {
		_, err = rbac.RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: named, RoleRef: ref, Subjects: []rbacv1.Subject{subject}}, metav1.CreateOptions{})
	}
	expect.NoError(t, err)
}

// account creates a service account.
func account(t *testing.T, namespace, name string) rbacv1.Subject {
	t.Helper()
	expect.Value(shared.client.CoreV1().ServiceAccounts(namespace).
		Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))(t)
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}
}

// tokenOf returns a new token of an account.
func tokenOf(t *testing.T, s rbacv1.Subject, audiences ...string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}
	return expect.Value(shared.client.CoreV1().ServiceAccounts(s.Namespace).CreateToken(t.Context(), s.Name, request, metav1.CreateOptions{}))(t).Status.Token
}

// metricsOf is the right to scrape the releases of a namespace.
var metricsOf = rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"namespaces/metrics"}, Verbs: []string{"get"}}

// guarded is an exporter with --auth-filter, of two namespaces that each have a release.
type guarded struct {
	*exporter
	user     string // the exporter's own
	one, two string // namespaces
	inOne    series
	inTwo    series
	// tenant may scrape the first namespace, platform all of /metrics, and stranger nothing.
	tenant, platform, stranger rbacv1.Subject
}

func startGuarded(t *testing.T, r serverRelay, flags ...string) guarded {
	t.Helper()
	g := guarded{one: newNamespace(t, "tenant"), two: newNamespace(t, "tenant")}
	g.inOne = shown(write(t, g.one, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	g.inTwo = shown(write(t, g.two, cluster.Secret("app", 1, "failed", validPayload())), "valid")
	g.user = "exporter-of-" + g.one
	for _, namespace := range []string{g.one, g.two} {
		allow(t, namespace, g.user, "secrets", "list", "watch", "get")
	}
	bind(t, "", rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: g.user}, "system:auth-delegator")
	g.tenant, g.platform, g.stranger = account(t, g.one, "tenant"), account(t, g.two, "platform"), account(t, g.two, "stranger")
	grant(t, g.one, g.tenant, metricsOf)
	grant(t, "", g.platform, rbacv1.PolicyRule{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}})
	through := access{user: g.user}
	if r.Relay != nil {
		through = r.access()
		through.user = g.user
	}
	g.exporter = startExporter(t, shared.kubeconfig(t, through), append(flags, "--auth-filter", "--namespaces="+g.one+","+g.two)...)
	g.awaitReady(t)
	return g
}

// scrapeWith returns the answer to a request with a token, "" for none.
func (g guarded) scrapeWith(token, query string) (status int, body string, err error) {
	req, err := http.NewRequest(http.MethodGet, g.metrics+"/metrics"+query, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// gets returns a check of the answer to a request with a token.
func (g guarded) gets(token, query string, status int, part string) func() error {
	return func() error {
		got, body, err := g.scrapeWith(token, query)
		if err == nil && (got != status || !strings.Contains(body, part)) {
			err = fmt.Errorf("/metrics%s answers %d with %q, want %d with %q", query, got, body[:min(len(body), 300)], status, part)
		}
		return err
	}
}

// documentedMonitor returns the ServiceMonitor of docs/operations.md, for a tenant's namespace.
func documentedMonitor(t *testing.T, namespace string) string {
	t.Helper()
	_, rest, _ := strings.Cut(readFile(t, "docs", "operations.md"), "```yaml\napiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\n")
	text, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/operations.md has no ServiceMonitor for tenants")
	}
	return "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\n" + strings.ReplaceAll(text, "team-a", namespace)
}

// TestTenantsScrapeTheirOwn has a real Prometheus scrape as tenants would, with and without rights. The tenant asks for
// what the ServiceMonitor in the docs asks for.
func TestTenantsScrapeTheirOwn(t *testing.T) {
	t.Parallel()
	certPEM, keyPEM := selfSigned(t)
	ca := writeFile(t, "tls.crt", certPEM)
	g := startGuarded(t, serverRelay{}, "--web.config.file="+writeFile(t, "web.yml",
		fmt.Sprintf("tls_server_config: {cert_file: %q, key_file: %q}\n", ca, writeFile(t, "tls.key", keyPEM))))
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM([]byte(certPEM))
	g.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}}
	g.metrics = strings.Replace(g.metrics, "http:", "https:", 1)
	var monitor struct {
		Spec struct {
			Endpoints []struct {
				Scheme          string
				Params          map[string][]string
				HonorLabels     bool
				BearerTokenFile string
				Relabelings     []map[string]string
			}
		}
	}
	expect.NoError(t, yaml.Unmarshal([]byte(documentedMonitor(t, g.one)), &monitor))
	documented := monitor.Spec.Endpoints[0]
	expect.Equal(t, "the parameters in the docs differ", map[string][]string{"namespace": {g.one}}, documented.Params)
	expect.Equal(t, "the job in the docs differs", []map[string]string{{"targetLabel": "job", "replacement": "helm-releases-" + g.one}}, documented.Relabelings)
	if documented.BearerTokenFile == "" {
		t.Error("the ServiceMonitor in the docs sends no token")
	}
	job := func(name, token, namespace string) string {
		text := fmt.Sprintf("- job_name: %s\n  honor_labels: %t\n  scheme: %s\n  tls_config: {ca_file: %q}\n  static_configs: [{targets: [%q]}]\n",
			name, documented.HonorLabels, documented.Scheme, ca, strings.TrimPrefix(g.metrics, "https://"))
		if namespace != "" {
			text += fmt.Sprintf("  params: {namespace: [%q]}\n", namespace)
		}
		if token != "" {
			text += fmt.Sprintf("  authorization: {credentials_file: %q}\n", writeFile(t, "token", token))
		}
		return text
	}
	p := expect.Value(prometheus.Start(t.Context(), t.TempDir(), "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"+
		job("tenant", tokenOf(t, g.tenant), documented.Params["namespace"][0])+job("tenant-elsewhere", tokenOf(t, g.tenant), g.two)+job("tenant-everywhere", tokenOf(t, g.tenant), "")+
		job("platform", tokenOf(t, g.platform), "")+job("stranger", tokenOf(t, g.stranger), g.one)+job("nobody", "", g.one)))(t)
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	both := maps.Clone(g.inOne)
	maps.Copy(both, g.inTwo)
	for name, want := range map[string]series{"tenant": g.inOne, "tenant-elsewhere": {}, "tenant-everywhere": {}, "platform": both, "stranger": {}, "nobody": {}} {
		up := 0.0
		if len(want) > 0 {
			up = 1
		}
		eventually(t, patience, answer{series: series{"up": up}}.to(p, fmt.Sprintf("up{job=%q}", name)))
		eventually(t, patience, answer{series: want}.to(p, fmt.Sprintf(`{__name__=~"helm_release_.+",job=%q}`, name)))
	}
	for result, least := range map[string]float64{"allowed": 2, "unauthorized": 1, "forbidden": 3} {
		if got := g.count(t, result); got < least {
			t.Errorf("%v requests are counted as %s, want at least %v", got, result, least)
		}
	}
}

// count returns how many requests had a result.
func (g guarded) count(t *testing.T, result string) float64 {
	t.Helper()
	_, body, err := g.scrapeWith(tokenOf(t, g.platform), "?name[]=helm_state_metrics_auth_requests_total")
	expect.NoError(t, err)
	return expect.Value(parse(body))(t)[seriesName("helm_state_metrics_auth_requests_total", map[string]string{"result": result})]
}

func TestTenantsCannotAskForMore(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, serverRelay{})
	token := tokenOf(t, g.tenant)
	eventually(t, patience, g.gets(token, "?namespace="+g.one, 200, "helm_release_info{"))
	for query, want := range map[string]struct {
		status int
		part   string
	}{
		"":                          {403, "grant the verb get on nonResourceURLs /metrics"},
		"?name[]=helm_release_info": {403, "/metrics"},
		"?namespace=" + g.two:       {403, g.two},
		"?namespace=" + g.one + "&namespace=" + g.two:                 {403, "namespaces/metrics in API group \"\" in namespace " + g.two},
		"?namespace=" + g.one + "&namespace=":                         {400, "namespace"},
		"?namespace=":                                                 {400, "namespace"},
		"?namespace":                                                  {400, "namespace"},
		"?namespace=" + strings.ToUpper(g.one):                        {400, "namespace"},
		"?namespace=" + g.one + ";namespace=" + g.two:                 {400, "query"},
		"?namespace=" + g.one + "%26namespace=" + g.two:               {400, "namespace"},
		"?namespace=" + g.one + "%00":                                 {400, "namespace"},
		"?namespace=" + g.one + "," + g.two:                           {400, "namespace"},
		"?%6eamespace=" + g.two:                                       {403, g.two},
		"?Namespace=" + g.one:                                         {403, "/metrics"},
		"?namespace=" + g.one + "&namespace=" + g.one:                 {200, `namespace="` + g.one + `"`},
		"?namespace=%7" + fmt.Sprintf("%x", g.one[0]&0xf) + g.one[1:]: {200, `namespace="` + g.one + `"`},
	} {
		expect.NoError(t, g.gets(token, query, want.status, want.part)())
		_, body, err := g.scrapeWith(token, query)
		expect.NoError(t, err)
		if strings.Contains(body, fmt.Sprintf("namespace=%q", g.two)) {
			t.Errorf("/metrics%s tells of another namespace: %s", query, body)
		}
	}
	// The rights are those of one token, whatever else a request has.
	own := door(g.metrics)
	for name, q := range map[string]question{
		"a method":                    {text: ask("HEAD", "/metrics", "Connection: close", "Authorization: Bearer "+token), statuses: is(403)},
		"a body":                      {text: ask("GET", "/metrics", "Authorization: Bearer "+token, fmt.Sprint("Content-Length: ", len("namespace="+g.one))) + "namespace=" + g.one, statuses: is(403)},
		"a body, and a query":         {text: ask("GET", "/metrics?namespace="+g.one, "Authorization: Bearer "+token, fmt.Sprint("Content-Length: ", len("namespace="+g.two))) + "namespace=" + g.two, statuses: is(200), part: g.one},
		"a write":                     {text: ask("POST", "/metrics?namespace="+g.one, "Connection: close", "Authorization: Bearer "+token), statuses: is(405)},
		"another user":                {text: get("/metrics", "Authorization: Bearer "+token, "Impersonate-User: "+g.platform.Name, "X-Remote-User: "+g.platform.Name), statuses: is(403)},
		"another path":                {text: get("/metrics", "Authorization: Bearer "+token, "X-Original-URL: /metrics?namespace="+g.one), statuses: is(403)},
		"two tokens":                  {text: get("/metrics?namespace="+g.one, "Authorization: Bearer "+token, "Authorization: Bearer "+tokenOf(t, g.platform)), statuses: is(401)},
		"a password":                  {text: get("/metrics?namespace="+g.one, "Authorization: Basic Og=="), statuses: is(401)},
		"a token in the query":        {text: get("/metrics?namespace=" + g.one + "&access_token=" + token), statuses: is(401)},
		"a token that is too long":    {text: get("/metrics?namespace="+g.one, "Authorization: Bearer "+strings.Repeat("a", 40<<10)), statuses: is(431)},
		"a path that is cleaned":      {text: get("//metrics?namespace=" + g.two), statuses: is(307), header: "Location: /metrics?namespace=" + g.two},
		"a path that is encoded":      {text: get("/%6detrics?namespace="+g.two, "Authorization: Bearer "+token), statuses: is(403)},
		"a host that has another one": {text: get("http://localhost/metrics?namespace="+g.two, "Authorization: Bearer "+token), statuses: is(403)},
		"a namespace with a dot":      {text: get("/metrics?namespace="+g.one+".", "Authorization: Bearer "+token), statuses: is(400)},
		"all namespaces":              {text: get("/metrics?namespace=*", "Authorization: Bearer "+token), statuses: is(400)},
		"more than a hundred":         {text: get("/metrics?namespace="+g.one+strings.Repeat("&namespace=x", 2000), "Authorization: Bearer "+token), statuses: is(403)},
		"many families":               {text: get("/metrics?"+strings.Repeat("name[]=x&", 2000)+"namespace="+g.one, "Authorization: Bearer "+token), statuses: is(200)},
		"too many parameters":         {text: get("/metrics?"+strings.Repeat("a&", 12_000)+"namespace="+g.one, "Authorization: Bearer "+token), statuses: is(400)},
	} {
		t.Run(name, func(t *testing.T) { q.check(t, own, fmt.Sprintf("namespace=%q", g.two)) })
	}
	// The other addresses do not ask for tokens.
	expect.NoError(t, g.answers("/readyz", http.StatusOK)())
	expect.NoError(t, g.answers("/", http.StatusOK)())
}

func TestTokens(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, serverRelay{})
	audience := startExporter(t, shared.kubeconfig(t, access{}), "--auth-filter", "--auth-token-audiences=helm-state-metrics,other", "--namespaces="+g.one)
	audience.awaitReady(t)
	forAudience := guarded{exporter: audience}
	query := "?namespace=" + g.one
	token := tokenOf(t, g.tenant)
	for name, tc := range map[string]struct {
		g      guarded
		token  string
		status int
	}{
		"none":                            {g, "", 401},
		"garbage":                         {g, "garbage", 401},
		"a token of the API server":       {g, token, 200},
		"a rotated one":                   {g, tokenOf(t, g.tenant), 200},
		"one that has expired":            {g, resigned(t, token, time.Now().Add(-time.Hour)), 401},
		"one with a wrong signature":      {g, token[:len(token)-8] + "AAAAAAAA", 401},
		"one of another audience":         {g, tokenOf(t, g.tenant, "vault"), 401},
		"one of the audience":             {forAudience, tokenOf(t, g.tenant, "helm-state-metrics"), 200},
		"one of the API server's, for it": {forAudience, token, 401},
		"one of a third audience, for it": {forAudience, tokenOf(t, g.tenant, "vault"), 401},
	} {
		t.Run(name, func(t *testing.T) {
			eventually(t, patience, tc.g.gets(tc.token, query, tc.status, ""))
			if tc.token != "" && strings.Contains(tc.g.Output(), tc.token) {
				t.Error("the log contains the token")
			}
		})
	}
	t.Run("one of an account that is deleted", func(t *testing.T) {
		// One that was used before works for two minutes more: TestAnswersExpire in internal/auth.
		leaver := account(t, g.one, "leaver")
		grant(t, g.one, leaver, metricsOf)
		known, unknown := tokenOf(t, leaver), tokenOf(t, leaver)
		review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: tokenOf(t, leaver)}}
		eventually(t, patience, g.gets(known, query, 200, "helm_release_info{"))
		expect.NoError(t, shared.client.CoreV1().ServiceAccounts(g.one).Delete(t.Context(), leaver.Name, metav1.DeleteOptions{}))
		eventually(t, patience, func() error {
			got, err := shared.client.AuthenticationV1().TokenReviews().Create(t.Context(), review, metav1.CreateOptions{})
			if err == nil && got.Status.Authenticated {
				err = errors.New("the API server accepts a token of an account that is deleted")
			}
			return err
		})
		expect.NoError(t, g.gets(unknown, query, 401, "rejects the token")())
	})
	t.Run("one that expires", func(t *testing.T) {
		// The API server accepts a token for one minute more, and remembers for ten seconds that it did.
		short := resigned(t, token, time.Now().Add(8*time.Second-time.Minute))
		expect.NoError(t, g.gets(short, query, 200, "helm_release_info{")())
		eventually(t, patience, g.gets(short, query, 401, "rejects the token"))
		expect.NoError(t, g.gets(token, query, 200, "")())
	})
}

// resigned returns a token of the API server with another time of expiry.
func resigned(t *testing.T, token string, expiry time.Time) string {
	t.Helper()
	parts := strings.Split(token, ".")
	var claims map[string]any
	expect.NoError(t, json.Unmarshal(expect.Value(base64.RawURLEncoding.DecodeString(parts[1]))(t), &claims))
	claims["exp"] = expiry.Unix()
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(expect.Value(json.Marshal(claims))(t))
	block, _ := pem.Decode(expect.Value(os.ReadFile(filepath.Join(shared.dir, "service-account.key")))(t))
	key := expect.Value(x509.ParseECPrivateKey(block.Bytes))(t)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	expect.NoError(t, err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// TestAuthorizationWithoutAServer cuts the exporter off. Who is known is still served, and nobody else is.
func TestAuthorizationWithoutAServer(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	r.on(t)
	g := startGuarded(t, r)
	known, unknown, query := tokenOf(t, g.tenant), tokenOf(t, g.tenant), "?namespace="+g.one
	eventually(t, patience, g.gets(known, query, 200, "helm_release_info{"))
	r.Off()
	expect.NoError(t, g.gets(unknown, query, 503, "tokenreviews")())
	expect.NoError(t, g.gets(known, query, 200, "helm_release_info{")())
	expect.NoError(t, g.gets(known, query+"&namespace="+g.two, 503, "subjectaccessreviews")())
	expect.NoError(t, g.gets("", query, 401, "")())
	r.on(t)
	eventually(t, patience, g.gets(unknown, query, 200, "helm_release_info{"))
}

// TestRequestsForAuthorization counts what scrapes cost the API server.
func TestRequestsForAuthorization(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, serverRelay{})
	token := tokenOf(t, g.tenant)
	eventually(t, patience, g.gets(token, "?namespace="+g.one, 200, "helm_release_info{")) // the API server may learn of the right late
	before := g.reviews(t)
	for range 50 {
		expect.NoError(t, g.gets(token, "?namespace="+g.one, 200, "")())
	}
	if after := g.reviews(t); after != before {
		t.Errorf("50 scrapes with a known token made %d reviews", after-before)
	}
	other := tokenOf(t, g.tenant)
	expect.NoError(t, g.gets(other, "?namespace="+g.one, 200, "")())
	eventually(t, patience, func() error {
		if after := g.reviews(t); after != before+2 {
			return fmt.Errorf("a new token made %d reviews, want 2", after-before)
		}
		return nil
	})
}

// reviews returns how many reviews the exporter has asked for.
func (g guarded) reviews(t *testing.T) int {
	t.Helper()
	n := 0
	for _, event := range auditEvents(t, g.user) {
		if strings.HasSuffix(event.ObjectRef.Resource, "reviews") {
			n++
		}
	}
	return n
}

// TestShards runs two and three shards over the same releases. Together they have to expose what one exporter does.
func TestShards(t *testing.T) {
	t.Parallel()
	one, two := newNamespace(t, "shards"), newNamespace(t, "shards")
	for i := range 30 {
		write(t, []string{one, two}[i%2], cluster.Secret(fmt.Sprintf("app-%d", i), 1, "deployed", validPayload()))
	}
	namespaces := "--namespaces=" + one + "," + two
	whole := startExporter(t, shared.kubeconfig(t, access{}), namespaces)
	for added, total := range []int{2, 3} {
		var shards []*exporter
		for shard := range total {
			shards = append(shards, startExporter(t, shared.kubeconfig(t, access{}), namespaces, fmt.Sprintf("--shard=%d", shard), fmt.Sprintf("--total-shards=%d", total)))
		}
		same := func() error {
			want, err := whole.releaseLines()
			if err != nil {
				return err
			}
			var got []string
			for _, e := range shards {
				lines, err := e.releaseLines()
				if err != nil {
					return err
				}
				got = append(got, lines...)
			}
			slices.Sort(got)
			return expect.Same("the lines of all shards differ", want, got)
		}
		for _, e := range append(shards, whole) {
			e.awaitReady(t)
		}
		expect.NoError(t, same())
		gets := 0.0
		for shard, e := range shards {
			gets += e.value(t, `helm_state_metrics_payload_fetches_total{result="ok"}`)
			expect.NoError(t, e.has(series{fmt.Sprintf(`helm_state_metrics_shard_ordinal{shard_ordinal="%d"}`, shard): float64(shard), "helm_state_metrics_total_shards": float64(total)})())
		}
		if releases := float64(30 + added); gets != releases {
			t.Errorf("%d shards made %v GETs for %v releases", total, gets, releases)
		}
		write(t, one, cluster.Secret("app-0", 2, "failed", validPayload()))
		write(t, two, cluster.Secret(fmt.Sprintf("late-%d", total), 1, "deployed", validPayload()))
		eventually(t, patience, same)
		key := release.Key{Namespace: one, Name: "app-0"}
		owner := key.Shard(total)
		expect.NoError(t, shards[owner].answers("/releases/"+one+"/app-0", http.StatusOK, fmt.Sprintf("shard %d of %d", owner, total))())
		expect.NoError(t, shards[(owner+1)%total].answers("/releases/"+one+"/app-0", http.StatusNotFound, fmt.Sprintf("shard %d has it", owner))())
	}
}

// releaseLines returns the lines about releases of a scrape, sorted.
func (e *exporter) releaseLines() ([]string, error) {
	status, body, err := e.get("/metrics")
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %d: %w", status, err)
	}
	all := slices.DeleteFunc(lines(body), func(line string) bool { return !strings.HasPrefix(line, "helm_release_") })
	slices.Sort(all)
	return all, nil
}

// TestOneTenantWritesMany fills a namespace beyond the limit. `make tenants` does it with 50,000 releases.
func TestOneTenantWritesMany(t *testing.T) {
	t.Parallel()
	const limit, many = 10, 200
	crowded, other := newNamespace(t, "crowded"), newNamespace(t, "quiet")
	user := "exporter-of-" + crowded
	for _, namespace := range []string{crowded, other} {
		allow(t, namespace, user, "secrets", "list", "watch", "get")
	}
	inOther := shown(write(t, other, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	record := write(t, crowded, cluster.Secret("zz-first", 1, "deployed", validPayload()))
	first, created := shown(record, "valid"), record.CreationTimestamp
	e := startExporter(t, shared.kubeconfig(t, access{user: user}), "--namespaces="+crowded+","+other, fmt.Sprintf("--metrics.max-releases-per-namespace=%d", limit))
	e.awaitReady(t)
	// Times of creation are in seconds.
	eventually(t, patience, func() error {
		if time.Now().Unix() <= created.Unix() {
			return errors.New("the next release would be created in the same second")
		}
		return nil
	})
	for i := range many {
		write(t, crowded, cluster.Secret(fmt.Sprintf("app-%d", i), 1, "deployed", validPayload()))
	}
	dropped := seriesName("helm_state_metrics_releases_dropped", map[string]string{"namespace": crowded})
	eventually(t, patience, e.has(series{dropped: many + 1 - limit, "helm_state_metrics_payloads_pending": 0}))
	expect.NoError(t, e.shows(inOther, other)())
	expect.NoError(t, e.has(first)())
	gets := 0
	for _, event := range auditEvents(t, user) {
		if event.Verb == "get" && event.ObjectRef.Namespace == crowded {
			gets++
		}
	}
	// One may be exposed for a moment, and read, when it was created in the same second as others.
	if gets < limit || gets > 4*limit {
		t.Errorf("%d payloads were read, want about %d", gets, limit)
	}
	shownNow := e.exposed(t, crowded, limit)
	expect.NoError(t, e.answers("/", http.StatusOK, crowded, fmt.Sprint(many+1-limit), "--metrics.max-releases-per-namespace")())
	again := startExporter(t, shared.kubeconfig(t, access{user: user}), "--namespaces="+crowded+","+other, fmt.Sprintf("--metrics.max-releases-per-namespace=%d", limit))
	again.awaitReady(t)
	expect.Equal(t, "after a restart others are exposed", shownNow, again.exposed(t, crowded, limit))
	if gets := again.value(t, `helm_state_metrics_payload_fetches_total{result="ok"}`); gets != limit+1 {
		t.Errorf("after a restart %v payloads were read, want %d", gets, limit+1)
	}
	// Room for others.
	expect.NoError(t, shared.client.CoreV1().Secrets(crowded).Delete(t.Context(), cluster.RecordName("zz-first", 1), metav1.DeleteOptions{}))
	eventually(t, patience, e.has(series{dropped: many - limit}))
	if now := e.exposed(t, crowded, limit); slices.Contains(now, "zz-first") {
		t.Errorf("%v are exposed, want others than zz-first", now)
	}
}

// exposed waits until a number of releases of a namespace have a chart, and returns their names, sorted. No gauge can
// tell when: one scrape does not collect all of them at the same moment.
func (e *exporter) exposed(t *testing.T, namespace string, want int) []string {
	t.Helper()
	var names []string
	eventually(t, patience, func() error {
		all, err := e.scrape()
		names = nil
		for name := range all {
			_, rest, isInfo := strings.Cut(name, `helm_release_info{`)
			if _, rest, ok := strings.Cut(rest, `name="`); isInfo && ok && strings.Contains(name, fmt.Sprintf("namespace=%q", namespace)) {
				name, _, _ := strings.Cut(rest, `"`)
				names = append(names, name)
			}
		}
		if err == nil && len(names) != want {
			err = fmt.Errorf("%d releases are exposed, want %d: %v", len(names), want, names)
		}
		return err
	})
	slices.Sort(names)
	return names
}
