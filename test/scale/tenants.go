package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// tenantsCommand is the argument that makes this program measure what many tenants cost: shards, authorization, and
// one tenant who writes many releases at once.
const tenantsCommand = "tenants"

// floodLimit is the limit of releases per namespace while one tenant exceeds it.
const floodLimit = 1000

// sharded is what each of a number of shards took. All but GETs is of the shard that took most.
type sharded struct {
	total    int
	releases int
	worst    startup
	steady   steady
	gets     int // of all shards together
	list     int64
}

// authorized is what requests with a token cost.
type authorized struct {
	first, cached  time.Duration
	sent, received int64 // bytes of the first
	reviews        int   // of all scrapes
	scrapes        int
}

// flooded is what a flood did to an exporter.
type flooded struct {
	limit   string
	during  []time.Duration // scrapes
	after   steady
	restart startup
}

// measureTenants does everything and writes the report.
func measureTenants(ctx context.Context, cfg config, stdout, stderr io.Writer) error {
	cfg.revisions = 1
	e := &experiment{cfg: cfg, stderr: stderr, steps: 6}
	return e.inCluster(ctx, func(client kubernetes.Interface) error { return e.measureTenants(ctx, client, stdout) })
}

// inCluster calls do with a control plane that has nothing but its own objects.
func (e *experiment) inCluster(ctx context.Context, do func(kubernetes.Interface) error) (err error) {
	if e.dir, err = os.MkdirTemp("", "helm-state-metrics-scale-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(e.dir)) }()
	e.begin("starting etcd and a Kubernetes API server")
	server, err := process.StartCluster(ctx, e.clusterDir(), []string{"GOGC=25"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	client, err := helmClient(e.kubeconfig())
	if err != nil {
		return err
	}
	return do(client)
}

func (e *experiment) measureTenants(ctx context.Context, client kubernetes.Interface, stdout io.Writer) error {
	cfg := e.cfg
	e.begin("writing %d releases", cfg.releases)
	if err := makeNamespaces(ctx, cfg, client); err != nil {
		return err
	}
	written, err := fill(ctx, cfg, client, 1, 2, e.stderr)
	if err != nil {
		return err
	}
	e.begin("starting 1, 2, 4 and 8 shards, one after the other")
	var shards []sharded
	var whole map[string]bool
	for _, total := range []int{1, 2, 4, 8} {
		s, lines, err := e.measureShards(ctx, total)
		if err != nil {
			return err
		}
		if shards = append(shards, s); whole == nil {
			whole = lines
		}
		if !maps.Equal(whole, lines) {
			return fmt.Errorf("%d shards expose %d lines together, and one exporter %d, or others", total, len(lines), len(whole))
		}
	}
	e.begin("scraping with a token")
	a, err := e.measureAuth(ctx, client)
	if err != nil {
		return err
	}
	e.begin("writing %d releases into one namespace", cfg.flood)
	floods, err := e.measureFlood(ctx, client, whole)
	if err != nil {
		return err
	}
	e.begin("writing the report")
	return publish(cfg, stdout, func(m machine) string { return tenantsReport(cfg, m, written, shards, a, floods) }, nil)
}

// measureShards starts each of a number of shards, and returns the lines about releases of all of them together. No
// line may be there twice.
func (e *experiment) measureShards(ctx context.Context, total int) (s sharded, lines map[string]bool, err error) {
	s.total, lines = total, make(map[string]bool)
	serves := e.shardSizes(total)
	for shard := range total {
		one := e.exporter("helm_release_info", fmt.Sprintf("--shard=%d", shard), fmt.Sprintf("--total-shards=%d", total))
		one.serves = serves[shard]
		start, err := e.startCounted(ctx, one, func(r *running) error {
			steady, err := r.scrapeRepeatedly(ctx)
			if err != nil {
				return err
			}
			s.gets += steady.Fetches
			s.steady = steady.most(s.steady)
			last, err := r.scrape(ctx)
			if err != nil {
				return err
			}
			return collect(last.text, lines)
		})
		if err != nil {
			return s, nil, err
		}
		s.releases = max(s.releases, one.serves)
		s.worst = start.most(s.worst)
	}
	metadata := e.metadataAlone("--shard=0", fmt.Sprintf("--total-shards=%d", total))
	metadata.serves = serves[0]
	alone, err := e.startCounted(ctx, metadata)
	s.list = alone.Received
	return s, lines, err
}

// shardSizes returns how many releases each shard has.
func (e *experiment) shardSizes(total int) []int {
	sizes := make([]int, total)
	for n := range e.cfg.releases {
		r := payload.NewGenerator(n).Release(namespaceName(e.cfg, n), e.cfg.templates)
		sizes[release.Key{Namespace: r.Namespace, Name: releaseName(r.Name, n)}.Shard(total)]++
	}
	return sizes
}

// collect adds the lines about releases. One that is there already is an error.
func collect(text []byte, to map[string]bool) error {
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte("helm_release_")) {
			continue
		}
		if to[string(line)] {
			return fmt.Errorf("two shards expose %s", line)
		}
		to[string(line)] = true
	}
	return nil
}

// most returns the larger of each figure.
func (s startup) most(o startup) startup {
	return startup{
		List: max(s.List, o.List), Ready: max(s.Ready, o.Ready), Complete: max(s.Complete, o.Complete), CPU: max(s.CPU, o.CPU),
		PeakRSS: max(s.PeakRSS, o.PeakRSS), Received: max(s.Received, o.Received), Sent: max(s.Sent, o.Sent),
	}
}

func (s steady) most(o steady) steady {
	return steady{
		Series: max(s.Series, o.Series), Text: max(s.Text, o.Text), Wire: max(s.Wire, o.Wire), Took: max(s.Took, o.Took),
		CPU: max(s.CPU, o.CPU), PeakRSS: max(s.PeakRSS, o.PeakRSS), Fetches: max(s.Fetches, o.Fetches),
	}
}

// makeScraper creates a service account that may get /metrics, and returns a function that returns a new token of it.
func makeScraper(ctx context.Context, client kubernetes.Interface) (token func() (string, error), err error) {
	const namespace, name = "default", "scraper"
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: name}},
	}
	if _, err := client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	return func() (string, error) {
		answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if err != nil {
			return "", err
		}
		return answer.Status.Token, nil
	}, nil
}

