package charts

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// Helm is a Helm that writes charts. It needs no cluster.
type Helm struct {
	Program string // helm3 or helm4
	Home    string // for its files
}

// Package packages versions of a chart of test/charts into a directory.
func (h Helm) Package(ctx context.Context, dir, chart string, versions ...string) error {
	for _, version := range versions {
		if err := h.Run(ctx, "package", process.Chart(chart), "--version="+version, "--destination="+dir); err != nil {
			return err
		}
	}
	return nil
}

// Index writes the index.yaml of the charts in a directory.
func (h Helm) Index(ctx context.Context, dir string) error { return h.Run(ctx, "repo", "index", dir) }

// Push pushes all charts in a directory to a path of a registry with plain HTTP.
func (h Helm) Push(ctx context.Context, dir, url string) error {
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	for _, archive := range archives {
		if err == nil {
			err = h.Run(ctx, "push", archive, url, "--plain-http")
		}
	}
	return err
}

// Run runs a command.
func (h Helm) Run(ctx context.Context, args ...string) error {
	cmd := process.Client(ctx, h.Program, h.Home, "", args...)
	process.Detach(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", h.Program, strings.Join(args, " "), err, out)
	}
	return nil
}
