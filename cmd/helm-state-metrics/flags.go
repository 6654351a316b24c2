package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// The values of --payload.
const (
	payloadLazy  = "lazy"
	payloadNever = "never"
)

// maxConcurrency is where more payloads at once stop helping anybody.
const maxConcurrency = 64

// config is what the flags say, in the types that the rooms want.
type config struct {
	kubeconfig       string
	namespaces       []string
	deniedNamespaces []string
	storages         []release.Storage
	payload          string
	fetchConcurrency int
	releaseLabels    []string
	allStatuses      bool
	allow, deny      []*regexp.Regexp
	listenAddresses  []string
	webConfigFile    string
	pprof            bool
	logLevel         *promslog.Level
	logFormat        *promslog.Format
}

// fetches returns how many payloads are read at once, 0 for none ever.
func (c *config) fetches() int {
	if c.payload == payloadNever {
		return 0
	}
	return c.fetchConcurrency
}

// parseFlags returns nil without an error if the arguments asked for help or
// the version, which it has written to stdout then.
func parseFlags(args []string, stdout io.Writer) (*config, error) {
	cfg := &config{}
	app := newApp(cfg)
	app.UsageWriter(stdout).ErrorWriter(stdout)
	answered := false
	app.Terminate(func(int) { answered = true })
	_, err := app.Parse(args)
	if answered {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w; see --help", err)
	}
	return cfg, cfg.validate()
}

// newApp declares the flags. README's table is made from it.
func newApp(cfg *config) *kingpin.Application {
	app := kingpin.New("helm-state-metrics", "Exposes the state of Helm releases to Prometheus, from the metadata of their records.")
	app.HelpFlag.Short('h')
	app.Version(version.Print("helm-state-metrics"))
	app.Flag("kubeconfig", "Path of a kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config, then the cluster that the exporter runs in.").
		PlaceHolder("FILE").StringVar(&cfg.kubeconfig)
	listVar(app, "namespaces", "Namespace to watch, with namespaced requests only, so that Roles suffice. Repeatable, or separated by commas. Default: all, in one watch.", &cfg.namespaces)
	listVar(app, "namespaces-denylist", "Namespace to leave out. Repeatable, or separated by commas.", &cfg.deniedNamespaces)
	app.Flag("storage", "Where Helm keeps its records: secrets, configmaps, or both, separated by a comma. If one release is in both, Secrets win.").
		Default(string(release.Secrets)).SetValue(&storageList{list: &cfg.storages})
	app.Flag("payload", "Whether to read the payload of each new revision, once (lazy), or none at all (never): then chart and versions are not known, and the verb get is not needed.").
		Default(payloadLazy).SetValue(&checked[string]{into: &cfg.payload, parse: parsePayload})
	app.Flag("fetch.concurrency", "How many payloads to read at once.").
		Default("4").SetValue(&checked[int]{into: &cfg.fetchConcurrency, parse: parseConcurrency})
	listVar(app, "release-labels", "Key of a label of the records to expose in helm_release_labels. Repeatable, or separated by commas.", &cfg.releaseLabels)
	app.Flag("metrics.all-statuses", "Expose a row of helm_release_status for every status that Helm knows, instead of helm_release_other_status.").
		BoolVar(&cfg.allStatuses)
	app.Flag("metrics.allowlist", "Regular expression, anchored, for the names of the families about releases to expose. Repeatable. Default: all.").
		PlaceHolder("REGEX").SetValue(&regexpList{list: &cfg.allow})
	app.Flag("metrics.denylist", "Regular expression for the names of the families about releases to leave out; what is left out costs nothing. Repeatable.").
		PlaceHolder("REGEX").SetValue(&regexpList{list: &cfg.deny})
	app.Flag("web.listen-address", "Address to listen on. Repeatable.").
		Default(":8080").StringsVar(&cfg.listenAddresses)
	app.Flag("web.config.file", "Path of a file that enables TLS or basic auth, see https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md").
		PlaceHolder("FILE").StringVar(&cfg.webConfigFile)
	app.Flag("web.enable-pprof", "Serve profiles under /debug/pprof/.").
		BoolVar(&cfg.pprof)
	var log promslog.Config
	promslogflag.AddFlags(app, &log)
	cfg.logLevel, cfg.logFormat = log.Level, log.Format
	for name, value := range map[string]kingpin.Value{promslogflag.LevelFlagName: log.Level, promslogflag.FormatFlagName: log.Format} {
		app.GetFlag(name).SetValue(&named{value, name})
	}
	return app
}

func (c *config) validate() error {
	for flag, names := range map[string][]string{"namespaces": c.namespaces, "namespaces-denylist": c.deniedNamespaces} {
		for _, name := range names {
			if reasons := validation.IsDNS1123Label(name); len(reasons) > 0 {
				return fmt.Errorf("--%s=%s is no namespace name: %s", flag, name, strings.Join(reasons, "; "))
			}
		}
	}
	for _, name := range c.namespaces {
		if slices.Contains(c.deniedNamespaces, name) {
			return fmt.Errorf("--namespaces and --namespaces-denylist both name %q; leave it out of one", name)
		}
	}
	for _, key := range c.releaseLabels {
		if reasons := validation.IsQualifiedName(key); len(reasons) > 0 {
			return fmt.Errorf("--release-labels=%s is no label key: %s", key, strings.Join(reasons, "; "))
		}
	}
	return nil
}

func parsePayload(s string) (string, error) {
	if s != payloadLazy && s != payloadNever {
		return "", fmt.Errorf("--payload=%s is neither %s nor %s", s, payloadLazy, payloadNever)
	}
	return s, nil
}

func parseConcurrency(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxConcurrency {
		return 0, fmt.Errorf("--fetch.concurrency=%s is not a number between 1 and %d", s, maxConcurrency)
	}
	return n, nil
}
