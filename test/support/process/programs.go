package process

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// Main runs a program that starts others, and exits with its status. The context of run ends at a signal that asks the
// program to end, so that run can stop what it has started.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) {
	// SIGHUP comes when the terminal is closed, and SIGPIPE when nobody reads the output any more. Without a handler
	// either of them would end the program at once and leave a control plane behind.
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	cancel()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Root returns the path of the repository: the closest directory above the working directory that has a go.mod.
func Root() string {
	start, err := filepath.Abs(".")
	if err != nil {
		return "."
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return start
		}
	}
}

// Path returns the path of a program that make puts into bin/.
func Path(program string) string {
	path := filepath.Join(Root(), "bin", program)
	// go test caches results, and runs a test again only if a file has changed that the test looked at itself.
	_, _ = os.Stat(path)
	return path
}

// Chart returns the path of a chart of test/charts.
func Chart(name string) string { return filepath.Join(Root(), "test", "charts", name) }

// Missing returns an error that names the programs that have not been built.
func Missing(programs ...string) error {
	var missing []error
	for _, program := range programs {
		if _, err := os.Stat(Path(program)); err != nil {
			missing = append(missing, fmt.Errorf("bin/%s is missing: run `make build tools`", program))
		}
	}
	return errors.Join(missing...)
}

// Client returns a command of helm3, helm4 or kubectl. The program keeps its files in home and ignores the settings of
// the user, since its environment has nothing but HOME and KUBECONFIG.
func Client(ctx context.Context, program, home, kubeconfig string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, Path(program), args...)
	cmd.Env = []string{"HOME=" + home, "KUBECONFIG=" + kubeconfig}
	return cmd
}

// clusterTimeout is a generous limit for the start of a control plane, which takes about five seconds.
const clusterTimeout = 3 * time.Minute

var ready = regexp.MustCompile(`^ready\n`)

// StartCluster starts a control plane (see test/cluster) and returns when it is ready. Its data and the kubeconfig of
// its administrator are in dir. A dir that was used before continues where it stopped. Env is added to the environment.
// Flags are those of the program, and after "--" those of kube-apiserver.
func StartCluster(ctx context.Context, dir string, env []string, flags ...string) (*Process, error) {
	// With --with-parent the control plane ends by itself if this process is killed.
	cmd := exec.Command(Path("cluster"), append([]string{"--dir", dir, "--with-parent"}, flags...)...)
	cmd.Env = append(os.Environ(), env...)
	Detach(cmd)
	p, err := Start(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	if _, err := p.AwaitLine(ctx, ready); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// Kubeconfig returns the path of the administrator's kubeconfig of the control plane in dir.
func Kubeconfig(dir string) string { return filepath.Join(dir, "kubeconfig") }

// Until calls check every interval until it returns nil. When ctx is done it returns the errors of both.
func Until(ctx context.Context, interval time.Duration, check func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// Eventually calls check until it returns nil. After the deadline it fails the test with the last error.
func Eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := Until(ctx, 50*time.Millisecond, check); err != nil {
		t.Fatalf("still not so after %s: %v", within, err)
	}
}

// FreeAddress returns a free loopback address, for programs that cannot choose a port and report it.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
