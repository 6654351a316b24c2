// Package release_test checks what `make release` writes.
package release_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// TestReleaseIsReproducible makes a release of the current commit in two clones, one on a branch and one without, and
// compares all files.
func TestReleaseIsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("it links eight binaries")
	}
	log := command(t, process.Root(), "git", "rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD")
	_, _ = os.ReadFile(log) // go test caches the result until there is another commit.
	commit := command(t, process.Root(), "git", "rev-parse", "HEAD")

	first, second := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "another", "directory")
	for _, clone := range []string{first, second} {
		command(t, process.Root(), "git", "clone", "--quiet", ".", clone)
	}
	command(t, first, "git", "checkout", "--quiet", "-B", "release", commit)
	command(t, second, "git", "checkout", "--quiet", "--detach", commit)
	command(t, first, "make", "release")
	// The second one need not build the program that writes the SBOMs.
	expect.NoError(t, os.MkdirAll(filepath.Join(second, "bin"), 0o700))
	expect.NoError(t, os.Symlink(filepath.Join(first, "bin", "cyclonedx-gomod"), filepath.Join(second, "bin", "cyclonedx-gomod")))
	command(t, second, "make", "release", "--assume-old=bin/cyclonedx-gomod")

	files := released(t, first)
	sums := make(map[string]string)
	for name, text := range files {
		sums[name] = fmt.Sprintf("%x", sha256.Sum256(text))
	}
	again := make(map[string]string)
	for name, text := range released(t, second) {
		again[name] = fmt.Sprintf("%x", sha256.Sum256(text))
	}
	expect.Equal(t, "the two releases differ", sums, again)

	var listed strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name != "SHA256SUMS" {
			fmt.Fprintf(&listed, "%s  %s\n", sums[name], name)
		}
	}
	expect.Equal(t, "the checksums differ", listed.String(), string(files["SHA256SUMS"]))
	version := strings.TrimPrefix(command(t, first, "git", "describe", "--tags", "--always", "--abbrev=12"), "v")
	for _, arch := range []string{"amd64", "arm64"} {
		suffix := "-" + version + "-linux-" + arch
		image := contents(t, files["helm-state-metrics"+suffix+"-image.tar"], arch)
		licenses := string(files["helm-state-metrics"+suffix+"-licenses.txt"])
		expect.Equal(t, "the licenses in the image differ", licenses, string(image["licenses/LICENSES.txt"]))
		for program, library := range map[string]string{"helm-state-metrics": "k8s.io/client-go", "helm-chart-versions": "oras.land/oras-go/v2"} {
			binary := files[program+suffix]
			if !bytes.Equal(image[program], binary) || len(binary) == 0 {
				t.Errorf("the image for %s contains another %s", arch, program)
			}
			var sbom struct {
				BomFormat  string
				Components []struct{ Name, Version string }
			}
			expect.NoError(t, json.Unmarshal(files[program+suffix+".cdx.json"], &sbom))
			var names []string
			for _, c := range sbom.Components {
				names = append(names, c.Name)
				module := c.Name + " " + c.Version
				if c.Name == "std" {
					module = "Go " + strings.TrimPrefix(c.Version, "go")
				}
				if !strings.Contains(licenses, "\n"+module+": ") || !strings.Contains(licenses, "\n"+module+" LICENSE") && !strings.Contains(licenses, "\n"+module+" COPYING") {
					t.Errorf("no license of %s, which is in %s for %s", module, program, arch)
				}
			}
			if sbom.BomFormat != "CycloneDX" || !slices.Contains(names, library) || !slices.Contains(names, "std") {
				t.Errorf("the SBOM of %s for %s names %q", program, arch, names)
			}
		}
	}
}

// command runs a program in a directory, without the settings of a make that runs the test, and returns its output.
func command(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") })
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s%s", program, args, err, out, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// released returns the files of the release in a clone.
func released(t *testing.T, clone string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for _, file := range expect.Value(os.ReadDir(filepath.Join(clone, "bin", "release")))(t) {
		files[file.Name()] = expect.Value(os.ReadFile(filepath.Join(clone, "bin", "release", file.Name())))(t)
	}
	return files
}

// contents reads an archive as `docker load` does, checks all digests, and returns the files in it.
func contents(t *testing.T, image []byte, arch string) map[string][]byte {
	t.Helper()
	files := untar(t, image)
	var manifest []struct {
		Config string
		Layers []string
	}
	expect.NoError(t, json.Unmarshal(files["manifest.json"], &manifest))
	config, layer := files[manifest[0].Config], files[manifest[0].Layers[0]]
	plain := expect.Value(io.ReadAll(expect.Value(gzip.NewReader(bytes.NewReader(layer)))(t)))(t)
	expect.Equal(t, "the names differ", []string{digest(config), digest(layer)},
		[]string{manifest[0].Config, "sha256:" + strings.TrimSuffix(manifest[0].Layers[0], ".tar.gz")})

	var described struct {
		Architecture string
		RootFS       struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	expect.NoError(t, json.Unmarshal(config, &described))
	expect.Equal(t, "the layers differ", []string{digest(plain)}, described.RootFS.DiffIDs)
	expect.Equal(t, "the architecture differs", arch, described.Architecture)
	return untar(t, plain)
}

func digest(text []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(text)) }

func untar(t *testing.T, text []byte) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	reader := tar.NewReader(bytes.NewReader(text))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		expect.NoError(t, err)
		files[header.Name] = expect.Value(io.ReadAll(reader))(t)
	}
}
