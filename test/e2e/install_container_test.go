package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// dockerMissing tells why no container can be run here.
func dockerMissing() error {
	if runtime.GOOS != "linux" {
		return errors.New("the network of the host is needed, which only Linux gives to a container")
	}
	if out, err := exec.Command("docker", "version", "--format={{.Server.Version}}").CombinedOutput(); err != nil {
		return errors.New(strings.TrimSpace(fmt.Sprintf("docker version: %v %s", err, out)))
	}
	return nil
}

// docker returns what a command of docker writes.
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

// container is an exporter in a container.
type container struct {
	*exporter
	name string
}

// startContainer runs the image as a kubelet would run the Deployment's pod,
// but as a user that it does not name, and on the loopback interface.
func startContainer(t *testing.T, image string, d *appsv1.Deployment, mounts map[string]string) container {
	t.Helper()
	server, err := url.Parse(shared.config.Host)
	if err != nil {
		t.Fatal(err)
	}
	spec := d.Spec.Template.Spec.Containers[0]
	c := container{
		exporter: &exporter{client: &http.Client{Timeout: patience}, done: make(chan struct{})},
		name:     filepath.Base(shared.dir) + "-" + d.Namespace,
	}
	args := []string{
		"run", "--rm", "--name", c.name, "--network", "host", "--user", "54321:54321",
		"--env", "KUBERNETES_SERVICE_HOST=" + server.Hostname(), "--env", "KUBERNETES_SERVICE_PORT=" + server.Port(),
	}
	for path, dir := range mounts {
		args = append(args, "--volume", dir+":"+path+":ro")
	}
	args = append(append(args, confinement(spec)...), image)
	args = append(append(args, spec.Args...), "--web.listen-address=127.0.0.1:0")
	c.cmd = exec.Command("docker", args...)
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	go c.follow(stderr, address)
	t.Cleanup(func() { c.end(t) })
	select {
	case a := <-address:
		c.url = "http://" + a
	case <-c.done:
		t.Fatalf("the container ended instead of listening:\n%s", c.logged())
	case <-time.After(patience):
		t.Fatal("the exporter in the container does not listen")
	}
	return c
}

// confinement are the flags of docker run for what the pod may not do.
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

// end stops the container, which has to end in time and with status 0.
func (c container) end(t *testing.T) {
	t.Helper()
	select {
	case <-c.done:
		return // it was looked at then, or the test has failed
	default:
	}
	docker(t, "stop", c.name)
	select {
	case <-c.done:
	case <-time.After(patience):
		t.Fatal("docker run does not end")
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the container ended with status %d on SIGTERM", code)
	}
	if t.Failed() {
		t.Logf("the log of the container:\n%s", c.logged())
	}
}

// probesAnswer makes the requests that the kubelet would.
func probesAnswer(t *testing.T, c container, d *appsv1.Deployment) {
	t.Helper()
	scheme, _, _ := strings.Cut(c.url, ":")
	spec := d.Spec.Template.Spec.Containers[0]
	for _, probe := range []*corev1.Probe{spec.LivenessProbe, spec.ReadinessProbe} {
		if !strings.EqualFold(string(probe.HTTPGet.Scheme), scheme) || probe.HTTPGet.Port.StrVal != spec.Ports[0].Name {
			t.Errorf("the probe asks elsewhere: %v", probe.HTTPGet)
		}
		eventually(t, patience, c.answers(probe.HTTPGet.Path, http.StatusOK))
	}
}

// obeysMemoryLimit checks that Go knows of the limit that the container has.
func obeysMemoryLimit(t *testing.T, c container, d *appsv1.Deployment) {
	t.Helper()
	limit := d.Spec.Template.Spec.Containers[0].Resources.Limits[corev1.ResourceMemory]
	if err := c.has(series{"go_gc_gomemlimit_bytes": float64(limit.Value() * 9 / 10)})(); err != nil {
		t.Error(err)
	}
}
