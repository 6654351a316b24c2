package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

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
		admitted(t, withProxy(t, d))

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
			// Both have the same name, in different namespaces of one cluster.
			h.run(t, "install app "+exporterChart())
			d := deployed(t, h.namespace, "app-helm-state-metrics")
			accepted(t, h.run(t, "get hooks app"))
			require(t, "docker", missing)
			c := startContainer(t, image, d, mountsOf(t, d))
			eventually(t, patience, c.has(series{seriesName("helm_release_info", map[string]string{
				"name": "app", "namespace": h.namespace, "revision": "1",
				"chart": "helm-state-metrics", "chart_version": "0.1.0", "app_version": "0.1.0",
			}): 1}))
			probesAnswer(t, c, d)
			c.end(t)

			// The rights change with the values, change back, and end.
			narrow := map[string]bool{"get secrets in " + h.namespace: true, "list secrets in " + h.namespace: true, "watch secrets in " + h.namespace: true}
			for _, values := range []string{",rbac.clusterRole=false", "", ",rbac.clusterRole=false"} {
				h.run(t, "upgrade app "+exporterChart()+" --set=namespaces={"+h.namespace+"}"+values)
				expect.Equal(t, "after the upgrade", narrow, granted(t, d))
			}
			h.run(t, "rollback app 1")
			expect.Equal(t, "after the rollback", map[string]bool{"get secrets": true, "list secrets": true, "watch secrets": true}, granted(t, d))
			h.run(t, "uninstall app")
			if left := granted(t, d); len(left) > 0 {
				t.Errorf("after the uninstallation the account still has the rights %v", left)
			}
		})
	})
	t.Run("by Helm with TLS and a password", func(t *testing.T) {
		t.Parallel()
		h := newHelm(t, "helm4", newNamespace(t, "tls"), "secret")
		cert, key := selfSigned(t)
		kubectl(t, "", "create", "secret", "tls", "certificate", "-n", h.namespace,
			"--cert="+writeFile(t, "tls.crt", cert), "--key="+writeFile(t, "tls.key", key))
		kubectl(t, "", "create", "secret", "generic", "web", "-n", h.namespace,
			"--from-literal=web.yml=tls_server_config: {cert_file: tls.crt, key_file: tls.key}\nbasic_auth_users: {prometheus: "+passwordHash+"}")
		h.run(t, "install app "+exporterChart()+" --set=tls.enabled=true,tls.secretName=certificate,tls.webConfigSecretName=web")
		d := deployed(t, h.namespace, "app-helm-state-metrics")
		require(t, "docker", missing)
		c := startContainer(t, image, d, mountsOf(t, d))
		probesAnswer(t, c, d)
		authorities := x509.NewCertPool()
		authorities.AppendCertsFromPEM([]byte(cert))
		c.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}}
		plain := c.metrics
		c.metrics = strings.Replace(plain, "http:", "https:", 1)
		eventually(t, patience, c.answers("/metrics", http.StatusUnauthorized))
		c.metrics = strings.Replace(plain, "http://", "https://prometheus:correct%20horse@", 1)
		eventually(t, patience, c.answers("/metrics", http.StatusOK))
		c.end(t)
	})
	t.Run("by Helm with shards", func(t *testing.T) {
		t.Parallel()
		h := newHelm(t, "helm4", newNamespace(t, "shards"), "secret")
		h.run(t, "install app "+exporterChart())
		h.run(t, "upgrade app "+exporterChart()+" --set=shards=2")
		s := expect.Value(shared.client.AppsV1().StatefulSets(h.namespace).Get(t.Context(), "app-helm-state-metrics", metav1.GetOptions{}))(t)
		expect.Value(shared.client.CoreV1().Services(h.namespace).Get(t.Context(), s.Spec.ServiceName, metav1.GetOptions{}))(t)
		require(t, "docker", missing)
		shows := 0
		for ordinal := range *s.Spec.Replicas {
			d := shard(s, fmt.Sprint(ordinal))
			c := startContainer(t, image, d, mountsOf(t, d))
			c.awaitReady(t)
			expect.NoError(t, c.has(series{
				fmt.Sprintf(`helm_state_metrics_shard_ordinal{shard_ordinal="%d"}`, ordinal): float64(ordinal),
				"helm_state_metrics_total_shards":                                            2,
			})())
			all := expect.Value(c.scrape())(t)
			if _, ok := all[seriesName("helm_release_revision", map[string]string{"name": "app", "namespace": h.namespace})]; ok {
				shows++
			}
			c.end(t)
		}
		expect.Equal(t, "the number of shards that have the release differs", 1, shows)
	})
}

