// Command image writes a container image to stdout: an archive for `docker load` that is an OCI image layout, too. It
// needs no Docker, and writes the same bytes for the same files and flags.
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	name := flags.String("name", "", "name and tag of the image")
	arch := flags.String("arch", "", "architecture of the image")
	version := flags.String("version", "", "version of the exporter")
	revision := flags.String("revision", "", "commit of the exporter")
	created := flags.String("created", "", "time of the commit, which is that of all files")
	exporter := flags.String("exporter", "", "path of the binary")
	roots := flags.String("roots", "", "path of the certificates of authorities")
	if err := flags.Parse(args); err != nil {
		return err
	}
	date, err := time.Parse(time.RFC3339, cmp.Or(*created, "1970-01-01T00:00:00Z"))
	if err != nil {
		return fmt.Errorf("-created: %w", err)
	}
	date = date.UTC()

	plain, err := layer(*exporter, *roots, date)
	if err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	var compressed bytes.Buffer
	writer := gzip.NewWriter(&compressed)
	_, err = writer.Write(plain)
	if err := errors.Join(err, writer.Close()); err != nil {
		return fmt.Errorf("compress: %w", err)
	}

	a := archive{date: date, tar: tar.NewWriter(stdout)}
	config := a.blob(encode(map[string]any{
		"created": date, "architecture": *arch, "os": "linux",
		"config":  container(*version, *revision, *created),
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{digest(plain)}},
		"history": []any{map[string]any{"created": date, "created_by": "make image"}},
	}))
	content := a.blob(compressed.Bytes())
	config.MediaType, content.MediaType = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"
	manifest := a.blob(encode(map[string]any{
		"schemaVersion": 2, "mediaType": mediaManifest, "config": config, "layers": []descriptor{content},
	}))
	manifest.MediaType, manifest.Platform = mediaManifest, map[string]string{"os": "linux", "architecture": *arch}
	manifest.Annotations = map[string]string{"io.containerd.image.name": qualified(*name)}

	a.file("oci-layout", encode(map[string]string{"imageLayoutVersion": "1.0.0"}))
	a.file("index.json", encode(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []descriptor{manifest},
	}))
	// Docker before version 25 reads only this.
	a.file("manifest.json", encode([]any{map[string]any{
		"Config": config.path(), "RepoTags": []string{*name}, "Layers": []string{content.path()},
	}}))
	return errors.Join(a.err, a.tar.Close())
}

const mediaManifest = "application/vnd.oci.image.manifest.v1+json"

// container says how to run the image.
func container(version, revision, created string) map[string]any {
	const label = "org.opencontainers.image."
	return map[string]any{
		"User":         "65532:65532",
		"Entrypoint":   []string{"/helm-state-metrics"},
		"ExposedPorts": map[string]any{"8080/tcp": struct{}{}, "8081/tcp": struct{}{}},
		"Labels": map[string]string{
			label + "title":       "helm-state-metrics",
			label + "description": "Prometheus metrics about the state of Helm releases",
			label + "licenses":    "Apache-2.0",
			label + "version":     version,
			label + "revision":    revision,
			label + "created":     created,
		},
	}
}

// layer returns an archive of all files of the image.
func layer(exporter, roots string, date time.Time) ([]byte, error) {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, dir := range []string{"etc/", "etc/ssl/", "etc/ssl/certs/"} {
		if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: date}); err != nil {
			return nil, err
		}
	}
	for _, file := range []struct {
		source, name string
		mode         int64
	}{
		{roots, "etc/ssl/certs/ca-certificates.crt", 0o644},
		{exporter, "helm-state-metrics", 0o755},
	} {
		text, err := os.ReadFile(file.source)
		if err != nil {
			return nil, err
		}
		err = writer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file.name, Mode: file.mode, Size: int64(len(text)), ModTime: date})
		if err != nil {
			return nil, err
		}
		if _, err := writer.Write(text); err != nil {
			return nil, err
		}
	}
	return buffer.Bytes(), writer.Close()
}

// descriptor describes a blob as the OCI image specification does.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// path returns the path of the blob in the archive.
func (d descriptor) path() string { return "blobs/" + strings.Replace(d.Digest, ":", "/", 1) }

// archive writes files until the first error.
type archive struct {
	date time.Time
	tar  *tar.Writer
	err  error
}

func (a *archive) file(name string, text []byte) {
	if a.err == nil {
		a.err = a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: a.date})
	}
	if a.err == nil {
		_, a.err = a.tar.Write(text)
	}
}

func (a *archive) blob(text []byte) descriptor {
	d := descriptor{Digest: digest(text), Size: len(text)}
	a.file(d.path(), text)
	return d
}

func digest(text []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(text)) }

// encode returns the JSON of a value that has no values without JSON.
func encode(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

// qualified returns the name of an image with its registry, as containerd wants it.
func qualified(name string) string {
	registry, _, found := strings.Cut(name, "/")
	switch {
	case !found:
		return "docker.io/library/" + name
	case strings.ContainsAny(registry, ".:") || registry == "localhost":
		return name
	}
	return "docker.io/" + name
}
