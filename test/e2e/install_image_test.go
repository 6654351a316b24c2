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
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// buildImage has make build the image for two architectures, and returns the
// name of the one that runs here. Names are taken away when the test is over.
func buildImage(t *testing.T) string {
	t.Helper()
	name := filepath.Base(shared.dir) // no other run has it
	build := exec.Command("make", "image", "ARCH=amd64 arm64", "IMAGE="+name, "TAG=test")
	build.Dir = filepath.Join("..", "..")
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
		label + "licenses": "Apache-2.0",
	}
	for _, stamped := range []string{"version", "revision", "created"} {
		if want.Labels[label+stamped] = config.Labels[label+stamped]; want.Labels[label+stamped] == "" {
			t.Errorf("the image has no label for its %s", stamped)
		}
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
