// Command image writes a container image to stdout, as an archive for `docker load`. It needs no Docker, and writes the
// same bytes for the same files and flags.
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	tag := flags.String("name", "", "name and tag of the image")
	arch := flags.String("arch", "", "architecture of the image")
	version := flags.String("version", "", "version of the exporter")
	revision := flags.String("revision", "", "commit of the exporter")
	created := flags.String("created", "", "time of the commit, which is that of all files")
	exporter := flags.String("exporter", "", "path of the binary")
	roots := flags.String("roots", "", "path of the certificates of authorities")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ref, err := name.NewTag(*tag)
	if err != nil {
		return fmt.Errorf("-name: %w", err)
	}
	date, err := time.Parse(time.RFC3339, cmp.Or(*created, "1970-01-01T00:00:00Z"))
	if err != nil {
		return fmt.Errorf("-created: %w", err)
	}
	date = date.UTC()
	files, err := layer(*exporter, *roots, date)
	if err != nil {
		return fmt.Errorf("layer: %w", err)
	}

	const label = "org.opencontainers.image."
	config := v1.ConfigFile{Architecture: *arch, OS: "linux", Created: v1.Time{Time: date}, RootFS: v1.RootFS{Type: "layers"}}
	config.Config = v1.Config{
		User:         "65532:65532",
		Entrypoint:   []string{"/helm-state-metrics"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "8081/tcp": {}},
		Labels: map[string]string{
			label + "title":       "helm-state-metrics",
			label + "description": "Prometheus metrics about the state of Helm releases",
			label + "licenses":    "Apache-2.0",
			label + "version":     *version,
			label + "revision":    *revision,
			label + "created":     *created,
		},
	}
	image, err := mutate.ConfigFile(empty.Image, &config)
	if err != nil {
		return err
	}
	history := v1.History{Created: v1.Time{Time: date}, CreatedBy: "make image"}
	image, err = mutate.Append(image, mutate.Addendum{Layer: files, History: history})
	if err != nil {
		return err
	}
	return tarball.Write(ref, image, stdout)
}

// layer returns the files of the image.
func layer(exporter, roots string, date time.Time) (v1.Layer, error) {
	binary, err := os.ReadFile(exporter)
	if err != nil {
		return nil, err
	}
	certificates, err := os.ReadFile(roots)
	if err != nil {
		return nil, err
	}
	dir := &fstest.MapFile{Mode: fs.ModeDir | 0o755, ModTime: date}
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	err = writer.AddFS(fstest.MapFS{
		"etc": dir, "etc/ssl": dir, "etc/ssl/certs": dir,
		"etc/ssl/certs/ca-certificates.crt": {Data: certificates, Mode: 0o644, ModTime: date},
		"helm-state-metrics":                {Data: binary, Mode: 0o755, ModTime: date},
	})
	if err := errors.Join(err, writer.Close()); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
}
