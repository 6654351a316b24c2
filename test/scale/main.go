//go:build unix

// Command scale measures the exporter against a control plane full of release records, beside a baseline that works
// the way exporters did before: an informer holds every record in full, and every payload is decoded.
//
// It is started by `make scale`, which builds the programs that it runs, and expects them in bin/ under the root.
// It needs Linux, whose /proc tells what a process costs.
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
)

func main() {
	// SIGHUP comes when the terminal is closed and SIGPIPE when nobody reads our output any more; to die of either
	// would leave a control plane of several gigabytes behind.
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := start(ctx, os.Args[1:], os.Stdout, os.Stderr)
	interrupted := ctx.Err() != nil
	cancel()

	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil && interrupted: // Every error from here on has the same cause: we were asked to end.
		_, _ = fmt.Fprintln(os.Stderr, "scale ended before it had measured everything")
		os.Exit(1)
	case err != nil:
		_, _ = fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// start is either the measurement or, under the name that only the measurement knows, its baseline.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == baselineCommand {
		return runBaseline(ctx, args[1:])
	}
	cfg, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	return measure(ctx, cfg, stdout, stderr)
}

// config is what the flags say.
type config struct {
	root       string
	exporter   string
	releases   int
	revisions  int
	namespaces int
	templates  int
	starts     int
	upgrades   int
	baseline   bool
	json       bool
	out        string
}

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var cfg config
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.root, "root", ".", "root of the repository")
	flags.StringVar(&cfg.exporter, "exporter", "", "program to measure (default bin/helm-state-metrics under the root)")
	flags.IntVar(&cfg.releases, "releases", 1000, "how many releases to fill the cluster with")
	flags.IntVar(&cfg.revisions, "revisions", 10, "how many revisions each of them has")
	flags.IntVar(&cfg.namespaces, "namespaces", 50, "over how many namespaces the releases are spread")
	flags.IntVar(&cfg.templates, "templates", 30, "how many templates a chart has in the mean: 30 make payloads of 44 kB, as charts of databases or ingress controllers have")
	flags.IntVar(&cfg.starts, "starts", 5, "how many starts of the exporter the medians are taken of")
	flags.IntVar(&cfg.upgrades, "upgrades", 200, "how many times to run helm upgrade")
	flags.BoolVar(&cfg.baseline, "baseline", true, "whether to measure the baseline too, which takes many times as long, and gigabytes")
	flags.BoolVar(&cfg.json, "json", false, "print JSON in place of the table")
	flags.StringVar(&cfg.out, "out", "", "write the table and the JSON to files of this name too, with .md and .json behind it")
	if err := flags.Parse(args); err != nil {
		return cfg, flag.ErrHelp // Parse has already said what is wrong.
	}
	if flags.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	for name, value := range map[string]int{
		"releases": cfg.releases, "revisions": cfg.revisions, "namespaces": cfg.namespaces, "templates": cfg.templates,
		"starts": cfg.starts, "upgrades": cfg.upgrades,
	} {
		if value < 1 {
			return cfg, fmt.Errorf("-%s must be at least 1", name)
		}
	}
	var err error
	if cfg.root, err = filepath.Abs(cfg.root); err != nil {
		return cfg, err
	}
	if cfg.exporter == "" {
		cfg.exporter = cfg.program("helm-state-metrics")
	}
	for _, program := range []string{cfg.exporter, cfg.program("cluster"), cfg.program("helm4")} {
		if _, err := os.Stat(program); err != nil {
			return cfg, fmt.Errorf("%w; make scale builds it", err)
		}
	}
	return cfg, nil
}

// program is the path of one of the programs that make has built.
func (c config) program(name string) string { return filepath.Join(c.root, "bin", name) }
