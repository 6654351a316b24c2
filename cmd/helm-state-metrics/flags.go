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
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// The values of --payload.
const (
	payloadLazy  = "lazy"
	payloadNever = "never"
)

// maxConcurrency bounds --fetch.concurrency: more GETs at once do not make a
// start any faster.
const maxConcurrency = 64

// config is what the flags say.
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
	web              *toolkit.FlagConfig
	pprof            bool
	log              promslog.Config
}

// fetches returns how many payloads are read at once, 0 if none is ever read.
func (c *config) fetches() int {
	if c.payload == payloadNever {
		return 0
	}
	return c.fetchConcurrency
}

// parseFlags returns nil without an error if the arguments ask for help or the
// version, which it has then written to stdout.
func parseFlags(args []string, stdout io.Writer) (*config, error) {
	cfg := &config{}
	app, g := newApp(cfg)
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
	return cfg, cfg.complete(g)
}

// given are the values of flags that kingpin cannot check, as they were given.
type given struct {
	storages, namespaces, deniedNamespaces, releaseLabels *[]string
	allow, deny                                           *[]*regexp.Regexp
	concurrency                                           *string
}

// newApp declares the flags. docs/flags.md is generated from it.
func newApp(cfg *config) (*kingpin.Application, given) {
	app := kingpin.New("helm-state-metrics", "Exposes the state of Helm releases to Prometheus, from the metadata of their records.")
	app.HelpFlag.Short('h')
	app.Version(version.Print("helm-state-metrics"))
	var g given
	app.Flag("kubeconfig", "Path of a kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config, then the cluster that the exporter runs in.").
		PlaceHolder("FILE").StringVar(&cfg.kubeconfig)
	g.namespaces = app.Flag("namespaces", "Namespace to watch, with namespaced requests only, so that Roles suffice. Repeatable, or separated by commas. Default: all, in one watch.").
		PlaceHolder("NAME").Strings()
	g.deniedNamespaces = app.Flag("namespaces-denylist", "Namespace to leave out. Repeatable, or separated by commas.").
		PlaceHolder("NAME").Strings()
	g.storages = app.Flag("storage", "Where Helm keeps its records: secrets, configmaps, or both, separated by a comma. If one release is in both, Secrets win.").
		Default(string(release.Secrets)).Strings()
	app.Flag("payload", "Whether to read the payload of each new revision, once (lazy), or none at all (never): then chart and versions are not known, and the verb get is not needed.").
		Default(payloadLazy).EnumVar(&cfg.payload, payloadLazy, payloadNever)
	g.concurrency = app.Flag("fetch.concurrency", fmt.Sprintf("How many payloads to read at once, at most %d.", maxConcurrency)).
		Default("4").String()
	g.releaseLabels = app.Flag("release-labels", "Key of a label of the records to expose in helm_release_labels. Repeatable, or separated by commas.").
		PlaceHolder("NAME").Strings()
	app.Flag("metrics.all-statuses", "Expose a row of helm_release_status for every status that Helm knows, instead of helm_release_other_status.").
		BoolVar(&cfg.allStatuses)
	g.allow = app.Flag("metrics.allowlist", "Regular expression, anchored, for the names of the families about releases to expose. Repeatable. Default: all.").
		PlaceHolder("REGEX").RegexpList()
	g.deny = app.Flag("metrics.denylist", "Regular expression, anchored, for the names of the families about releases to leave out; what is left out costs nothing. Repeatable.").
		PlaceHolder("REGEX").RegexpList()
	cfg.web = kingpinflag.AddFlags(app, ":8080")
	app.Flag("web.enable-pprof", "Serve profiles under /debug/pprof/.").
		BoolVar(&cfg.pprof)
	promslogflag.AddFlags(app, &cfg.log)
	for _, f := range app.Model().Flags {
		if f.Name != "help" && f.Name != "version" {
			app.GetFlag(f.Name).SetValue(named{f.Value, f.Name})
		}
	}
	return app, g
}

// named is the value of a flag. Its errors name the flag and what was given,
// which those of kingpin's values do not.
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

// complete checks the given values and sets the config to them.
func (c *config) complete(g given) error {
	c.namespaces, c.deniedNamespaces, c.releaseLabels = split(*g.namespaces), split(*g.deniedNamespaces), split(*g.releaseLabels)
	c.allow, c.deny = anchored(*g.allow), anchored(*g.deny)
	for _, s := range split(*g.storages) {
		if s != string(release.Secrets) && s != string(release.ConfigMaps) {
			return fmt.Errorf("--storage=%s: must be %s, %s or both", s, release.Secrets, release.ConfigMaps)
		}
		c.storages = append(c.storages, release.Storage(s))
	}
	if len(c.storages) == 0 {
		return fmt.Errorf("--storage is empty: must be %s, %s or both", release.Secrets, release.ConfigMaps)
	}
	var err error
	if c.fetchConcurrency, err = strconv.Atoi(*g.concurrency); err != nil || c.fetchConcurrency < 1 || c.fetchConcurrency > maxConcurrency {
		return fmt.Errorf("--fetch.concurrency=%s: must be a number between 1 and %d", *g.concurrency, maxConcurrency)
	}
	for flag, names := range map[string][]string{"namespaces": c.namespaces, "namespaces-denylist": c.deniedNamespaces} {
		for _, name := range names {
			if reasons := validation.IsDNS1123Label(name); len(reasons) > 0 {
				return fmt.Errorf("--%s=%s: not a namespace name: %s", flag, name, strings.Join(reasons, "; "))
			}
		}
	}
	for _, name := range c.namespaces {
		if slices.Contains(c.deniedNamespaces, name) {
			return fmt.Errorf("--namespaces and --namespaces-denylist both name %q; remove it from one", name)
		}
	}
	for _, key := range c.releaseLabels {
		if reasons := validation.IsQualifiedName(key); len(reasons) > 0 {
			return fmt.Errorf("--release-labels=%s: not a label key: %s", key, strings.Join(reasons, "; "))
		}
	}
	return nil
}

// split returns the parts of lists that are separated by commas, each once.
func split(values []string) []string {
	var all []string
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if part = strings.TrimSpace(part); part != "" && !slices.Contains(all, part) {
			all = append(all, part)
		}
	}
	return all
}

// anchored makes expressions match whole names, as in Prometheus.
func anchored(expressions []*regexp.Regexp) []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, r := range expressions {
		all = append(all, regexp.MustCompile("^(?:"+r.String()+")$"))
	}
	return all
}
