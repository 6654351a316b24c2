package e2e_test

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// buildImage builds the image as make image does, with the exporter that all
// other tests run, and takes its name away when the test is over.
func buildImage(t *testing.T) string {
	t.Helper()
	const tag = "helm-state-metrics:e2e"
	context := t.TempDir()
	roots := exec.Command("go", "run", ".")
	roots.Dir = filepath.Join("..", "tools", "roots")
	certificates, err := roots.Output()
	if err != nil {
		t.Fatalf("go run in %s: %v", roots.Dir, err)
	}
	binary, err := os.ReadFile(program("helm-state-metrics"))
	if err != nil {
		t.Fatal(err)
	}
	platform := filepath.Join(context, "linux-"+runtime.GOARCH)
	if err := errors.Join(
		os.WriteFile(filepath.Join(context, "ca-certificates.crt"), certificates, 0o644),
		os.Mkdir(platform, 0o755),
		os.WriteFile(filepath.Join(platform, "helm-state-metrics"), binary, 0o755),
	); err != nil {
		t.Fatal(err)
	}
	docker(t, "build", "--quiet", "--file", filepath.Join("..", "..", "Dockerfile"), "--tag", tag,
		"--build-arg", "TARGETARCH="+runtime.GOARCH, "--build-arg", "VERSION=1.2.3", "--build-arg", "REVISION=abc",
		"--build-arg", "CREATED=2026-01-02T03:04:05Z", context)
	t.Cleanup(func() { docker(t, "rmi", tag) })
	return tag
}

// inspectImage looks for a shell or whatever else does not belong there.
func inspectImage(t *testing.T, image string) {
	t.Helper()
	var config struct {
		User       string
		Entrypoint []string
		Cmd        []string
		Labels     map[string]string
	}
	decodeJSON(t, string(docker(t, "inspect", "--format={{json .Config}}", image)), &config)
	const label = "org.opencontainers.image."
	want := config
	want.User, want.Entrypoint, want.Cmd = "65532:65532", []string{"/helm-state-metrics"}, nil
	want.Labels = map[string]string{
		label + "title": "helm-state-metrics", label + "description": "Prometheus metrics about the state of Helm releases",
		label + "licenses": "Apache-2.0", label + "version": "1.2.3", label + "revision": "abc", label + "created": "2026-01-02T03:04:05Z",
	}
	if diff := cmp.Diff(want, config); diff != "" {
		t.Errorf("the config differs (-want +got):\n%s", diff)
	}

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
		if file.Typeflag != tar.TypeReg || file.Size == 0 { // Docker's own places for mounts are empty
			continue
		}
		names = append(names, file.Name)
		if strings.HasSuffix(file.Name, ".crt") {
			text, err := io.ReadAll(files)
			if err != nil {
				t.Fatal(err)
			}
			if !x509.NewCertPool().AppendCertsFromPEM(text) {
				t.Errorf("%s holds no certificates", file.Name)
			}
		}
	}
	if diff := cmp.Diff([]string{"etc/ssl/certs/ca-certificates.crt", "helm-state-metrics"}, names); diff != "" {
		t.Errorf("the files differ (-want +got):\n%s", diff)
	}
}
