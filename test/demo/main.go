// Command demo shows helm-state-metrics at work: it starts a control plane, installs releases of every kind with real
// Helm 3 and Helm 4, runs the exporter against them, and helm-chart-versions against a local chart repository. It removes
// all of it when it is interrupted.
//
// `make demo` starts it, and builds the programs in bin/ that it runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/charts"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

func main() { process.Main("demo", run) }

// demo is the state that the steps share.
type demo struct {
	dir    string // for everything that is written; removed at the end
	port   int    // of the exporter's metrics; the next four are for its probes and pages, and for helm-chart-versions
	stdout io.Writer
	step   int
}

const (
	steps        = 4 // how many times run calls begin
	startTimeout = 2 * time.Minute
)

// run does the whole demonstration. It returns when ctx is done or a step has failed, after it has removed everything.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	port := flags.Int("port", 8080, "first of five ports on the loopback interface")
	check := flags.Bool("check", false, "only check that the ports are free")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has already reported the error.
	}
	d := &demo{stdout: stdout, port: *port}
	// The programs would notice too, but only after minutes may have been spent on everything else.
	if err := d.portsAreFree(); err != nil || *check {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "helm-state-metrics-demo-"); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(d.dir))
		if ctx.Err() != nil { // This is how a demo ends.
			d.say("demo ended")
			err = nil
		}
	}()

	d.begin("starting etcd and a Kubernetes API server (about 5 seconds)")
	cluster, err := process.StartCluster(ctx, d.clusterDir(), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	d.say("      ready after %s", since(cluster.Began))
	if err := d.installReleases(ctx); err != nil {
		return err
	}
	exporter, err := d.startExporter(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, exporter.Stop()) }()

	repository := charts.NewRepository(d.repositoryDir())
	defer repository.Close()
	companion, err := d.startCompanion(ctx, repository.URL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, companion.Stop()) }()

	d.printGuide(repository.URL)
	select {
	case <-cluster.Done():
		return cluster.Failure()
	case <-exporter.Done():
		return exporter.Failure()
	case <-companion.Done():
		return companion.Failure()
	case <-ctx.Done():
		d.say("\nending all programs")
		return nil
	}
}

// metrics, health and pages are the addresses of the exporter; versions and versionsHealth are those of
// helm-chart-versions.
func (d *demo) metrics() string        { return d.address(0) }
func (d *demo) health() string         { return d.address(1) }
func (d *demo) pages() string          { return d.address(2) }
func (d *demo) versions() string       { return d.address(3) }
func (d *demo) versionsHealth() string { return d.address(4) }

func (d *demo) address(i int) string { return fmt.Sprintf("127.0.0.1:%d", d.port+i) }

// portsAreFree returns an error if the programs will not be able to listen.
func (d *demo) portsAreFree() error {
	for _, address := range []string{d.metrics(), d.health(), d.pages(), d.versions(), d.versionsHealth()} {
		listener, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is in use; choose five other ports with: make demo PORT=%d", address, d.port+10)
		}
		if err != nil {
			return err
		}
		if err := listener.Close(); err != nil {
			return err
		}
	}
	return nil
}

// startExporter returns when the exporter has read every release.
func (d *demo) startExporter(ctx context.Context) (*process.Process, error) {
	d.begin("starting helm-state-metrics")
	return d.start(ctx, d.health(), exec.Command(process.Path("helm-state-metrics"), "--kubeconfig="+d.kubeconfig(),
		"--web.listen-address="+d.metrics(), "--health.listen-address="+d.health(), "--pages.listen-address="+d.pages()))
}