// measureAuth scrapes with tokens.
func (e *experiment) measureAuth(ctx context.Context, client kubernetes.Interface) (a authorized, err error) {
	token, err := makeScraper(ctx, client)
	if err != nil {
		return a, err
	}
	passing, through, err := e.relay("auth")
	if err != nil {
		return a, err
	}
	defer passing.Off()
	s := e.exporter("helm_release_info", "--auth-filter")
	if s.token, err = token(); err != nil {
		return a, err
	}
	r, err := e.start(ctx, s, through)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if r.token, err = token(); err != nil { // nothing is known of this one yet
		return a, err
	}
	before, err := reviews(ctx, client)
	if err != nil {
		return a, err
	}
	received, sent := passing.Received(), passing.Sent()
	var cached []time.Duration
	for a.scrapes = range 100 {
		one, err := r.scrape(ctx)
		if err != nil {
			return a, err
		}
		if a.scrapes == 0 {
			a.first, a.received, a.sent = one.took, passing.Received()-received, passing.Sent()-sent
			continue
		}
		cached = append(cached, one.took)
	}
	a.scrapes++
	a.cached = quantile(cached, 0.5)
	after, err := reviews(ctx, client)
	a.reviews = after - before
	return a, err
}

// reviews returns how many TokenReviews and SubjectAccessReviews the API server has answered.
func reviews(ctx context.Context, client kubernetes.Interface) (int, error) {
	text, err := client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	total := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "apiserver_request_total{") && strings.Contains(line, "reviews\"") {
			var n int
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' '):], &n); err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}

// measureFlood writes many releases into a namespace of their own, while two exporters are scraped, one of them with a
// limit. What they expose of other namespaces must not change.
func (e *experiment) measureFlood(ctx context.Context, client kubernetes.Interface, others map[string]bool) ([]flooded, error) {
	exporters := []subject{e.exporter("helm_release_info", fmt.Sprintf("--metrics.max-releases-per-namespace=%d", floodLimit)), e.exporter("helm_release_info")}
	floods := []flooded{{limit: fmt.Sprint(floodLimit)}, {limit: "none"}}
	var flooding sync.WaitGroup
	var runs []*running
	failures := make([]error, len(exporters))
	written := make(chan struct{})
	for i, s := range exporters {
		r, err := e.start(ctx, s, e.kubeconfig())
		if err != nil {
			return nil, err
		}
		defer func() { _ = r.stop() }()
		runs = append(runs, r)
		flooding.Go(func() { floods[i].during, failures[i] = r.scrapeUntil(ctx, written) })
	}
	err := e.flood(ctx, client)
	close(written)
	flooding.Wait()
	if err := errors.Join(append(failures, err)...); err != nil {
		return nil, err
	}
	for i, r := range runs {
		serves := e.cfg.releases + []int{min(floodLimit, e.cfg.flood), e.cfg.flood}[i]
		if err := r.observe(ctx, "helm_release_info", serves, e.say); err != nil {
			return nil, err
		}
		last, err := r.scrape(ctx)
		if err != nil {
			return nil, err
		}
		got := make(map[string]bool)
		if err := collect(last.text, got); err != nil {
			return nil, err
		}
		maps.DeleteFunc(got, func(line string, _ bool) bool { return strings.Contains(line, `namespace="`+floodNamespace+`"`) })
		if !maps.Equal(got, others) {
			return nil, fmt.Errorf("limit %s: after the flood, the series of other namespaces are %d, or others than the %d before", floods[i].limit, len(got), len(others))
		}
		if floods[i].after, err = r.scrapeRepeatedly(ctx); err != nil {
			return nil, err
		}
		if err := r.stop(); err != nil {
			return nil, err
		}
		exporters[i].serves = serves
		if floods[i].restart, err = e.startCounted(ctx, exporters[i]); err != nil {
			return nil, err
		}
	}
	return floods, nil
}

