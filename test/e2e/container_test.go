package e2e_test

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// buildImage builds the image for two architectures until the end of the test, and returns the name for this machine.
func buildImage(t *testing.T) string {
	t.Helper()
	name := filepath.Base(shared.dir) // It is unique.
	build := exec.Command("make", "image", "ARCH=amd64 arm64", "IMAGE="+name, "TAG=test")
	build.Dir = process.Root()
	build.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") })
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make image: %v\n%s", err, out)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		tag := name + ":test-" + arch
		t.Cleanup(func() { docker(t, "rmi", tag) })
		if got := strings.TrimSpace(string(docker(t, "inspect", "--format={{.Architecture}}", tag))); got != arch {
			t.Errorf("the image %s is for %s", tag, got)
		}
	}
	return name + ":test-" + runtime.GOARCH
}

// inspectImage checks the configuration of the image, and that it contains no shell or other files.
func inspectImage(t *testing.T, image string) {
	t.Helper()
	var config struct {
		User       string
		Entrypoint []string
		Cmd        []string
		Labels     map[string]string
	}
	expect.NoError(t, json.Unmarshal([]byte(string(docker(t, "inspect", "--format={{json .Config}}", image))), &config))
	const label = "org.opencontainers.image."
	want := config
	want.User, want.Entrypoint, want.Cmd = "65532:65532", []string{"/helm-state-metrics"}, nil
	want.Labels = map[string]string{
		label + "title": "helm-state-metrics", label + "description": "Prometheus metrics about the state of Helm releases",
		label + "licenses": "Apache-2.0",
	}
	for _, stamped := range []string{"version", "revision", "created"} {
		if want.Labels[label+stamped] = config.Labels[label+stamped]; want.Labels[label+stamped] == "" {
			t.Errorf("the image has no label for its %s", stamped)
		}
	}
	expect.Equal(t, "the config differs", want, config)

	container := strings.TrimSpace(string(docker(t, "create", image)))
	defer docker(t, "rm", container)
	files := tar.NewReader(bytes.NewReader(docker(t, "export", container)))
	var names []string
	for {
		file, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if file.Typeflag != tar.TypeReg || file.Size == 0 { // Docker creates empty files for mounts.
			continue
		}
		names = append(names, file.Name)
		if strings.HasSuffix(file.Name, ".crt") {
			text := expect.Value(io.ReadAll(files))(t)
			if !x509.NewCertPool().AppendCertsFromPEM(text) {
				t.Errorf("%s contains no certificates", file.Name)
			}
		}
	}
	expect.Equal(t, "the files differ", []string{"etc/ssl/certs/ca-certificates.crt", "helm-chart-versions", "helm-state-metrics", "licenses/LICENSES.txt"}, names)
}

// dockerMissing returns why no container can run here, or nil.
func dockerMissing() error {
	if runtime.GOOS != "linux" {
		return errors.New("the test needs the network of the host, which containers only have on Linux")
	}
	if out, err := exec.Command("docker", "version", "--format={{.Server.Version}}").CombinedOutput(); err != nil {
		return errors.New(strings.TrimSpace(fmt.Sprintf("docker version: %v %s", err, out)))
	}
	return nil
}

func docker(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("docker", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", args[0], err, &stderr)
	}
	return out
}

type container struct {
	*exporter
	name string
}

// startContainer runs the image as a kubelet would, but as an arbitrary user and on the loopback interface.
func startContainer(t *testing.T, image string, d *appsv1.Deployment, mounts map[string]string) container {
	t.Helper()
	server := expect.Value(url.Parse(shared.config.Host))(t)
	spec := d.Spec.Template.Spec.Containers[0]
	name := filepath.Base(shared.dir) + "-" + d.Namespace
	args := []string{
		"run", "--rm", "--name", name, "--network", "host", "--user", "54321:54321",
		"--env", "KUBERNETES_SERVICE_HOST=" + server.Hostname(), "--env", "KUBERNETES_SERVICE_PORT=" + server.Port(),
	}
	for path, dir := range mounts {
		args = append(args, "--volume", dir+":"+path+":ro")
	}
	args = append(append(args, confinement(spec)...), image)
	args = append(append(args, spec.Args...), anyPorts()...)
	// It is still there if the test fails before the exporter listens.
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "--force", name).Run() })
	c := container{runExporter(t, exec.Command("docker", args...)), name}
	t.Cleanup(func() { c.end(t) })
	return c
}

