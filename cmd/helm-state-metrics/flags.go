package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/helm-state-metrics/helm-state-metrics/internal/cli"
	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/watch"
	"github.com/helm-state-metrics/helm-state-metrics/internal/web"
)

// The values of --payload.
const (
	payloadLazy  = "lazy"
	payloadNever = "never"
)

const (
	// maxConcurrency bounds --fetch.concurrency: more GETs at once do not make a start any faster.
	maxConcurrency = 64
	// maxShards bounds --total-shards: each shard follows the metadata of all releases.
	maxShards = 1024
)

// config is what the flags say, for each component.
type config struct {
	kubeconfig string
	payload    string
	watch      watch.Config
	metrics    metrics.Options
	web        web.Config
	log        promslog.Config

	// authFilter says whether /metrics needs a token, for one of audiences.
	authFilter bool
	audiences  []string

	// These are as given; complete puts them into watch.
	storages    []string
	concurrency string
	maxReleases string
	shard       string
	totalShards string
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

// newApp declares the flags. docs/flags.md is generated from it.
func newApp(cfg *config) *kingpin.Application {
	app := kingpin.New("helm-state-metrics", "Exposes the state of Helm releases to Prometheus, from the metadata of their records.")
	app.HelpFlag.Short('h')
	app.Version(version.Print("helm-state-metrics"))
	app.Flag("kubeconfig", "Path of a kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config, then the cluster that the exporter runs in.").
		PlaceHolder("FILE").StringVar(&cfg.kubeconfig)
	app.Flag("namespaces", "Namespace to watch, with namespaced requests only, so that Roles suffice. Repeatable, or separated by commas. Default: all, in one watch.").
		PlaceHolder("NAME").StringsVar(&cfg.watch.Namespaces)
	app.Flag("namespaces-denylist", "Namespace to leave out. Repeatable, or separated by commas.").
		PlaceHolder("NAME").StringsVar(&cfg.watch.DeniedNamespaces)
	app.Flag("storage", "Where Helm keeps its records: secrets, configmaps, or both, separated by a comma. If one release is in both, Secrets win.").
		Default(string(release.Secrets)).StringsVar(&cfg.storages)
	app.Flag("payload", "Whether to read the payload of each new revision, once (lazy), or none at all (never): then chart and versions are not known, and the verb get is not needed.").
		Default(payloadLazy).EnumVar(&cfg.payload, payloadLazy, payloadNever)
	app.Flag("fetch.concurrency", fmt.Sprintf("How many payloads to read at once, at most %d.", maxConcurrency)).
		Default("4").StringVar(&cfg.concurrency)
	app.Flag("release-labels", "Key of a label of the records to expose in helm_release_labels. Repeatable, or separated by commas.").
		PlaceHolder("NAME").StringsVar(&cfg.watch.ReleaseLabels)
	app.Flag("metrics.all-statuses", "Expose a row of helm_release_status for every status that Helm knows, instead of helm_release_other_status.").
		BoolVar(&cfg.metrics.AllStatuses)
	app.Flag("metrics.allowlist", "Regular expression, anchored, for the names of the families about releases to expose. Repeatable. Default: all.").
		PlaceHolder("REGEX").RegexpListVar(&cfg.metrics.Allow)
	app.Flag("metrics.denylist", "Regular expression, anchored, for the names of the families about releases to leave out; what is left out costs nothing. Repeatable.").
		PlaceHolder("REGEX").RegexpListVar(&cfg.metrics.Deny)
	app.Flag("metrics.max-releases-per-namespace", "How many releases of a namespace each exporter exposes, those created first; 0 for all. The payloads of the others are not read.").
		Default("0").StringVar(&cfg.maxReleases)
	app.Flag("shard", "Number of the shard that this exporter serves, from 0.").
		Default("0").StringVar(&cfg.shard)
	app.Flag("total-shards", "Number of shards. A hash of namespace and name decides which shard exposes a release.").
		Default("1").StringVar(&cfg.totalShards)
	cfg.web.Listen = kingpinflag.AddFlags(app, ":8080")
	app.Flag("health.listen-address", "Address of the probes /livez and /readyz, always plain HTTP without authentication.").
		Default(":8081").StringVar(&cfg.web.Health)
	app.Flag("pages.listen-address", "Address of the status page and the JSON API. By default only kubectl port-forward reaches them. Empty to serve none.").
		Default("127.0.0.1:8082").StringVar(&cfg.web.Pages)
	app.Flag("pages.allowed-hosts", "Name that the Host header of requests to the pages may have, besides localhost and IP addresses. Repeatable, or separated by commas.").
		PlaceHolder("NAME").StringsVar(&cfg.web.PagesHosts)
	app.Flag("pages.enable-pprof", "Serve profiles under /debug/pprof/ of the pages' address.").
		BoolVar(&cfg.web.PProf)
	app.Flag("auth-filter", "Require a bearer token for /metrics, checked by TokenReview, and the right to get /metrics, or namespaces/metrics of each namespace asked for, checked by SubjectAccessReview.").
		BoolVar(&cfg.authFilter)
	app.Flag("auth-token-audiences", "Audience that tokens must be issued for. Repeatable, or separated by commas. Default: that of the API server.").
		PlaceHolder("NAME").StringsVar(&cfg.audiences)
	promslogflag.AddFlags(app, &cfg.log)
	return app
}

// complete checks what kingpin cannot check.
func (c *config) complete() (err error) {
	w := &c.watch
	w.Namespaces, w.DeniedNamespaces, w.ReleaseLabels = split(w.Namespaces), split(w.DeniedNamespaces), split(w.ReleaseLabels)
	c.audiences, c.web.PagesHosts = split(c.audiences), split([]string{strings.ToLower(strings.Join(c.web.PagesHosts, ","))})
	if c.web.Health == "" {
		return errors.New("--health.listen-address is empty: the probes need an address")
	}
	c.metrics.ReleaseLabels = w.ReleaseLabels
	for flag, expressions := range map[string][]*regexp.Regexp{"metrics.allowlist": c.metrics.Allow, "metrics.denylist": c.metrics.Deny} {
		for i, r := range expressions { // anchored, as in Prometheus
			if expressions[i], err = regexp.Compile("^(?:" + r.String() + ")$"); err != nil {
				return fmt.Errorf("--%s=%s: %w", flag, r, err)
			}
		}
	}
	for _, s := range split(c.storages) {
		w.Storages = append(w.Storages, release.Storage(s))
		if s != string(release.Secrets) && s != string(release.ConfigMaps) {
			return fmt.Errorf("--storage=%s: must be %s, %s or both", s, release.Secrets, release.ConfigMaps)
		}
	}
	if len(w.Storages) == 0 {
		return fmt.Errorf("--storage is empty: must be %s, %s or both", release.Secrets, release.ConfigMaps)
	}
	if err := c.numbers(); err != nil {
		return err
	}
	if len(c.audiences) > 0 && !c.authFilter {
		return errors.New("--auth-token-audiences needs --auth-filter")
	}
	if c.payload == payloadNever {
		w.FetchConcurrency = 0
	}
	for flag, names := range map[string][]string{"namespaces": w.Namespaces, "namespaces-denylist": w.DeniedNamespaces} {
		for _, name := range names {
			if reasons := validation.IsDNS1123Label(name); len(reasons) > 0 {
				return fmt.Errorf("--%s=%s: not a namespace name: %s", flag, name, strings.Join(reasons, "; "))
			}
		}
	}
	for _, name := range w.Namespaces {
		if slices.Contains(w.DeniedNamespaces, name) {
			return fmt.Errorf("--namespaces and --namespaces-denylist both name %q; remove it from one", name)
		}
	}
	for _, key := range w.ReleaseLabels {
		if reasons := validation.IsQualifiedName(key); len(reasons) > 0 {
			return fmt.Errorf("--release-labels=%s: not a label key: %s", key, strings.Join(reasons, "; "))
		}
	}
	return nil
}

// numbers reads the flags that are numbers.
func (c *config) numbers() (err error) {
	w := &c.watch
	for _, n := range []struct {
		flag, given string
		to          *int
		low, high   int
	}{
		{"fetch.concurrency", c.concurrency, &w.FetchConcurrency, 1, maxConcurrency},
		{"metrics.max-releases-per-namespace", c.maxReleases, &w.MaxReleases, 0, math.MaxInt32},
		{"total-shards", c.totalShards, &w.TotalShards, 1, maxShards},
		{"shard", c.shard, &w.Shard, 0, maxShards - 1},
	} {
		if *n.to, err = strconv.Atoi(n.given); err != nil || *n.to < n.low || *n.to > n.high {
			return fmt.Errorf("--%s=%s: must be a number between %d and %d", n.flag, n.given, n.low, n.high)
		}
	}
	if w.Shard >= w.TotalShards {
		return fmt.Errorf("--shard=%d: must be less than --total-shards=%d; shards are numbered from 0", w.Shard, w.TotalShards)
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