// exporterChart returns the arguments of Helm for the chart of the exporter, with the value that it requires.
func exporterChart() string { return shipped.Chart() + " --set=image.repository=helm-state-metrics" }

// shard returns a Deployment with the pod that the controller and the kubelet make of a StatefulSet.
func shard(s *appsv1.StatefulSet, ordinal string) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: s.ObjectMeta, Spec: appsv1.DeploymentSpec{Template: *s.Spec.Template.DeepCopy()}}
	container := &d.Spec.Template.Spec.Containers[0]
	for _, variable := range container.Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil && from.FieldRef.FieldPath == "metadata.labels['"+appsv1.PodIndexLabel+"']" {
			value = ordinal
		}
		for i := range container.Args {
			container.Args[i] = strings.ReplaceAll(container.Args[i], "$("+variable.Name+")", value)
		}
	}
	return d
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

// withProxy adds the container of the example in docs/pages.md.
func withProxy(t *testing.T, d *appsv1.Deployment) *appsv1.Deployment {
	t.Helper()
	text := string(expect.Value(os.ReadFile(filepath.Join(process.Root(), "docs", "pages.md")))(t))
	_, text, _ = strings.Cut(text, "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	var values struct {
		ExtraContainers []corev1.Container `json:"extraContainers"`
	}
	expect.NoError(t, yaml.Unmarshal([]byte(text), &values))
	expect.Equal(t, "the number of containers differs", 1, len(values.ExtraContainers))
	d = d.DeepCopy()
	d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, values.ExtraContainers...)
	return d
}

// admitted checks that the pod of a Deployment is admitted to a namespace that enforces the level "restricted", and
// that only its first container has a token.
func admitted(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
	pod.Name = "one"
	pod, err := shared.client.CoreV1().Pods(d.Namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	expect.NoError(t, err)
	for i, container := range pod.Spec.Containers {
		hasToken := slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.MountPath == "/var/run/secrets/kubernetes.io/serviceaccount"
		})
		expect.Equal(t, "whether the container "+container.Name+" has a token", i == 0, hasToken)
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
image: {repository: example.test/helm-state-metrics, digest: "sha256:abc", pullPolicy: Always}
imagePullSecrets: [{name: registry}]
replicas: 2
ports: {http: 9100, health: 9101}
storage: [configmaps, secrets]
namespacesDenylist: [kube-system]
payload: never
releaseLabels: [team]
maxReleasesPerNamespace: 1000
extraArgs: [--log.level=debug]
env: [{name: GOGC, value: "50"}]
extraVolumes: [{name: cache, emptyDir: {}}]
extraVolumeMounts: [{name: cache, mountPath: /cache}]
extraContainers: [{name: proxy, image: example.test/proxy}]
resources: {limits: {cpu: 1}}
podAnnotations: {example.test/a: b}
podLabels: {team: shop}
podSecurityContext: {runAsUser: 65532, fsGroup: 65532}
securityContext: {runAsUser: 65532}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname}]}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
priorityClassName: system-cluster-critical
serviceAccount: {name: other, annotations: {example.test/a: b}}
service: {port: 80, annotations: {example.test/a: b}}
tls: {enabled: true, secretName: other, webConfigSecretName: web, clientConfig: {insecureSkipVerify: true}}
auth: {enabled: true, audiences: [helm-state-metrics], tenantView: true}
serviceMonitor: &monitor
  enabled: true
  namespace: default
  labels: {release: prometheus}
  annotations: {example.test/a: b}
  interval: 30s
  scrapeTimeout: 10s
  targetLabels: [app.kubernetes.io/version]
  sampleLimit: 100000
  basicAuth: {username: {name: user, key: user}, password: {name: user, key: password}}
  authorization: {credentials: {name: token, key: token}}
  relabelings: [{targetLabel: cluster, replacement: one}]
  metricRelabelings: [{action: drop, sourceLabels: [__name__], regex: go_.*}]
