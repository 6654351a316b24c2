// Command scale measures the exporter against a control plane full of release records, and for comparison a baseline
// that works like other exporters: an informer holds every record in full, and every payload is decoded.
//
// `make scale` starts it, and builds the programs in bin/ that it runs. It needs Linux, because it reads from /proc how
// much CPU and memory a process uses.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

func main() { process.Main("scale", start) }

// start runs one of the measurements or, if the measurement has started this program, the baseline.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == baselineCommand {
		return runBaseline(ctx, args[1:])
	}
	do := measure
	if len(args) > 0 {
		others := map[string]func(context.Context, config, io.Writer, io.Writer) error{
			tenantsCommand: measureTenants, floodsCommand: measureFloods, soakCommand: soak,
		}
		if other, ok := others[args[0]]; ok {
			do, args = other, args[1:]
		}
	}
	cfg, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	return do(ctx, cfg, stdout, stderr)
}

// config has the values of the flags.
type config struct {
	exporter   string
	releases   int
	revisions  int
	namespaces int
	templates  int
	starts     int
	upgrades   int
	baseline   bool
	flood      int
	times      int
	others     int
	lasts      time.Duration
	soak       time.Duration
	out        string
}

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var cfg config
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.exporter, "exporter", "", "program to measure (default bin/helm-state-metrics)")
	flags.IntVar(&cfg.releases, "releases", 1000, "how many releases to fill the cluster with")
	flags.IntVar(&cfg.revisions, "revisions", 10, "how many revisions each of them has")
	flags.IntVar(&cfg.namespaces, "namespaces", 50, "over how many namespaces the releases are spread")
	flags.IntVar(&cfg.templates, "templates", 30, "how many templates a chart has on average: 30 make payloads of 44 kB, as charts of databases or ingress controllers have")
	flags.IntVar(&cfg.starts, "starts", 5, "how often to start the exporter; the medians count")
	flags.IntVar(&cfg.upgrades, "upgrades", 200, "how many times to run helm upgrade")
	flags.BoolVar(&cfg.baseline, "baseline", true, "whether to measure the baseline too, which takes many times as long, and gigabytes")
	flags.IntVar(&cfg.flood, "flood", 50_000, "how many releases one tenant writes at once, when many tenants are measured")
	flags.IntVar(&cfg.times, "times", 10_000, "how many times one release is upgraded, and one record rewritten, when floods are measured")
	flags.IntVar(&cfg.others, "others", 100_000, "how many Secrets of other types there are, when floods are measured")
	flags.DurationVar(&cfg.lasts, "lasts", 20*time.Second, "how long floods of scrapes last")
	flags.DurationVar(&cfg.soak, "soak", 30*time.Minute, "how long to soak")
	flags.StringVar(&cfg.out, "out", "", "write the report to files of this name, too, with the suffixes .md and .json")
	if err := flags.Parse(args); err != nil {
		return cfg, flag.ErrHelp // Parse has already reported the error.
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
	if cfg.exporter == "" {
		cfg.exporter = process.Path("helm-state-metrics")
	}
	if _, err := os.Stat(cfg.exporter); err != nil {
		return cfg, fmt.Errorf("%w; make scale builds it", err)
	}
	return cfg, process.Missing("cluster", "helm4")
}
