// Command cluster runs a real Kubernetes control plane in one process, for tests and demonstrations.
//
//	cluster --dir DIR [--etcd-address ADDRESS] [--with-parent] [-- kube-apiserver flags]
//
// It embeds etcd, the kube-apiserver and the namespace controller; there is no scheduler and no kubelet, so objects
// are stored and pods never run. When everything answers it prints the single line "ready", and it ends with status 0
// on SIGINT or SIGTERM. DIR then holds a kubeconfig of a cluster administrator, and nobody.kubeconfig and
// reader.kubeconfig of two users to whom no role is bound.
//
// A DIR that was used before continues where it stopped: same objects, tokens and certificate, and the same port as
// long as it is free. Remove DIR to start afresh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// startTimeout bounds the way to "ready". It takes about five seconds on two idle cores; the rest is for busy machines.
const startTimeout = 3 * time.Minute

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// After the first signal the default action is back, so that a second one ends a shutdown that hangs.
	context.AfterFunc(ctx, restore)

	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(terminal, "cluster:", err)
		os.Exit(1)
	}
}

// terminal is the standard error that the process was started with: os.Stderr itself is pointed at a log file.
var terminal = os.Stderr

// run starts the control plane, reports on stdout that it is ready, and returns when ctx is done and all has stopped.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "", "directory for data, credentials and logs; made if missing")
	etcdAddress := flags.String("etcd-address", "127.0.0.1:0", "loopback address of etcd, for a relay in front of it; the API server finds that by --etcd-servers")
	withParent := flags.Bool("with-parent", false, "end when the process that started this one has ended")
	flags.Usage = func() {
		_, _ = fmt.Fprintln(stderr, "usage: cluster --dir DIR [--etcd-address ADDRESS] [--with-parent] [-- kube-apiserver flags]")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has already said what is wrong.
	}
	if *dir == "" {
		return errors.New("--dir is missing")
	}
	if *withParent {
		var cancel context.CancelFunc
		ctx, cancel = untilParentEnds(ctx)
		defer cancel()
	}

	home, err := openHome(*dir)
	if err != nil {
		return err
	}
	defer home.close()
	return home.serve(ctx, *etcdAddress, flags.Args(), stdout)
}

// home is the directory that one control plane lives in. It is locked while the process runs.
type home struct {
	dir  string
	lock *os.File
}

// openHome makes and locks dir, and sends the logs of everything that is embedded here to files in it.
func openHome(dir string) (*home, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	h := &home{dir: dir}
	h.lock, err = os.OpenFile(h.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(h.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		h.close()
		return nil, fmt.Errorf("another cluster runs in %s", dir)
	}
	// Whoever waits for a kubeconfig to appear must not find the one of an earlier run.
	for _, u := range users {
		_ = os.Remove(h.path(u.kubeconfig))
	}
	if err := redirectLogs(h.path(apiServerLog)); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// path names a file or folder in the home.
func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

func (h *home) close() { _ = h.lock.Close() }

// serve runs etcd, the API server and the namespace controller. They are started in this order and stopped in reverse.
func (h *home) serve(ctx context.Context, etcdAddress string, extraFlags []string, stdout io.Writer) error {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	etcd, err := startEtcd(starting, h, etcdAddress)
	if err != nil {
		return fmt.Errorf("start etcd: %w (see %s)", err, h.path(etcdLog))
	}
	defer etcd.Close()

	server, err := startAPIServer(h, etcdURL(etcd), extraFlags)
	if err != nil {
		return fmt.Errorf("start the API server: %w (see %s)", err, h.path(apiServerLog))
	}
	defer server.stop()

	if err := server.waitReady(starting); err != nil {
		if ctx.Err() != nil {
			return nil // Asked to stop before it was up: nothing went wrong.
		}
		return fmt.Errorf("start the API server: %w (see %s)", err, h.path(apiServerLog))
	}
	stopController, err := startNamespaceController(starting, server.config)
	if err != nil {
		return fmt.Errorf("start the namespace controller: %w (see %s)", err, h.path(apiServerLog))
	}
	defer stopController()

	if err := h.writeKubeconfigs(server); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, "ready"); err != nil {
		return err
	}

	select {
	case <-ctx.Done():
		return nil
	case err := <-etcd.Err():
		return fmt.Errorf("etcd ended: %w (see %s)", err, h.path(etcdLog))
	case <-server.done:
		return fmt.Errorf("the API server ended: %w (see %s)", server.err, h.path(apiServerLog))
	}
}

// untilParentEnds returns a context that is cancelled when the parent process has ended. A test binary that panics or
// is killed runs no cleanup, and a forgotten control plane holds some hundred megabytes.
func untilParentEnds(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	parent := os.Getppid()
	go func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if os.Getppid() != parent {
					cancel()
					return
				}
			}
		}
	}()
	return ctx, cancel
}
