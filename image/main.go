// Command image writes a container image of the programs that its arguments name to stdout, as an archive for
// `docker load`. It needs no Docker, and writes the same bytes for the same files and flags.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run() error {
	tag := flag.String("name", "", "name and tag of the image")
	arch := flag.String("arch", "", "architecture of the image")
	version := flag.String("version", "", "version of the programs")
	revision := flag.String("revision", "", "commit of the programs")
	licenses := flag.String("licenses", "", "file with the licenses of all that is in the image")
	var created v1.Time
	flag.TextVar(&created, "created", v1.Time{Time: time.Unix(0, 0)}, "time of the commit, which is that of all files")
	flag.Parse()

	ref, err := name.NewTag(*tag)
	if err != nil {
		return fmt.Errorf("-name: %w", err)
	}
	created.Time = created.UTC()
	files, err := layer(flag.Args(), *licenses, created.Time)
	if err != nil {
		return fmt.Errorf("layer: %w", err)
	}

	const label = "org.opencontainers.image."
	config := v1.ConfigFile{Architecture: *arch, OS: "linux", Created: created, RootFS: v1.RootFS{Type: "layers"}}
	config.Config = v1.Config{
		User:         "65532:65532",
		Entrypoint:   []string{"/helm-state-metrics"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "8081/tcp": {}, "8083/tcp": {}, "8084/tcp": {}},
		Labels: map[string]string{
			label + "title":       "helm-state-metrics",
			label + "description": "Prometheus metrics about the state of Helm releases",
			label + "licenses":    "Apache-2.0",
			label + "version":     *version,
			label + "revision":    *revision,
			label + "created":     created.Format(time.RFC3339),
		},
	}
	image, err := mutate.ConfigFile(empty.Image, &config)
	if err != nil {
		return err
	}
	image, err = mutate.Append(image, mutate.Addendum{Layer: files, History: v1.History{Created: created, CreatedBy: "make image"}})
	if err != nil {
		return err
	}
	return tarball.Write(ref, image, os.Stdout)
}

// layer returns the files of the image: the programs, their licenses, and the authorities that Mozilla trusts, whoever
// builds it.
func layer(programs []string, licenses string, date time.Time) (v1.Layer, error) {
	texts, err := os.ReadFile(licenses)
	if err != nil {
		return nil, fmt.Errorf("-licenses: %w", err)
	}
	var roots []byte
	for root := range bundle.Roots() {
		// A constraint trusts only old certificates, which a PEM file cannot say.
		if root.Constraint == nil {
			roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})...)
		}
	}
	dir := &fstest.MapFile{Mode: fs.ModeDir | 0o755, ModTime: date}
	files := fstest.MapFS{
		"etc": dir, "etc/ssl": dir, "etc/ssl/certs": dir, "licenses": dir,
		// The directory is where scanners of Red Hat and others look.
		"licenses/LICENSES.txt":             {Data: texts, Mode: 0o644, ModTime: date},
		"etc/ssl/certs/ca-certificates.crt": {Data: roots, Mode: 0o644, ModTime: date},
	}
	for _, program := range programs {
		binary, err := os.ReadFile(program)
		if err != nil {
			return nil, err
		}
		files[filepath.Base(program)] = &fstest.MapFile{Data: binary, Mode: 0o755, ModTime: date}
	}
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	if err := errors.Join(writer.AddFS(files), writer.Close()); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
}
