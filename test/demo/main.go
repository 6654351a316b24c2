//go:build unix

// Command demo shows helm-state-metrics at work: it starts a control plane, installs releases of every kind with real
// Helm 3 and Helm 4, runs the exporter against them, and removes all of it when it is interrupted.
//
// It is started by `make demo`, which builds the programs that it runs, and expects them in bin/ under the root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	// SIGHUP comes when the terminal is closed and SIGPIPE when nobody reads our output any more; to die of either
	// would leave a control plane behind.
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	interrupted := ctx.Err() != nil
	cancel()

	switch {
	case interrupted: // Every error from here on has the same cause: we were asked to end.
		_, _ = fmt.Fprintln(os.Stdout, "demo ended")
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		_, _ = fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo holds what its steps share.
type demo struct {
	root    string // of the repository
	dir     string // for all that is written, removed at the end
	address string // the exporter's
	stdout  io.Writer

	step  int
	ended chan error // receives one error when a background process ends unasked
}

// steps is how many times run calls begin.
const steps = 3

// run does the whole demonstration and returns when ctx is done and nothing of it is left, or when a step has failed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", ".", "root of the repository")
	port := flags.Int("port", 8080, "port of the exporter on the loopback interface")
	check := flags.Bool("check", false, "do nothing but see whether the port is free")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has already said what is wrong.
	}
	d := &demo{stdout: stdout, address: fmt.Sprintf("127.0.0.1:%d", *port), ended: make(chan error, 2)}
	if d.root, err = filepath.Abs(*root); err != nil {
		return err
	}
	// The exporter would notice too, but only after minutes may have been spent on all the rest.
	if err := portIsFree(d.address, *port); err != nil || *check {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "helm-state-metrics-demo-"); err != nil {
		return err
	}
	defer func() {
		if err := os.RemoveAll(d.dir); err != nil {
			d.say("cannot clean up: %v", err)
		}
	}()

	stopCluster, err := d.startCluster(ctx)
	if err != nil {
		return err
	}
	defer stopCluster()
	if err := d.installReleases(ctx); err != nil {
		return err
	}
	stopExporter, err := d.startExporter(ctx)
	if err != nil {
		return err
	}
	defer stopExporter()

	d.printGuide()
	select {
	case err := <-d.ended:
		return err
	case <-ctx.Done():
		d.say("\nending the exporter and the control plane")
		return nil
	}
}

// portIsFree tells whether the exporter will be able to listen.
func portIsFree(address string, port int) error {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d is in use; choose another with: make demo PORT=%d", port, port+1)
	}
	if err != nil {
		return err
	}
	return listener.Close()
}

// begin announces the next step.
func (d *demo) begin(format string, args ...any) {
	d.step++
	d.say("[%d/%d] %s", d.step, steps, fmt.Sprintf(format, args...))
}

func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.stdout, format+"\n", args...) }

// kubeconfig is the one of the control plane's administrator.
func (d *demo) kubeconfig() string { return filepath.Join(d.dir, "cluster", "kubeconfig") }

// program is the path of one of the programs that make has built.
func (d *demo) program(name string) string { return filepath.Join(d.root, "bin", name) }

func (d *demo) printGuide() {
	d.say(`
helm-state-metrics is running. Look at

  http://%[1]s/                      the status page, in a browser
  http://%[1]s/metrics               what Prometheus scrapes
  http://%[1]s/api/v1/releases       the releases as JSON

or paste into another terminal

  curl -s http://%[1]s/metrics | grep '^helm_release'

To change something and see it in the next scrape:

  export KUBECONFIG=%[2]s
  %[3]s rollback ledger -n payments
  %[3]s uninstall storefront -n shop
  unset KUBECONFIG

Ctrl-C ends the demo and removes everything it started.`,
		d.address, d.kubeconfig(), d.program("helm4"))
}

// since is how long ago start was, for people.
func since(start time.Time) time.Duration { return time.Since(start).Round(100 * time.Millisecond) }
