package e2e_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is shipped, as seen from here.
const (
	kustomizations = "../../manifests/kustomize/"
	ownChart       = "../../manifests/chart/helm-state-metrics"
)

// TestInstall installs what is shipped in the ways that are shipped, and plays
// the kubelet: it runs the image with what the Deployment says.
//
// With -v it tells how long it takes from an empty control plane to the first
// good scrape: go test -v -count=1 -run TestInstall/by_kustomize ./test/e2e
func TestInstall(t *testing.T) {
	t.Parallel()
	missing := dockerMissing()
	image := ""
	if missing == nil {
		image = buildImage(t)
	}
	t.Run("the image", func(t *testing.T) {
		t.Parallel()
		require(t, "docker", missing)
		inspectImage(t, image)
	})
	t.Run("by kustomize", func(t *testing.T) {
		t.Parallel()
		begin := time.Now()
		kubectl(t, "", "apply", "-k", kustomizations+"default")
		applied := time.Since(begin)
		d := deployed(t, "helm-state-metrics", "helm-state-metrics")
		admitted(t, d)

		require(t, "docker", missing)
		mounts := mountsOf(t, d)
		begin = time.Now()
		c := startContainer(t, image, d, mounts)
		eventually(t, patience, c.answers("/metrics", http.StatusOK))
		started := time.Since(begin)
		t.Logf("kubectl apply -k took %s, from the start of the container to the first good scrape it took %s: %s in all",
			applied.Round(time.Millisecond), started.Round(time.Millisecond), (applied + started).Round(time.Millisecond))

		h := newHelm(t, "helm4", newNamespace(t, "seen"), "secret")
		h.run(t, "install app chart:site-settings")
		eventually(t, patience, c.shows(view{}.series(t, h.facts(t)), h.namespace, sizeWhenRead))
		probesAnswer(t, c, d)
		obeysMemoryLimit(t, c, d)
		eventually(t, patience, rightsAreUsed(t, d))
		c.end(t)
	})
	t.Run("by Helm", func(t *testing.T) {
		inBoth(t, "own", "secret", func(t *testing.T, h helm) {
			// Cluster roles have no namespace, so the name must differ.
			h.run(t, "install "+h.namespace+" "+ownChart)
			d := deployed(t, h.namespace, h.namespace+"-helm-state-metrics")
			require(t, "docker", missing)
			c := startContainer(t, image, d, mountsOf(t, d))
			eventually(t, patience, c.has(series{seriesName("helm_release_info", map[string]string{
				"name": h.namespace, "namespace": h.namespace, "revision": "1",
				"chart": "helm-state-metrics", "chart_version": "0.1.0", "app_version": "0.1.0",
			}): 1}))
			probesAnswer(t, c, d)
			c.end(t)

			// From one kind of rights to the other, back, and away.
			h.run(t, "upgrade "+h.namespace+" "+ownChart+" --set=namespaces={"+h.namespace+"}")
			narrow := map[string]bool{"get secrets in " + h.namespace: true, "list secrets in " + h.namespace: true, "watch secrets in " + h.namespace: true}
			if diff := cmp.Diff(narrow, granted(t, d)); diff != "" {
				t.Errorf("after the upgrade (-want +got):\n%s", diff)
			}
			h.run(t, "rollback "+h.namespace)
			if diff := cmp.Diff(map[string]bool{"get secrets": true, "list secrets": true, "watch secrets": true}, granted(t, d)); diff != "" {
				t.Errorf("after the rollback (-want +got):\n%s", diff)
			}
			h.run(t, "uninstall "+h.namespace)
			if left := granted(t, d); len(left) > 0 {
				t.Errorf("after the uninstallation the account may %v", left)
			}
		})
	})
	t.Run("by Helm with TLS", func(t *testing.T) {
		t.Parallel()
		h := newHelm(t, "helm4", newNamespace(t, "tls"), "secret")
		cert, key := selfSigned(t)
		kubectl(t, "", "create", "secret", "tls", "certificate", "-n", h.namespace,
			"--cert="+writeFile(t, "tls.crt", cert), "--key="+writeFile(t, "tls.key", key))
		h.run(t, "install "+h.namespace+" "+ownChart+" --set=tls.enabled=true,tls.secretName=certificate")
		d := deployed(t, h.namespace, h.namespace+"-helm-state-metrics")
		require(t, "docker", missing)
		c := startContainer(t, image, d, mountsOf(t, d))
		authorities := x509.NewCertPool()
		authorities.AppendCertsFromPEM([]byte(cert))
		c.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}}
		c.url = strings.Replace(c.url, "http:", "https:", 1)
		probesAnswer(t, c, d)
		c.end(t)
	})
}

// kubectl runs a command as the administrator, with something on its standard
// input, and returns its output.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program("kubectl"), args...)
	cmd.Env = []string{"KUBECONFIG=" + filepath.Join(shared.dir, "kubeconfig"), "HOME=" + t.TempDir()}
	cmd.Stdin = bytes.NewBufferString(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// deployed reads a Deployment back.
func deployed(t *testing.T, namespace, name string) *appsv1.Deployment {
	t.Helper()
	d, err := shared.client.AppsV1().Deployments(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// admitted asks for a pod, which the namespace does not let in if it is not as
// restricted as can be.
func admitted(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
	pod.Name = "one"
	_, err := shared.client.CoreV1().Pods(d.Namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Error(err)
	}
	namespace, err := shared.client.CoreV1().Namespaces().Get(t.Context(), d.Namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if level := namespace.Labels["pod-security.kubernetes.io/enforce"]; level != "restricted" {
		t.Errorf("the namespace enforces %q", level)
	}
}

// exporterUser is whom the API server knows the exporter of a Deployment as.
func exporterUser(d *appsv1.Deployment) string {
	return fmt.Sprintf("system:serviceaccount:%s:%s", d.Namespace, d.Spec.Template.Spec.ServiceAccountName)
}

// requestToken gets what the kubelet would put into the pod, once the API
// server knows of the account's rights: it learns of roles by watches, so a
// request that comes at once may be refused.
func requestToken(t *testing.T, d *appsv1.Deployment) string {
	t.Helper()
	for right := range granted(t, d) {
		eventually(t, patience, allowed(t, exporterUser(d), right))
	}
	request, err := shared.client.CoreV1().ServiceAccounts(d.Namespace).
		CreateToken(t.Context(), d.Spec.Template.Spec.ServiceAccountName, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}
