// Command demo shows helm-state-metrics at work: it starts a control plane, installs releases of every kind with real
// Helm 3 and Helm 4, runs the exporter against them, and removes all of it when it is interrupted.
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

	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

func main() { process.Main("demo", run) }

// demo is the state that the steps share.
type demo struct {
	dir    string // for everything that is written; removed at the end
	port   int    // of the exporter's metrics; the next two are for probes and pages
	stdout io.Writer
	step   int
}

const (
	steps        = 3 // how many times run calls begin
	startTimeout = 2 * time.Minute
)

// run does the whole demonstration. It returns when ctx is done or a step has failed, after it has removed everything.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	port := flags.Int("port", 8080, "first of three ports of the exporter on the loopback interface")
	check := flags.Bool("check", false, "only check that the ports are free")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has already reported the error.
	}
	d := &demo{stdout: stdout, port: *port}
	// The exporter would notice too, but only after minutes may have been spent on everything else.
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

	d.printGuide()
	select {
	case <-cluster.Done():
		return cluster.Failure()
	case <-exporter.Done():
		return exporter.Failure()
	case <-ctx.Done():
		d.say("\nending the exporter and the control plane")
		return nil
	}
}

// metrics, health and pages are the addresses of the exporter.
func (d *demo) metrics() string { return fmt.Sprintf("127.0.0.1:%d", d.port) }
func (d *demo) health() string  { return fmt.Sprintf("127.0.0.1:%d", d.port+1) }
func (d *demo) pages() string   { return fmt.Sprintf("127.0.0.1:%d", d.port+2) }

// portsAreFree returns an error if the exporter will not be able to listen.
func (d *demo) portsAreFree() error {
	for _, address := range []string{d.metrics(), d.health(), d.pages()} {
		listener, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is in use; choose three other ports with: make demo PORT=%d", address, d.port+10)
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
	cmd := exec.Command(process.Path("helm-state-metrics"), "--kubeconfig="+d.kubeconfig(),
		"--web.listen-address="+d.metrics(), "--health.listen-address="+d.health(), "--pages.listen-address="+d.pages())
	process.Detach(cmd)
	p, err := process.Start(cmd)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.Await(limited, 100*time.Millisecond, d.exporterIsReady); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	d.say("      ready after %s", since(p.Began))
	return p, nil
}

func (d *demo) exporterIsReady() error {
	resp, err := http.Get("http://" + d.health() + "/readyz")
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

func (d *demo) kubeconfig() string { return process.Kubeconfig(d.clusterDir()) }

func (d *demo) printGuide() {
	d.say(`
helm-state-metrics is running. Look at

  http://%[1]s/                      the status page, in a browser
  http://%[1]s/api/v1/releases       the releases as JSON
  http://%[4]s/metrics               what Prometheus scrapes

or paste into another terminal

  curl -s http://%[4]s/metrics | grep '^helm_release'

To change something and see it in the next scrape:

  export KUBECONFIG=%[2]s
  %[3]s rollback ledger -n payments
  %[3]s uninstall storefront -n shop
  unset KUBECONFIG

Ctrl-C ends the demo and removes everything it started.`,
		d.pages(), d.kubeconfig(), process.Path("helm4"), d.metrics())
}

// since returns how long ago start was, rounded for people.
func since(start time.Time) time.Duration { return time.Since(start).Round(100 * time.Millisecond) }

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
