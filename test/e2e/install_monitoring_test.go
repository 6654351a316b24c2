package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// everyValue sets every value of the chart that ends up in an object.
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

// TestObjectsAreAccepted asks the API server about everything that can be
// shipped, and to refuse fields that it does not know.
func TestObjectsAreAccepted(t *testing.T) {
	t.Parallel()
	// No other test has to do with these.
	kubectl(t, "", "apply", "--server-side", "-f", program("crds"))
	kubectl(t, "", "wait", "--for=condition=Established", "--timeout="+patience.String(), "-f", program("crds"))
	namespace := newNamespace(t, "accepted")

	t.Run("of the components", func(t *testing.T) {
		t.Parallel()
		objects := kubectl(t, "", "kustomize", overlay(t, namespace, "base", "cluster-wide", "configmaps", "service-monitor",
			"pod-monitor", "rules", "dashboard", "network-policy", "tls"))
		accepted(t, objects)
	})
	t.Run("of the chart", func(t *testing.T) {
		t.Parallel()
		values := writeFile(t, "values.yaml", everyValue)
		for _, version := range []string{"helm3", "helm4"} {
			accepted(t, newHelm(t, version, namespace, "secret").run(t, "template app "+ownChart+" --kube-version=1.36.0 --values="+values))
		}
	})
}

// accepted has the objects created, but for that they are not kept.
func accepted(t *testing.T, objects string) {
	t.Helper()
	answer := kubectl(t, objects, "create", "--dry-run=server", "--validate=strict", "-f", "-")
	if got, want := strings.Count(answer, "created (server dry run)"), strings.Count(objects, "\nkind: "); got != want {
		t.Errorf("%d of %d objects are accepted:\n%s", got, want, answer)
	}
}

// overlay is a kustomization as an operator would write it.
func overlay(t *testing.T, namespace, base string, components ...string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir()) // as kustomize does
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(kustomizations)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = filepath.Rel(dir, root); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("namespace: %s\nresources: [%s/%s]\ncomponents:\n", namespace, root, base)
	for _, component := range components {
		text += fmt.Sprintf("- %s/components/%s\n", root, component)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
