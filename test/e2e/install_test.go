package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/shipped"
)

// TestInstall installs what is shipped in all documented ways. In place of a kubelet it runs the image as the
// Deployment says.
//
// go test -v -run TestInstall/by_kustomize reports the time from an empty control plane to the first scrape.
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
		kubectl(t, "", "apply", "-k", filepath.Join(shipped.Kustomize(), "default"))
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
			h.run(t, "install "+h.namespace+" "+shipped.Chart())
			d := deployed(t, h.namespace, h.namespace+"-helm-state-metrics")
			require(t, "docker", missing)
			c := startContainer(t, image, d, mountsOf(t, d))
			eventually(t, patience, c.has(series{seriesName("helm_release_info", map[string]string{
				"name": h.namespace, "namespace": h.namespace, "revision": "1",
				"chart": "helm-state-metrics", "chart_version": "0.1.0", "app_version": "0.1.0",
			}): 1}))
			probesAnswer(t, c, d)
			c.end(t)

			// The rights change with the values, change back, and end.
			h.run(t, "upgrade "+h.namespace+" "+shipped.Chart()+" --set=namespaces={"+h.namespace+"}")
			narrow := map[string]bool{"get secrets in " + h.namespace: true, "list secrets in " + h.namespace: true, "watch secrets in " + h.namespace: true}
			expect.Equal(t, "after the upgrade", narrow, granted(t, d))
			h.run(t, "rollback "+h.namespace)
			expect.Equal(t, "after the rollback", map[string]bool{"get secrets": true, "list secrets": true, "watch secrets": true}, granted(t, d))
			h.run(t, "uninstall "+h.namespace)
			if left := granted(t, d); len(left) > 0 {
				t.Errorf("after the uninstallation the account still has the rights %v", left)
			}
		})
	})
	t.Run("by Helm with TLS", func(t *testing.T) {
		t.Parallel()
		h := newHelm(t, "helm4", newNamespace(t, "tls"), "secret")
		cert, key := selfSigned(t)
		kubectl(t, "", "create", "secret", "tls", "certificate", "-n", h.namespace,
			"--cert="+writeFile(t, "tls.crt", cert), "--key="+writeFile(t, "tls.key", key))
		h.run(t, "install "+h.namespace+" "+shipped.Chart()+" --set=tls.enabled=true,tls.secretName=certificate")
		d := deployed(t, h.namespace, h.namespace+"-helm-state-metrics")
		require(t, "docker", missing)
		c := startContainer(t, image, d, mountsOf(t, d))
		authorities := x509.NewCertPool()
		authorities.AppendCertsFromPEM([]byte(cert))
		c.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}}
		c.metrics = strings.Replace(c.metrics, "http:", "https:", 1)
		eventually(t, patience, c.answers("/metrics", http.StatusOK))
		probesAnswer(t, c, d)
		c.end(t)
	})
}

// kubectl runs a command as the administrator, with the given standard input, and returns its output.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := process.Client(t.Context(), "kubectl", t.TempDir(), shared.admin(), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func deployed(t *testing.T, namespace, name string) *appsv1.Deployment {
	t.Helper()
	d := expect.Value(shared.client.AppsV1().Deployments(namespace).Get(t.Context(), name, metav1.GetOptions{}))(t)
	return d
}

// admitted checks that the pod of a Deployment is admitted to a namespace that enforces the level "restricted".
func admitted(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
	pod.Name = "one"
	_, err := shared.client.CoreV1().Pods(d.Namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Error(err)
	}
	namespace := expect.Value(shared.client.CoreV1().Namespaces().Get(t.Context(), d.Namespace, metav1.GetOptions{}))(t)
	if level := namespace.Labels["pod-security.kubernetes.io/enforce"]; level != "restricted" {
		t.Errorf("the namespace enforces %q", level)
	}
}

func exporterUser(d *appsv1.Deployment) string {
	return fmt.Sprintf("system:serviceaccount:%s:%s", d.Namespace, d.Spec.Template.Spec.ServiceAccountName)
}

// requestToken returns a token like that which the kubelet puts into the pod. Before that it waits until the API server
// knows the rights of the account: it watches roles, so it may refuse a request that comes at once.
func requestToken(t *testing.T, d *appsv1.Deployment) string {
	t.Helper()
	for right := range granted(t, d) {
		eventually(t, patience, allowed(t, exporterUser(d), right))
	}
	request := expect.Value(shared.client.CoreV1().ServiceAccounts(d.Namespace).
		CreateToken(t.Context(), d.Spec.Template.Spec.ServiceAccountName, &authenticationv1.TokenRequest{}, metav1.CreateOptions{}))(t)
	return request.Status.Token
}

// everyValue sets every value of the chart that has an effect on an object.
const everyValue = `
image: {digest: "sha256:abc"}
imagePullSecrets: [{name: registry}]
replicas: 2
storage: [configmaps, secrets]
namespacesDenylist: [kube-system]
payload: never
releaseLabels: [team]
extraArgs: [--log.level=debug]
resources: {limits: {cpu: 1}}
podAnnotations: {example.test/a: b}
podLabels: {team: shop}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname}]}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
serviceAccount: {name: other, annotations: {example.test/a: b}}
service: {port: 80, annotations: {example.test/a: b}}
tls: {enabled: true, secretName: other, clientConfig: {insecureSkipVerify: true}}
serviceMonitor: &monitor
  enabled: true
  labels: {release: prometheus}
  interval: 30s
  scrapeTimeout: 10s
  relabelings: [{targetLabel: cluster, replacement: one}]
  metricRelabelings: [{action: drop, sourceLabels: [__name__], regex: go_.*}]
podMonitor: *monitor
prometheusRule: {enabled: true, labels: {release: prometheus}}
dashboard: {enabled: true, annotations: {folder: Helm}}
networkPolicy:
  enabled: true
  from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  apiServer: {cidrs: [10.0.0.1/32]}
`

// TestObjectsAreAccepted checks that the API server accepts all objects that are shipped and knows all their fields.
func TestObjectsAreAccepted(t *testing.T) {
	t.Parallel()
	// No other test uses these custom resources.
	kubectl(t, "", "apply", "--server-side", "-f", process.Path("crds"))
	kubectl(t, "", "wait", "--for=condition=Established", "--timeout="+patience.String(), "-f", process.Path("crds"))
	namespace := newNamespace(t, "accepted")

	t.Run("of the components", func(t *testing.T) {
		t.Parallel()
		objects := kubectl(t, "", "kustomize", shipped.WriteKustomizations(t, map[string]string{".": "namespace: " + namespace + "\n" +
			shipped.Kustomization("base", "cluster-wide", "configmaps", "service-monitor", "pod-monitor", "rules", "dashboard", "network-policy", "tls")}))
		accepted(t, objects)
	})
	t.Run("of the chart", func(t *testing.T) {
		t.Parallel()
		values := writeFile(t, "values.yaml", everyValue)
		for _, version := range []string{"helm3", "helm4"} {
			accepted(t, newHelm(t, version, namespace, "secret").run(t, "template app "+shipped.Chart()+" --kube-version=1.36.0 --values="+values))
		}
	})
}

// accepted has the API server check the objects without storing them.
func accepted(t *testing.T, objects string) {
	t.Helper()
	answer := kubectl(t, objects, "create", "--dry-run=server", "--validate=strict", "-f", "-")
	if got, want := strings.Count(answer, "created (server dry run)"), strings.Count(objects, "\nkind: "); got != want {
		t.Errorf("%d of %d objects are accepted:\n%s", got, want, answer)
	}
}