podMonitor: *monitor
prometheusRule:
  enabled: true
  namespace: default
  labels: {release: prometheus}
  runbookURL: https://example.test/runbook
  overrides:
    HelmReleaseFailed: {expr: vector(1), for: 1m, keep_firing_for: 1m, labels: {severity: critical}, annotations: {example: a}}
    helm_state_metrics:pending_after_seconds: {expr: 1800, labels: {example: a}}
  disabled: [HelmReleaseChartDeprecated]
dashboard: {enabled: true, namespace: default, labels: {folder: helm}, annotations: {folder: Helm}}
networkPolicy:
  enabled: true
  namespaces: [monitoring]
  from: [{ipBlock: {cidr: 10.0.0.2/32}}]
  apiServer: {ports: [6443], cidrs: [10.0.0.1/32]}
chartVersions:
  enabled: true
  config: {repositories: [{name: stable, url: https://charts.example.test}], rules: [{chart: web, constraint: ^1}]}
  registrySecretName: registry
  interval: 12h
  exporterURLs: ["cluster=other,https://example.test/metrics"]
  stateVolume: {persistentVolumeClaim: {claimName: state}}
  allowUnauthenticated: true
  monitor: {metricRelabelings: [{action: labeldrop, regex: chart}]}
  extraArgs: [--log.level=debug]
  env: [{name: HTTPS_PROXY, value: "http://proxy.example.test:3128"}]
  extraVolumes: [{name: index, emptyDir: {}}]
  extraVolumeMounts: [{name: index, mountPath: /index}]
  resources: {limits: {cpu: 1}}
  podAnnotations: {example.test/a: b}
  podLabels: {team: shop}
  networkPolicy: {repositories: [{to: [{ipBlock: {cidr: 10.0.0.3/32}}], ports: [{port: 3128}]}]}
`

// TestObjectsAreAccepted checks that the API server accepts all objects that are shipped and knows all their fields.
func TestObjectsAreAccepted(t *testing.T) {
	t.Parallel()
	// No other test uses these custom resources.
	kubectl(t, "", "apply", "--server-side", "-f", process.Path("crds"))
	kubectl(t, "", "wait", "--for=condition=Established", "--timeout="+patience.String(), "-f", process.Path("crds"))
	namespace := newNamespace(t, "accepted")

	for name, components := range map[string][]string{
		"of the components":             {"cluster-wide", "two-replicas", "configmaps", "service-monitor", "pod-monitor", "rules", "dashboard", "network-policy", "tls", "auth", "tenant-view"},
		"of the components with shards": {"shards", "cluster-wide", "service-monitor", "auth"},
		"of the components with chart versions": {
			"cluster-wide", "network-policy", "tls", "auth", "chart-versions", "chart-versions/service-monitor", "chart-versions/pod-monitor",
			"chart-versions/network-policy", "chart-versions/tls", "chart-versions/auth",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			accepted(t, kubectl(t, "", "kustomize", shipped.WriteKustomizations(t, map[string]string{
				".": "namespace: " + namespace + "\n" + shipped.Kustomization("base", components...),
			})))
		})
	}
	t.Run("of the chart", func(t *testing.T) {
		t.Parallel()
		values := writeFile(t, "values.yaml", everyValue)
		for _, more := range []string{
			"", "replicas=1,shards=2", "namespaces={" + namespace + "}", "rbac.clusterRole=false,namespaces={" + namespace + "}",
			"tls.webConfigSecretName=,fullnameOverride=other,image.digest=,image.tag=v1",
			"payload=lazy,chartVersions.exporterURLs=null,chartVersions.configSecretName=other",
		} {
			for _, version := range []string{"helm3", "helm4"} {
				// The pod of the test can be created only after the service account: see TestInstall.
				accepted(t, newHelm(t, version, namespace, "secret").
					run(t, "template app "+shipped.Chart()+" --kube-version=1.36.0 --skip-tests --values="+values+" --set="+more))
			}
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
