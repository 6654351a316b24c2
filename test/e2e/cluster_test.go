// Package e2e_test runs the real exporter against a real API server whose
// releases the real Helm 3 and Helm 4 write.
package e2e_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// programs are what make puts into bin/ for these tests.
var programs = []string{"cluster", "crds", "helm3", "helm4", "helm-state-metrics", "kubectl", "prometheus", "promtool"}

// shared is the control plane of all tests; TestMain starts and stops it.
var shared *cluster

// program is the path of one of the programs.
func program(name string) string {
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
	if err != nil {
		panic(err)
	}
	// Go caches the outcome of tests, and runs them again only when a file has
	// changed that it saw them look at.
	_, _ = os.Stat(path)
	return path
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	for _, name := range programs {
		if _, err := os.Stat(program(name)); err != nil {
			return 0, fmt.Errorf("bin/%s is missing: run `make test`, which builds it", name)
		}
	}
	dir, err := os.MkdirTemp("", "helm-state-metrics-e2e-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if shared, err = startCluster(dir); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, shared.stop()) }()
	return m.Run(), nil
}

// cluster is a running control plane.
type cluster struct {
	dir    string
	cmd    *exec.Cmd
	config *rest.Config // the administrator's
	client kubernetes.Interface
}

// startCluster starts a control plane in an empty directory and returns when
// it is ready.
func startCluster(dir string) (*cluster, error) {
	policy := filepath.Join(dir, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return nil, err
	}
	c := &cluster{dir: dir}
	c.cmd = exec.Command(program("cluster"), "--dir", dir, "--with-parent", "--",
		"--audit-policy-file="+policy, "--audit-log-path="+c.auditLog())
	// Standard error is for why it did not start; while it stops it is noisy.
	var stderr bytes.Buffer
	c.cmd.Stderr = &stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		return nil, fmt.Errorf("the control plane ended before it was ready: %w\n%s", c.cmd.Wait(), &stderr)
	}
	c.config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "kubeconfig"))
	if err != nil {
		return nil, errors.Join(err, c.stop())
	}
	c.config.QPS = -1
	c.client, err = kubernetes.NewForConfig(c.config)
	return c, err
}

func (c *cluster) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the control plane: %w", err)
	}
	return c.cmd.Wait()
}

// access says how an exporter or Helm reaches the API server, and as whom.
type access struct {
	server string // empty for the control plane's own address
	ca     []byte // of server
	user   string // whom to impersonate; empty for nobody
	groups []string
}

// administrators is the group that may do everything.
const administrators = "system:masters"

// kubeconfig writes a kubeconfig file and returns its path.
func (c *cluster) kubeconfig(t *testing.T, a access) string {
	t.Helper()
	if a.server == "" {
		a.server, a.ca = c.config.Host, c.config.CAData
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: a.server, CertificateAuthorityData: a.ca}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: c.config.BearerToken, Impersonate: a.user, ImpersonateGroups: a.groups}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// newNamespace makes a namespace for one test, whose name begins with the
// given word.
func newNamespace(t *testing.T, word string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: word + "-"}}
	made, err := shared.client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made.Name
}

// patience bounds every wait for something that takes a second at most on an
// idle machine.
const patience = 30 * time.Second

// eventually checks again and again until there is no error, and fails with
// the last one when the time is over.
func eventually(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("still not so after %s: %v", within, err)
		}
	}
}

// lines splits a text and leaves out empty lines.
func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}
