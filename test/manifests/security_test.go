package manifests_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestPodIsConfined checks what goes beyond the level "restricted", which the API server enforces, too.
func TestPodIsConfined(t *testing.T) {
	yes, no := true, false
	found := map[string]int{}
	for _, o := range parse(t, mustBuild(t, "default", "tls")) {
		found[o.GetKind()]++
		switch o.GetKind() {
		case "ServiceAccount":
			account := into[corev1.ServiceAccount](t, o)
			if diff := cmp.Diff(&no, account.AutomountServiceAccountToken); diff != "" {
				t.Errorf("every pod of the account gets its token (-want +got):\n%s", diff)
			}
		case "Deployment":
			pod := into[appsv1.Deployment](t, o).Spec.Template.Spec
			want := pod
			want.AutomountServiceAccountToken, want.EnableServiceLinks = &yes, &no
			want.SecurityContext = &corev1.PodSecurityContext{
				RunAsNonRoot:   &yes,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			}
			want.HostNetwork, want.HostPID, want.HostIPC, want.InitContainers = false, false, false, nil
			want.Containers = []corev1.Container{*pod.Containers[0].DeepCopy()}
			want.Containers[0].SecurityContext = &corev1.SecurityContext{
				AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}
			if diff := cmp.Diff(want, pod); diff != "" {
				t.Errorf("the pod is not confined (-want +got):\n%s", diff)
			}
		}
	}
	if found["ServiceAccount"] != 1 || found["Deployment"] != 1 {
		t.Errorf("the objects are %v", found)
	}
}

// TestScrapesKeepNamespaces checks for honorLabels, without which all releases would be in the namespace of the
// exporter.
func TestScrapesKeepNamespaces(t *testing.T) {
	endpoints := map[string]string{"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}
	for _, o := range parse(t, mustBuild(t, "default", "service-monitor", "pod-monitor")) {
		list, found, err := unstructured.NestedSlice(o.Object, "spec", endpoints[o.GetKind()])
		if err != nil || !found {
			continue
		}
		delete(endpoints, o.GetKind())
		for _, endpoint := range list {
			if endpoint.(map[string]any)["honorLabels"] != true {
				t.Errorf("%s does not honor labels: %v", key(o), endpoint)
			}
		}
	}
	if len(endpoints) > 0 {
		t.Errorf("there is none of %v", endpoints)
	}
}
