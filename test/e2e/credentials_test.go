package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

// credentials are what an exporter shows to the API server, and what it trusts, in files that change.
type credentials struct {
	namespace string // of the account
	token     string // the file with its token
	secret    string // the token is valid as long as this Secret is there
	authority string // the file with the authority that has signed the certificate of the API server
}

const accountName = "exporter"

// user is the account as RBAC calls it.
func (c *credentials) user() string {
	return "system:serviceaccount:" + c.namespace + ":" + accountName
}

// newCredentialsStage is that of an exporter that watches each namespace with rights of its own.
func newCredentialsStage(t *testing.T) *stage {
	t.Helper()
	return credentialsStage(t)
}

// newPlainListStage is the same with an exporter that lists as if the API server could not stream lists.
func newPlainListStage(t *testing.T) *stage {
	t.Helper()
	return credentialsStage(t, "KUBE_FEATURE_WatchListClient=false")
}

func credentialsStage(t *testing.T, env ...string) *stage {
	t.Helper()
	s := &stage{world: newWorld(t), relay: newRelay(t)}
	s.relay.on(t)
	for range 50 {
		s.operate(t)
	}
	home := newNamespace(t, "account")
	dir := t.TempDir()
	c := &credentials{namespace: home, token: filepath.Join(dir, "token"), authority: filepath.Join(dir, "ca.crt")}
	s.credentials = c
	expect.Value(shared.client.CoreV1().ServiceAccounts(home).
		Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: accountName}}, metav1.CreateOptions{}))(t)
	for _, namespace := range s.namespaces {
		c.may(t, namespace, "list", "watch", "get")
	}
	c.renew(t)
	expect.NoError(t, os.WriteFile(c.authority, expect.Value(os.ReadFile(servingCertificate(shared.dir)))(t), 0o600))

	path := writeKubeconfig(t, s.relay.access(), clientcmdapi.AuthInfo{TokenFile: c.token})
	config := expect.Value(clientcmd.LoadFromFile(path))(t)
	server := config.Clusters["cluster"]
	server.CertificateAuthorityData, server.CertificateAuthority, server.TLSServerName = nil, c.authority, servedName
	expect.NoError(t, clientcmd.WriteToFile(*config, path))
	command := exporterCommand(path, "--namespaces="+strings.Join(s.namespaces, ","))
	command.Env = append(os.Environ(), env...)
	s.exporter = startCommand(t, command)
	s.exporter.awaitReady(t)
	s.agrees(t, s.exporter, healedWithin)
	return s
}

// may grants the account exactly the given verbs for Secrets in a namespace, and returns when the API server knows it.
func (c *credentials) may(t *testing.T, namespace string, verbs ...string) {
	t.Helper()
	allow(t, namespace, c.user(), "secrets", verbs...)
	for _, verb := range []string{"list", "watch", "get"} {
		right := verb + " secrets in " + namespace
		eventually(t, patience, func() error {
			err := allowed(t, c.user(), right)()
			if slices.Contains(verbs, verb) {
				return err
			}
			if err == nil {
				return errors.New("the account may still " + right)
			}
			return nil
		})
	}
}

// renew writes a new token into the file.
func (c *credentials) renew(t *testing.T) {
	t.Helper()
	core := shared.client.CoreV1()
	bound := expect.Value(core.Secrets(c.namespace).
		Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "bound-"}}, metav1.CreateOptions{}))(t)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Secret", APIVersion: "v1", Name: bound.Name, UID: bound.UID},
	}}
	request = expect.Value(core.ServiceAccounts(c.namespace).CreateToken(t.Context(), accountName, request, metav1.CreateOptions{}))(t)
	c.secret = bound.Name
	replaceFile(t, c.token, []byte(request.Status.Token))
}

// revoke makes the token invalid, and returns when the API server rejects it: it remembers for ten seconds that a token
// was valid.
func (c *credentials) revoke(t *testing.T) {
	t.Helper()
	config := rest.AnonymousClientConfig(shared.config)
	config.BearerToken = string(expect.Value(os.ReadFile(c.token))(t))
	client := expect.Value(kubernetes.NewForConfig(config))(t)
	expect.NoError(t, shared.client.CoreV1().Secrets(c.namespace).Delete(t.Context(), c.secret, metav1.DeleteOptions{}))
	eventually(t, patience, func() error {
		_, err := client.CoreV1().Secrets(c.namespace).List(t.Context(), metav1.ListOptions{})
		if !apierrors.IsUnauthorized(err) {
			return errors.Join(errors.New("the token is still valid"), err)
		}
		return nil
	})
}

// replaceFile writes a file that others see complete, as the kubelet does.
func replaceFile(t *testing.T, path string, text []byte) {
	t.Helper()
	expect.NoError(t, os.WriteFile(path+".new", text, 0o600))
	expect.NoError(t, os.Rename(path+".new", path))
}

// servedName is a name for which the API server has another certificate, which tests replace.
const servedName = "rotated.test"

func servingCertificate(dir string) string { return filepath.Join(dir, "rotated.crt") }