// startCompanion returns when helm-chart-versions knows the releases and the repository.
func (d *demo) startCompanion(ctx context.Context, repository string) (*process.Process, error) {
	d.begin("starting a chart repository at %s, and helm-chart-versions", repository)
	config := fmt.Sprintf("repositories:\n- {name: demo, url: %q}\n", repository)
	if err := os.WriteFile(d.repositories(), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return d.start(ctx, d.versionsHealth(), exec.Command(process.Path("helm-chart-versions"), "--config="+d.repositories(),
		"--exporter.url=http://"+d.metrics()+"/metrics", "--exporter.interval=5s",
		"--web.listen-address="+d.versions(), "--health.listen-address="+d.versionsHealth()))
}

// start starts a program and returns when its probe says that it is ready.
func (d *demo) start(ctx context.Context, health string, cmd *exec.Cmd) (*process.Process, error) {
	process.Detach(cmd)
	p, err := process.Start(cmd)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.Await(limited, 100*time.Millisecond, func() error { return isReady(health) }); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	d.say("      ready after %s", since(p.Began))
	return p, nil
}

func isReady(health string) error {
	resp, err := http.Get("http://" + health + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func (d *demo) begin(format string, args ...any) {
	d.step++
	d.say("[%d/%d] %s", d.step, steps, fmt.Sprintf(format, args...))
}

func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.stdout, format+"\n", args...) }

func (d *demo) clusterDir() string { return filepath.Join(d.dir, "cluster") }

func (d *demo) repositoryDir() string { return filepath.Join(d.dir, "charts") }

func (d *demo) repositories() string { return filepath.Join(d.dir, "repositories.yaml") }

func (d *demo) kubeconfig() string { return process.Kubeconfig(d.clusterDir()) }

func (d *demo) printGuide(repository string) {
	d.say(`
helm-state-metrics and helm-chart-versions are running. Look at

  http://%[1]s/                      the status page, in a browser
  http://%[1]s/api/v1/releases       the releases as JSON
  http://%[4]s/metrics               what Prometheus scrapes
  http://%[5]s/                      which releases are behind their chart repository: wiki and cache
  http://%[5]s/metrics               the same for Prometheus

or paste into another terminal

  curl -s http://%[4]s/metrics | grep '^helm_release'
  %[6]s --config=%[7]s --exporter.url=http://%[4]s/metrics --once

To change something and see it in the next scrape:

  export KUBECONFIG=%[2]s
  %[3]s rollback ledger -n payments
  %[3]s uninstall storefront -n shop
  %[3]s upgrade wiki web --repo=%[8]s -n legacy
  unset KUBECONFIG

Ctrl-C ends the demo and removes everything it started.`,
		d.pages(), d.kubeconfig(), process.Path("helm4"), d.metrics(),
		d.versions(), process.Path("helm-chart-versions"), d.repositories(), repository)
}

// since returns how long ago start was, rounded for people.
func since(start time.Time) time.Duration { return time.Since(start).Round(100 * time.Millisecond) }

// installReleases installs one release of every kind that is worth looking at.
func (d *demo) installReleases(ctx context.Context) error {
	d.begin("installing releases with Helm 3 and Helm 4 (about 10 seconds)")
	if err := d.writeRepository(ctx); err != nil {
		return err
	}
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
		{"legacy/wiki: healthy, by Helm 3, a minor version behind", []string{"helm3 install wiki web-1.1.0.tgz -n legacy --create-namespace"}},
		{"legacy/cache: healthy, its chart is deprecated, a major version behind", []string{"helm3 install cache deprecated -n legacy"}},
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

// writeRepository writes a chart repository, in which there are newer versions of some charts than the releases have.
func (d *demo) writeRepository(ctx context.Context) error {
	h, dir := charts.Helm{Program: "helm4", Home: filepath.Join(d.dir, "helm")}, d.repositoryDir()
	return errors.Join(
		h.Package(ctx, dir, "web", "1.1.0", "1.2.3"),
		h.Package(ctx, dir, "deprecated", "9.8.7", "10.0.0"),
		h.Package(ctx, dir, endless, "0.3.0"),
		h.Index(ctx, dir),
	)
}

const (
	broken  = "--set=broken=true" // makes charts render what the API server refuses
	endless = "hook"              // a chart with a hook that never completes
)

// helm runs a command whose third argument names a chart, or a file in the repository. A command with broken has to fail, and one with endless is
// killed during the hook.
func (d *demo) helm(ctx context.Context, args []string) error {
	program, release, chart := args[0], args[2], args[3]
	line := strings.Join(args, " ")
	path := process.Chart(chart)
	if strings.HasSuffix(chart, ".tgz") {
		path = filepath.Join(d.repositoryDir(), chart)
	}
	args = append([]string{args[1], release, path}, args[4:]...)
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
