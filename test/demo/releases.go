//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// installReleases fills the cluster with one release of every kind that is worth looking at.
func (d *demo) installReleases(ctx context.Context) error {
	d.begin("installing releases with Helm 3 and Helm 4 (about 10 seconds)")
	for _, r := range []struct {
		what string
		make func(context.Context) error
	}{
		{"shop/storefront: healthy, upgraded three times", d.upgraded},
		{"shop/my.app: healthy, with a dot in its name", func(ctx context.Context) error {
			return d.helm(ctx, "helm4", "install", "my.app", "web", "shop")
		}},
		{"legacy/wiki: healthy, by Helm 3", func(ctx context.Context) error {
			return d.helm(ctx, "helm3", "install", "wiki", "web", "legacy")
		}},
		{"legacy/cache: healthy, its chart is deprecated", func(ctx context.Context) error {
			return d.helm(ctx, "helm3", "install", "cache", "deprecated", "legacy")
		}},
		{"payments/ledger: the last upgrade failed, the revision before is still deployed", d.failedUpgrade},
		{"payments/gateway: the first install failed", func(ctx context.Context) error {
			return d.failing(ctx, "helm3", "install", "gateway", "web", "payments")
		}},
		{"staging/import: stuck in pending-install, its Helm was killed during a hook", func(ctx context.Context) error {
			return d.stuck(ctx, "install", "import", "staging")
		}},
	} {
		if err := r.make(ctx); err != nil {
			return err
		}
		d.say("      %s", r.what)
	}
	return nil
}

func (d *demo) upgraded(ctx context.Context) error {
	if err := d.helm(ctx, "helm4", "install", "storefront", "web", "shop"); err != nil {
		return err
	}
	for _, greeting := range []string{"hej", "hola", "ciao"} {
		if err := d.helm(ctx, "helm4", "upgrade", "storefront", "web", "shop", "--set=greeting="+greeting); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) failedUpgrade(ctx context.Context) error {
	if err := d.helm(ctx, "helm4", "install", "ledger", "web", "payments"); err != nil {
		return err
	}
	return d.failing(ctx, "helm4", "upgrade", "ledger", "web", "payments")
}

// failing runs an operation that the API server refuses.
func (d *demo) failing(ctx context.Context, program, verb, release, chart, namespace string) error {
	err := d.helm(ctx, program, verb, release, chart, namespace, "--set=broken=true")
	if ctx.Err() == nil && err == nil {
		return fmt.Errorf("%s %s %s was meant to fail", program, verb, release)
	}
	return ctx.Err()
}

// stuck begins an operation whose hook never completes, and kills Helm as soon as it has recorded the release. Helm
// marks the release as failed on any signal that it can catch.
func (d *demo) stuck(ctx context.Context, verb, release, namespace string) error {
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	cmd := d.helmCommand(ctx, "helm4", verb, release, d.chart("hook"), "--namespace="+namespace, "--create-namespace")
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()

	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := d.helmCommand(ctx, "helm4", "status", release, "--namespace="+namespace).Output()
		if err == nil && strings.Contains(string(out), "pending-") {
			kill()
			<-ended
			return nil
		}
		select {
		case <-ctx.Done():
			<-ended
			return ctx.Err()
		case <-ended:
			return fmt.Errorf("helm %s %s was meant to wait for ever: %s", verb, release, cmd.ProcessState)
		case <-tick.C:
		}
	}
}

// helm installs or upgrades a release of a chart of test/charts.
func (d *demo) helm(ctx context.Context, program, verb, release, chart, namespace string, flags ...string) error {
	args := []string{verb, release, d.chart(chart), "--namespace=" + namespace}
	if verb == "install" {
		args = append(args, "--create-namespace")
	}
	out, err := d.helmCommand(ctx, program, append(args, flags...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s %s: %w\n%s", program, verb, release, err, out)
	}
	return nil
}

// helmCommand prepares a Helm that keeps its files in the demo's directory and knows nothing of the user's settings.
// Like the background processes it is out of the terminal's reach; ctx kills it.
func (d *demo) helmCommand(ctx context.Context, program string, args ...string) *exec.Cmd {
	home := filepath.Join(d.dir, "helm")
	cmd := exec.CommandContext(ctx, d.program(program), args...)
	cmd.SysProcAttr = ownGroup()
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "HELM_") {
			cmd.Env = append(cmd.Env, setting)
		}
	}
	cmd.Env = append(cmd.Env,
		"KUBECONFIG="+d.kubeconfig(),
		"HELM_CACHE_HOME="+filepath.Join(home, "cache"),
		"HELM_CONFIG_HOME="+filepath.Join(home, "config"),
		"HELM_DATA_HOME="+filepath.Join(home, "data"),
		// Where it remembers what the API server offers.
		"KUBECACHEDIR="+filepath.Join(home, "kube"),
	)
	return cmd
}

// chart is the path of a chart.
func (d *demo) chart(name string) string { return filepath.Join(d.root, "test", "charts", name) }