// writeServing writes a certificate for servedName, followed by that of a new authority that has signed it. The API server
// reads it as soon as it changes.
func writeServing(dir string) error {
	certificate, key, err := cert.GenerateSelfSignedCertKey(servedName, nil, nil)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(servingCertificate(dir), certificate, 0o600), os.WriteFile(servingKey(dir), key, 0o600))
}

func servingKey(dir string) string { return filepath.Join(dir, "rotated.key") }

// newAuthority gives the API server a certificate of a new authority, and returns when it serves that.
func newAuthority(t *testing.T) {
	t.Helper()
	expect.NoError(t, writeServing(shared.dir))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(expect.Value(os.ReadFile(servingCertificate(shared.dir)))(t))
	eventually(t, patience, func() error {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(shared.config.Host, "https://"), &tls.Config{RootCAs: pool, ServerName: servedName})
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// reset breaks all connections, whose watches would go on with a credential that is not valid any more.
func reset(_ *testing.T, s *stage) { s.relay.Reset() }

// install writes a new release in the first namespace.
func (s *stage) install(t *testing.T) {
	t.Helper()
	s.create(t, s.namespaces[0], "secrets", fmt.Sprintf("new-%d", time.Now().UnixNano()), 1, "deployed")
	delete(s.known, s.namespaces[0])
}

// seenInFirst is a sign that concerns the first namespace alone: its watch is up or down, those of all others are up, and
// the problem is named to the kubelet and to people.
func seenInFirst(text string, up float64, problem ...string) sign {
	return sign{text, func(s *stage) error {
		want := make(series)
		for _, namespace := range s.namespaces {
			want[fmt.Sprintf(`helm_state_metrics_watch_up{namespace=%q,storage="secrets"}`, namespace)] = 1
		}
		want[fmt.Sprintf(`helm_state_metrics_watch_up{namespace=%q,storage="secrets"}`, s.namespaces[0])] = up
		problem := append(problem, s.namespaces[0])
		return errors.Join(s.exporter.has(want)(), s.exporter.answers("/readyz", http.StatusOK, problem...)(),
			s.exporter.answers("/", http.StatusOK, problem...)())
	}}
}

// withoutRight is a fault that takes a right away in the first namespace, and makes the exporter use it. The others must be right
// meanwhile.
func withoutRight(verb string, use func(*testing.T, *stage), sign sign) fault {
	verbs := slices.DeleteFunc([]string{"list", "watch", "get"}, func(v string) bool { return v == verb })
	what := "the right to " + verb + " taken away in one namespace of many"
	return fault{what: what, sign: sign, begin: func(t *testing.T, s *stage) func() {
		s.credentials.may(t, s.namespaces[0], verbs...)
		use(t, s)
		s.install(t)
		return func() {
			others := *s.world
			others.namespaces = s.namespaces[1:]
			others.agrees(t, s.exporter, healedWithin)
			s.credentials.may(t, s.namespaces[0], "list", "watch", "get")
		}
	}}
}

// allDown is the sign that no namespace can be watched, for a reason that the page and the log name.
func allDown(text, reason string) sign {
	return sign{text, func(s *stage) error {
		return errors.Join(s.exporter.upBecomes(0, len(s.namespaces), 0), s.exporter.answers("/", http.StatusOK, reason)(),
			s.exporter.says("level=ERROR", reason)())
	}}
}

var credentialFaults = []fault{
	{
		what: "token revoked, first while the watches go on, and later replaced in its file",
		sign: allDown("watch_up 0, unauthorized", "Unauthorized"),
		begin: func(t *testing.T, s *stage) func() {
			s.credentials.revoke(t)
			s.since = time.Now()
			s.install(t)
			eventually(t, patience, func() error { return payloadsPending.seen(s) })
			reset(t, s)
			return func() { s.credentials.renew(t) }
		},
	},
	{
		what: "certificate of a new authority, which comes into its file later",
		sign: allDown("watch_up 0, unknown authority", "unknown authority"),
		begin: func(t *testing.T, s *stage) func() {
			newAuthority(t)
			reset(t, s)
			return func() {
				replaceFile(t, s.credentials.authority, expect.Value(os.ReadFile(servingCertificate(shared.dir)))(t))
			}
		},
	},
	withoutRight("watch", reset, seenInFirst("watch_up 0, forbidden", 0, "forbidden")),
	withoutRight("get", reset, seenInFirst("payloads forbidden", 1, "payloads")),
	withoutRight("list", reset, sign{}),
}

// listFaults take the right to list away, which is needed only where lists are not streamed, and only after a watch cannot
// be resumed, as when the API server has been restarted.
var listFaults = takesLong(
	withoutRight("list", func(t *testing.T, _ *stage) { shared.restart(t, 0) }, seenInFirst("watch_up 0, forbidden", 0, "forbidden")),
)

// takesLong leaves faults to make chaos.
func takesLong(faults ...fault) []fault {
	for i := range faults {
		faults[i].long = true
	}
	return faults
}
