// Package e2e_test runs the real exporter against a real API server whose releases the real Helm 3 and Helm 4 write.
package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/relay"
)

// shared is the control plane of all tests; TestMain starts and stops it.
var shared *controlPlane

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	err = process.Missing("cluster", "crds", "helm3", "helm4", "helm-chart-versions", "helm-state-metrics", "kubectl", "prometheus", "promtool")
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "helm-state-metrics-e2e-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if shared, err = startShared(dir); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, shared.Stop()) }()
	return m.Run(), nil
}

type controlPlane struct {
	*process.Process
	dir    string
	flags  []string     // see process.StartCluster
	config *rest.Config // the administrator's
	client kubernetes.Interface
}

// startShared starts one whose requests are logged.
func startShared(dir string) (*controlPlane, error) {
	policy, auditLog := filepath.Join(dir, "audit-policy.yaml"), (&controlPlane{dir: dir}).auditLog()
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return nil, err
	}
	if err := writeServing(dir); err != nil {
		return nil, err
	}
	return startControlPlane(dir, "--", "--audit-policy-file="+policy, "--audit-log-path="+auditLog,
		fmt.Sprintf("--tls-sni-cert-key=%s,%s:%s", servingCertificate(dir), servingKey(dir), servedName))
}

func startControlPlane(dir string, flags ...string) (*controlPlane, error) {
	c := &controlPlane{dir: dir, flags: flags}
	var err error
	if c.Process, err = process.StartCluster(context.Background(), dir, nil, flags...); err != nil {
		return nil, err
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.admin()); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	c.config.QPS = -1
	c.client, err = kubernetes.NewForConfig(c.config)
	return c, err
}

// restart kills the control plane, and starts it again with the same data after some time.
func (c *controlPlane) restart(t *testing.T, after time.Duration) {
	t.Helper()
	c.Kill()
	select {
	case <-time.After(after):
	case <-t.Context().Done():
	}
	again := expect.Value(startControlPlane(c.dir, c.flags...))(t)
	if again.config.Host != c.config.Host {
		t.Fatalf("the API server is at %s now, and was at %s", again.config.Host, c.config.Host)
	}
	c.Process = again.Process
}

// admin returns the path of the administrator's kubeconfig.
func (c *controlPlane) admin() string { return process.Kubeconfig(c.dir) }

// access says how an exporter or Helm reaches the API server, and as which user.
type access struct {
	server string // empty for the control plane's own address
	ca     []byte // of server
	user   string // to impersonate; empty for none
	groups []string
}

// administrators is the group that may do everything.
const administrators = "system:masters"

func (c *controlPlane) kubeconfig(t *testing.T, a access) string {
	t.Helper()
	if a.server == "" {
		a.server, a.ca = c.config.Host, c.config.CAData
	}
	return writeKubeconfig(t, a, clientcmdapi.AuthInfo{Token: c.config.BearerToken, Impersonate: a.user, ImpersonateGroups: a.groups})
}

func writeKubeconfig(t *testing.T, a access, user clientcmdapi.AuthInfo) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	expect.NoError(t, cluster.WriteKubeconfig(path, a.server, a.ca, user))
	return path
}

// serverRelay is a relay to the API server that is off at first, and at the end of the test.
type serverRelay struct{ *relay.Relay }

func newRelay(t *testing.T) serverRelay {
	t.Helper()
	return newRelayTo(t, strings.TrimPrefix(shared.config.Host, "https://"))
}

func newRelayTo(t *testing.T, address string) serverRelay {
	t.Helper()
	r := expect.Value(relay.New(address))(t)
	t.Cleanup(r.Off)
	return serverRelay{r}
}

func (r serverRelay) on(t *testing.T) {
	t.Helper()
	expect.NoError(t, r.On())
}

// access is the administrator's access through the relay.
func (r serverRelay) access() access {
	return access{server: "https://" + r.Address(), ca: shared.config.CAData}
}

// newNamespace creates a namespace for one test. Its name begins with the prefix.
func newNamespace(t *testing.T, prefix string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-"}}
	created := expect.Value(shared.client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}))(t)
	return created.Name
}

// patience is how long tests wait for something that takes at most a second on an idle machine.
const patience = 30 * time.Second

var eventually = process.Eventually

func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	text := expect.Value(os.ReadFile(filepath.Join(append([]string{process.Root()}, path...)...)))(t)
	return string(text)
}

// writeFile writes a file into a directory of its own and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	expect.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// require skips a test if something is missing that not every machine has. If the environment variable REQUIRE, a list
// separated by commas, contains it, the test fails instead.
func require(t *testing.T, what string, missing error) {
	t.Helper()
	if missing == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), what) {
		t.Fatalf("%s is required, but: %v", what, missing)
	}
	t.Skipf("this needs %s: %v", what, missing)
}