// confinement returns the flags of docker run for the restrictions of the pod.
func confinement(spec corev1.Container) []string {
	limit := spec.Resources.Limits[corev1.ResourceMemory]
	flags := []string{"--memory", fmt.Sprint(limit.Value())}
	security := spec.SecurityContext
	if *security.ReadOnlyRootFilesystem {
		flags = append(flags, "--read-only")
	}
	if !*security.AllowPrivilegeEscalation {
		flags = append(flags, "--security-opt", "no-new-privileges")
	}
	for _, capability := range security.Capabilities.Drop {
		flags = append(flags, "--cap-drop", string(capability))
	}
	return flags
}

// end stops the container, which has to end in time and with exit status 0. It may be called more than once.
func (c container) end(t *testing.T) {
	t.Helper()
	if c.Ended() {
		return
	}
	docker(t, "stop", c.name)
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("docker run does not end")
	}
	if code := c.ExitCode(); code != 0 {
		t.Errorf("the container ended with exit status %d on SIGTERM", code)
	}
	if t.Failed() {
		t.Logf("the log of the container:\n%s", c.Output())
	}
}

// probesAnswer makes the requests of the kubelet.
func probesAnswer(t *testing.T, c container, d *appsv1.Deployment) {
	t.Helper()
	spec := d.Spec.Template.Spec.Containers[0]
	for _, probe := range []*corev1.Probe{spec.LivenessProbe, spec.ReadinessProbe} {
		if probe.HTTPGet.Scheme != corev1.URISchemeHTTP || probe.HTTPGet.Port.StrVal != "health" {
			t.Errorf("the probe requests something else: %v", probe.HTTPGet)
		}
		eventually(t, patience, c.answers(probe.HTTPGet.Path, http.StatusOK))
	}
}

// obeysMemoryLimit checks that the Go runtime uses the memory limit of the container.
func obeysMemoryLimit(t *testing.T, c container, d *appsv1.Deployment) {
	t.Helper()
	limit := d.Spec.Template.Spec.Containers[0].Resources.Limits[corev1.ResourceMemory]
	expect.NoError(t, c.has(series{"go_gc_gomemlimit_bytes": float64(limit.Value() * 9 / 10)})())
}

// mountsOf returns the directories that the kubelet would mount into a Deployment's pod, by their paths there.
func mountsOf(t *testing.T, d *appsv1.Deployment) map[string]string {
	t.Helper()
	pod, mounts := d.Spec.Template.Spec, make(map[string]string)
	volumes := make(map[string]corev1.Volume)
	for _, volume := range pod.Volumes {
		volumes[volume.Name] = volume
	}
	for _, mount := range pod.Containers[0].VolumeMounts {
		files := make(map[string][]byte)
		for _, source := range volumes[mount.Name].Projected.Sources {
			maps.Copy(files, projected(t, d, source))
		}
		mounts[mount.MountPath] = writeFiles(t, files)
	}
	return mounts
}

// projected returns the files that a projection makes of its source.
func projected(t *testing.T, d *appsv1.Deployment, source corev1.VolumeProjection) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	pick := func(data map[string][]byte, items []corev1.KeyToPath) {
		for _, item := range items {
			if files[item.Path] = data[item.Key]; files[item.Path] == nil {
				t.Fatalf("there is no %s", item.Key)
			}
		}
	}
	switch {
	case source.ServiceAccountToken != nil:
		files[source.ServiceAccountToken.Path] = []byte(requestToken(t, d))
	case source.DownwardAPI != nil:
		for _, item := range source.DownwardAPI.Items {
			expect.Equal(t, "the field differs", "metadata.namespace", item.FieldRef.FieldPath)
			files[item.Path] = []byte(d.Namespace)
		}
	case source.ConfigMap != nil:
		// The controller that publishes it does not run here.
		expect.Equal(t, "the ConfigMap differs", "kube-root-ca.crt", source.ConfigMap.Name)
		pick(map[string][]byte{"ca.crt": shared.config.CAData}, source.ConfigMap.Items)
	case source.Secret != nil:
		secret := expect.Value(shared.client.CoreV1().Secrets(d.Namespace).Get(t.Context(), source.Secret.Name, metav1.GetOptions{}))(t)
		if len(source.Secret.Items) == 0 {
			return secret.Data
		}
		pick(secret.Data, source.Secret.Items)
	}
	return files
}

// writeFiles writes files that everybody may read into a new directory, and returns its path.
func writeFiles(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		expect.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	return dir
}
