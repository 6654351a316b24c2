package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// installReleases installs one release of every kind that is worth looking at.
func (d *demo) installReleases(ctx context.Context) error {
	d.begin("installing releases with Helm 3 and Helm 4 (about 10 seconds)")
	for _, r := range []struct {
		what  string
		steps []string
	}{
		{"shop/storefront: healthy, upgraded three times", []string{
			"helm4 install storefront web -n shop --create-namespace",
			"helm4 upgrade storefront web -n shop --set=greeting=hej",
			"helm4 upgrade storefront web -n shop --set=greeting=hola",
			"helm4 upgrade storefront web -n shop --set=greeting=ciao",
		}},
		{"shop/my.app: healthy, with a dot in its name", []string{"helm4 install my.app web -n shop"}},
		{"legacy/wiki: healthy, by Helm 3", []string{"helm3 install wiki web -n legacy --create-namespace"}},
		{"legacy/cache: healthy, its chart is deprecated", []string{"helm3 install cache deprecated -n legacy"}},
		{"payments/ledger: the last upgrade failed, the revision before is still deployed", []string{
			"helm4 install ledger web -n payments --create-namespace",
			"helm4 upgrade ledger web -n payments " + broken,
		}},
		{"payments/gateway: the first install failed", []string{"helm3 install gateway web -n payments " + broken}},
		{"staging/import: stuck in pending-install, its Helm was killed during a hook", []string{
			"helm4 install import " + endless + " -n staging --create-namespace",
		}},
	} {
		for _, step := range r.steps {
			if err := d.helm(ctx, strings.Fields(step)); err != nil {
				return err
			}
		}
		d.say("      %s", r.what)
	}
	return nil
}

const (
	broken  = "--set=broken=true" // makes charts render what the API server refuses
	endless = "hook"              // a chart with a hook that never completes
)

// helm runs a command whose third argument names a chart. A command with broken has to fail, and one with endless is
// killed during the hook.
func (d *demo) helm(ctx context.Context, args []string) error {
	program, release, chart := args[0], args[2], args[3]
	line := strings.Join(args, " ")
	args = append([]string{args[1], release, process.Chart(chart)}, args[4:]...)
	if chart == endless {
		return d.helmUntilPending(ctx, line, release, d.command(ctx, program, args...))
	}
	out, err := d.command(ctx, program, args...).CombinedOutput()
	switch mustFail := strings.Contains(line, broken); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !mustFail:
		return fmt.Errorf("%s: %w\n%s", line, err, out)
	case err == nil && mustFail:
		return fmt.Errorf("%s should have failed", line)
	}
	return nil
}

// helmUntilPending starts a command that never ends, and kills Helm as soon as it has recorded the release. Helm would
// catch any other signal and mark the release as failed.
func (d *demo) helmUntilPending(ctx context.Context, line, release string, cmd *exec.Cmd) error {
	p, err := process.Start(cmd)
	if err != nil {
		return err
	}
	defer p.Kill()
	return p.Await(ctx, 200*time.Millisecond, func() error {
		out, err := d.command(ctx, "helm4", "status", release, "--namespace=staging").Output()
		if err == nil && !strings.Contains(string(out), "pending-") {
			err = fmt.Errorf("%s has not recorded the release", line)
		}
		return err
	})
}

// command returns a command of Helm that keeps its files in the demo's directory. ctx kills it, and Ctrl-C does not.
func (d *demo) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := process.Client(ctx, program, filepath.Join(d.dir, "helm"), d.kubeconfig(), args...)
	process.Detach(cmd)
	return cmd
}