// scrapeUntil scrapes every half second until something is done, and returns how long each scrape took.
func (r *running) scrapeUntil(ctx context.Context, done <-chan struct{}) (took []time.Duration, err error) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		one, err := r.scrape(ctx)
		if err != nil {
			return nil, err
		}
		took = append(took, one.took)
		select {
		case <-tick.C:
		case <-done:
			return took, nil
		}
	}
}

const floodNamespace = "flood"

// flood writes the records of the tenant who writes many: each of a small chart.
func (e *experiment) flood(ctx context.Context, client kubernetes.Interface) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: floodNamespace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	r := payload.NewGenerator(1).Release(floodNamespace, 1)
	r.Version, r.Info.Status, r.Info.LastDeployed.Time = 1, "deployed", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	encoded, err := payload.Encode(r)
	if err != nil {
		return err
	}
	var next atomic.Int64
	var writing sync.WaitGroup
	failures := make([]error, writers)
	for i := range writers {
		writing.Go(func() {
			for n := int(next.Add(1)) - 1; n < e.cfg.flood && failures[i] == nil; n = int(next.Add(1)) - 1 {
				record := cluster.Secret(fmt.Sprintf("flood-%05d", n), 1, "deployed", encoded)
				_, failures[i] = client.CoreV1().Secrets(floodNamespace).Create(ctx, record, metav1.CreateOptions{})
			}
		})
	}
	writing.Wait()
	return errors.Join(failures...)
}

func tenantsReport(cfg config, m machine, written filled, shards []sharded, a authorized, floods []flooded) string {
	size, seconds := func(n int64) string { return inBytes.format(float64(n)) }, func(d time.Duration) string { return inSeconds.format(d.Seconds()) }
	var b strings.Builder
	fmt.Fprintf(&b, "# Figures with many tenants\n\nWritten by `make tenants` (`test/scale`) on %s. Do not edit.\n\n", m.Date)
	fmt.Fprintf(&b, "%d releases × 1 revision in %d namespaces, mean payload %s.\nMachine: %s, which also ran the API server and etcd.\n\n",
		cfg.releases, cfg.namespaces, size(written.bytes/int64(written.records)), m)
	b.WriteString("## Shards\n\nOf the shard that took most. Together the shards expose the same lines about releases as one exporter, and none twice:\nthe measurement fails otherwise.\n\n")
	b.WriteString("| shards | releases | series | scrape | gzip | scrape took | start until complete | peak RSS | received until complete | list and watch alone | GETs, all shards |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, s := range shards {
		fmt.Fprintf(&b, "| %d | %d | %d | %s | %s | %s | %s | %s | %s | %s | %d |\n", s.total, s.releases, s.steady.Series, size(int64(s.steady.Text)), size(int64(s.steady.Wire)),
			seconds(s.steady.Took), seconds(s.worst.Complete), size(s.steady.PeakRSS), size(s.worst.Received), size(s.list), s.gets)
	}
	b.WriteString("\nEach shard receives the metadata of all releases, so shards multiply this part. They pay when one scrape has become too large for Prometheus or its\ntimeout, not to save memory.\n")
	fmt.Fprintf(&b, "\n## Authorization\n\n| figure | measured |\n|---|---:|\n| first scrape with a new token, with its reviews | %s |\n| scrape with a known token, median | %s |\n"+
		"| reviews for %d scrapes within two minutes | %d |\n| sent to the API server for the first | %s |\n| received for it | %s |\n",
		seconds(a.first), seconds(a.cached), a.scrapes, a.reviews, size(a.sent), size(a.received))
	fmt.Fprintf(&b, "\n## One tenant writes %d releases\n\nAs fast as the API server takes them, while both exporters are scraped twice a second. The series of the other namespaces\nstay as they were: the measurement fails otherwise.\n\n", cfg.flood)
	b.WriteString("| limit per namespace | scrape during the flood, p99 | series after it | scrape, gzip | peak RSS | after a restart: complete after | peak RSS | received |\n|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, f := range floods {
		fmt.Fprintf(&b, "| %s | %s | %d | %s | %s | %s | %s | %s |\n", f.limit, seconds(quantile(slices.Clone(f.during), 0.99)), f.after.Series, size(int64(f.after.Wire)), size(f.after.PeakRSS),
			seconds(f.restart.Complete), size(f.restart.PeakRSS), size(f.restart.Received))
	}
	return b.String()
}
