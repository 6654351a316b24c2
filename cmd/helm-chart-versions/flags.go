package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/helm-state-metrics/helm-state-metrics/internal/cli"
	"github.com/helm-state-metrics/helm-state-metrics/internal/versions"
)

// config is what the flags say.
type config struct {
	tracker      versions.Config
	tokenFile    string
	caFile       string
	dockerConfig string
	once         bool
	output       string
	outputSet    bool
	listen       *toolkit.FlagConfig
	health       string
	log          promslog.Config

	// These are as given; complete puts them into tracker.
	exporters        []string
	scrape, interval model.Duration
}

// parseFlags returns nil without an error if the arguments ask for help or the version, which it has then
// written to stdout.
func parseFlags(args []string, stdout io.Writer) (*config, error) {
	cfg := &config{}
	app := newApp(cfg)
	if answered, err := cli.Parse(app, args, stdout); answered || err != nil {
		return nil, err
	}
	return cfg, cfg.complete()
}

// newApp declares the flags. docs/chart-versions.md has a table that is generated from it.
func newApp(cfg *config) *kingpin.Application {
	app := kingpin.New(name, "Shows which Helm releases run an older version of their chart than the latest.")
	app.HelpFlag.Short('h')
	app.Version(version.Print(name))
	app.Flag("config", "File with repositories and rules. Helm's own repositories.yaml is one.").
		PlaceHolder("FILE").Required().StringVar(&cfg.tracker.File)
	app.Flag("exporter.url", "URL of the metrics of a helm-state-metrics, for example http://helm-state-metrics:8080/metrics. Repeatable, for shards and clusters. With cluster=NAME before it, separated by a comma, its releases get the label cluster.").
		PlaceHolder("[cluster=NAME,]URL").Required().StringsVar(&cfg.exporters)
	app.Flag("exporter.bearer-token-file", "File with a bearer token for the exporters. It is read for each scrape.").
		PlaceHolder("FILE").StringVar(&cfg.tokenFile)
	app.Flag("exporter.ca-file", "File with the certificate authority of the exporters. It is read for each scrape.").
		PlaceHolder("FILE").StringVar(&cfg.caFile)
	app.Flag("exporter.interval", "How often the exporters are scraped. The releases of one that does not answer stay for two of these intervals.").
		Default("1m").SetValue(&cfg.scrape)
	app.Flag("interval", "How often a repository is asked, give or take a tenth.").
		Default("1d").SetValue(&cfg.interval)
	app.Flag("registry.config", "Docker's config.json, with the credentials of OCI registries. Default: config.json in $DOCKER_CONFIG, then in ~/.docker.").
		PlaceHolder("FILE").StringVar(&cfg.dockerConfig)
	app.Flag("state.file", "File that keeps the answers of the repositories over restarts.").
		PlaceHolder("FILE").StringVar(&cfg.tracker.StateFile)
	app.Flag("once", "Print what is behind, and exit.").
		BoolVar(&cfg.once)
	app.Flag("output", "What to print with --once: a table, or JSON.").
		Default("table").IsSetByUser(&cfg.outputSet).EnumVar(&cfg.output, "table", "json")
	cfg.listen = kingpinflag.AddFlags(app, ":8083")
	app.Flag("health.listen-address", "Address of the probes /livez and /readyz, always plain HTTP without authentication.").
		Default(":8084").StringVar(&cfg.health)
	promslogflag.AddFlags(app, &cfg.log)
	return app
}

// complete checks what kingpin cannot check.
func (c *config) complete() error {
	for _, text := range c.exporters {
		e, err := versions.ParseExporter(text)
		if err != nil {
			return fmt.Errorf("--exporter.url: %w", err)
		}
		for _, other := range c.tracker.Exporters {
			if other.URL.Host == e.URL.Host && other.URL.Path == e.URL.Path {
				return fmt.Errorf("--exporter.url: %s%s is given twice", e.URL.Host, e.URL.Path)
			}
		}
		c.tracker.Exporters = append(c.tracker.Exporters, e)
	}
	c.tracker.ScrapeInterval, c.tracker.AskInterval = time.Duration(c.scrape), time.Duration(c.interval)
	for flag, interval := range map[string]time.Duration{"exporter.interval": c.tracker.ScrapeInterval, "interval": c.tracker.AskInterval} {
		if interval < time.Second {
			return fmt.Errorf("--%s=%s: must be at least 1s", flag, model.Duration(interval))
		}
	}
	if c.outputSet && !c.once {
		return errors.New("--output needs --once")
	}
	if c.health == "" {
		return errors.New("--health.listen-address is empty: the probes need an address")
	}
	if c.dockerConfig != "" {
		if _, err := os.Stat(c.dockerConfig); err != nil {
			return fmt.Errorf("--registry.config: %w", err)
		}
	}
	return nil
}
