package e2e_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mountsOf are the directories that the kubelet would mount into the pod of a
// Deployment, by their paths in there.
func mountsOf(t *testing.T, d *appsv1.Deployment) map[string]string {
	t.Helper()
	pod := d.Spec.Template.Spec
	if pod.AutomountServiceAccountToken == nil || !*pod.AutomountServiceAccountToken {
		t.Fatal("the pod does not ask for its token")
	}
	mounts := map[string]string{"/var/run/secrets/kubernetes.io/serviceaccount": writeFiles(t, map[string][]byte{
		"token":     []byte(requestToken(t, d)),
		"ca.crt":    shared.config.CAData,
		"namespace": []byte(d.Namespace),
	})}
	volumes := make(map[string]corev1.Volume)
	for _, volume := range pod.Volumes {
		volumes[volume.Name] = volume
	}
	for _, mount := range pod.Containers[0].VolumeMounts {
		files := make(map[string][]byte)
		for _, source := range volumes[mount.Name].Projected.Sources {
			maps.Copy(files, projected(t, d.Namespace, source.Secret))
		}
		mounts[mount.MountPath] = writeFiles(t, files)
	}
	return mounts
}

// projected are the files that a projection makes of a Secret.
func projected(t *testing.T, namespace string, projection *corev1.SecretProjection) map[string][]byte {
	t.Helper()
	secret, err := shared.client.CoreV1().Secrets(namespace).Get(t.Context(), projection.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(projection.Items) == 0 {
		return secret.Data
	}
	files := make(map[string][]byte)
	for _, item := range projection.Items {
		data, ok := secret.Data[item.Key]
		if !ok {
			t.Fatalf("the Secret %s has no %s", projection.Name, item.Key)
		}
		files[item.Path] = data
	}
	return files
}

// writeFiles writes files that everybody may read into a directory of theirs.
func writeFiles(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
