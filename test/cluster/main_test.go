package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestMain lets the test binary be the program under test: options and metrics of the API server are global to a
// process, so a second one needs a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("CLUSTER_TEST_RUN_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// command prepares a run of the program with the given arguments.
func command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "CLUSTER_TEST_RUN_MAIN=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// start runs the program, waits until it says that it is ready, and returns a function that ends it.
func start(t *testing.T, dir string, args ...string) (stop func()) {
	t.Helper()
	cmd := command(t, append([]string{"--dir", dir, "--with-parent"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if line != "ready\n" {
		err := cmd.Wait()
		t.Fatalf("printed %q instead of ready, ended with %v: %s", line, err, &stderr)
	}
	return func() {
		t.Helper()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		begin := time.Now()
		if err := cmd.Wait(); err != nil {
			t.Errorf("ended with %v: %s", err, &stderr)
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("took %s to end", took)
		}
	}
}

func client(t *testing.T, dir, kubeconfig string) *kubernetes.Clientset {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, kubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fill makes a namespace of that name with a secret in it.
func fill(t *testing.T, c kubernetes.Interface, namespace string) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: namespace}
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestUsersHaveTheRightsTheyAreMeantToHave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	defer start(t, dir)()

	fill(t, client(t, dir, "kubeconfig"), "full")
	for _, kubeconfig := range []string{"nobody.kubeconfig", "reader.kubeconfig"} {
		_, err := client(t, dir, kubeconfig).CoreV1().Secrets("full").List(t.Context(), metav1.ListOptions{})
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: want a refusal, got %v", kubeconfig, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "kubeconfig")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the administrator's kubeconfig is open to others: %v, %v", info.Mode(), err)
	}
}

func TestDeletedNamespacesGoAwayWithAllThatIsInThem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Flags of one's own reach the API server: it writes an audit log of the requests below.
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	audit := filepath.Join(dir, "audit.log")
	defer start(t, dir, "--", "--audit-policy-file="+policy, "--audit-log-path="+audit)()

	c := client(t, dir, "kubeconfig")
	fill(t, c, "full")
	if err := c.CoreV1().Namespaces().Delete(t.Context(), "full", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := c.CoreV1().Namespaces().Get(ctx, "full", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		t.Error(err)
	}
	if log, err := os.ReadFile(audit); err != nil || !bytes.Contains(log, []byte(`"namespace":"full"`)) {
		t.Errorf("nothing about the namespace in the audit log (%v)", err)
	}
}

func TestUsedDirectoryContinuesWhereItStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stop := start(t, dir)
	before := client(t, dir, "kubeconfig")
	fill(t, before, "full")
	// A watch that stays open must not hold up the end.
	watch, err := before.CoreV1().Secrets("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	stop()

	defer start(t, dir)()
	// The client made for the first run: its address, its token and its certificate authority still hold.
	if _, err := before.CoreV1().Secrets("full").Get(t.Context(), "full", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	out, err := command(t, "--dir", dir).CombinedOutput()
	if want := "another cluster runs in " + dir; err == nil || !strings.Contains(string(out), want) {
		t.Errorf("a second one in the same directory: want %q, got %q (%v)", want, out, err)
	}
}

func TestMistakesAreToldInOneLine(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"--dir is missing":               {},
		"unknown flag: --nonsense":       {"--dir", t.TempDir(), "--", "--nonsense"},
		"unrecognized feature gate: Bad": {"--dir", t.TempDir(), "--", "--feature-gates=Bad=true"},
	} {
		out, err := command(t, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), name) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("want one line with %q, got %q (%v)", name, out, err)
		}
	}
}
