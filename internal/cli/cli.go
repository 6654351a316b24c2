// Package cli is what the programs share besides HTTP: how they read flags, and how they start and end.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kingpin/v2"
)

// Main runs a program until it ends or a signal comes, and prints its error.
func Main(name string, start func(ctx context.Context, args []string, stdout, stderr io.Writer) error) {
	// Install the signal handler first.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := start(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		// Errors of YAML have several lines.
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, strings.Join(strings.Fields(err.Error()), " "))
		os.Exit(1)
	}
}

// Actor makes an actor of a run group from a function that runs until its context ends.
func Actor(ctx context.Context, do func(context.Context) error) (execute func() error, interrupt func(error)) {
	ctx, cancel := context.WithCancel(ctx)
	return func() error { return do(ctx) }, func(error) { cancel() }
}

// Parse parses the arguments. It reports whether they ask for help or the version, which it has then written to
// stdout. Errors name the flag.
func Parse(app *kingpin.Application, args []string, stdout io.Writer) (answered bool, err error) {
	for _, f := range app.Model().Flags {
		if f.Name != "help" && f.Name != "version" {
			app.GetFlag(f.Name).SetValue(named{f.Value, f.Name})
		}
	}
	app.UsageWriter(stdout).ErrorWriter(stdout)
	app.Terminate(func(int) { answered = true })
	if _, err = app.Parse(args); err != nil && !answered {
		return false, fmt.Errorf("%w; see --help", err)
	}
	return answered, nil
}

// named is the value of a flag. Its errors name the flag and what was given, which those of kingpin's values do
// not.
type named struct {
	kingpin.Value
	flag string
}

// Set implements kingpin.Value.
func (n named) Set(s string) error {
	if err := n.Value.Set(s); err != nil {
		return fmt.Errorf("--%s=%s: %w", n.flag, s, err)
	}
	return nil
}

// IsBoolFlag tells kingpin that the flag needs no value.
func (n named) IsBoolFlag() bool {
	v, ok := n.Value.(interface{ IsBoolFlag() bool })
	return ok && v.IsBoolFlag()
}

// IsCumulative tells kingpin that the flag may be repeated.
func (n named) IsCumulative() bool {
	v, ok := n.Value.(interface{ IsCumulative() bool })
	return ok && v.IsCumulative()
}
