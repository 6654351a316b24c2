package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/relay"
)

// floodsCommand is the argument that makes this program measure floods: of writes, of other Secrets, and of scrapes.
const floodsCommand = "flood"

const (
	// scrapeInterval and reloadInterval are how often Prometheus and a person ask during a flood, and clientTimeout is
	// how long they wait. Any answer but 200 is an error.
	scrapeInterval = 100 * time.Millisecond
	reloadInterval = 200 * time.Millisecond
	clientTimeout  = 10 * time.Second
	// slowClients ask for /metrics and do not read; half of them read slowSpeed bytes per second.
	slowClients = 50
	slowSpeed   = 32_000
	// scrapers want scrapesPerSecond together.
	scrapers         = 50
	scrapesPerSecond = 500
)

// The limits of every flood.
const (
	rightWithin = 5 * time.Second
	maxFloodRSS = 250e6
	// usually is for 99 of 100 scrapes and pages, with a control plane and all clients on the same cores, and atMost for
	// every scrape, also if slow clients hold all places.
	usually = 2 * time.Second
	atMost  = 5 * time.Second
	// quietBytes may come from the API server per second while nothing of Helm changes: pings and bookmarks.
	quietBytes = 100
)

// flooding is an exporter between a control plane full of releases and those who flood both.
type flooding struct {
	*experiment
	client  kubernetes.Interface
	passing *relay.Relay // between the two
	run     *running
}

// flood is one of the floods, and what was measured.
type flood struct {
	name string
	// newest is how many revisions become the newest of their release. Each may cost one GET.
	newest int
	// page is the release that a person looks at. If that one is flooded, each version of its record may be read again
	// for the page, within the limit of such GETs.
	page    string
	flooded bool
	still   bool // nothing of Helm changes
	slow    bool // clients hold all places
	do      func(context.Context, *flood) error

	writes, gets   int
	took, right    time.Duration
	rss            int64
	scrapes, pages []time.Duration
	events         int
	received       int64
	note           string
	missed         []string
}

// measureFloods does everything, writes the report, and fails if a limit is exceeded.
func measureFloods(ctx context.Context, cfg config, stdout, stderr io.Writer) error {
	cfg.revisions = 1
	e := &experiment{cfg: cfg, stderr: stderr, steps: 10}
	return e.flooded(ctx, fillOnce, func(f *flooding) error {
		var all []*flood
		for _, one := range f.floods() {
			e.begin("%s", one.name)
			if err := f.measure(ctx, one); err != nil {
				return fmt.Errorf("%s: %w", one.name, err)
			}
			e.say("      %s", one.row())
			all = append(all, one)
		}
		return publish(cfg, stdout, func(m machine) string { return floodsReport(cfg, m, all) }, missedBy(all))
	})
}

// fillOnce writes one revision of each release.
func fillOnce(ctx context.Context, f *flooding) error {
	_, err := fill(ctx, f.cfg, f.client, 1, 2, f.stderr)
	return err
}

// publish writes a report to standard output, and to a file if the flags say so. It returns the error that the report
// is about.
func publish(cfg config, stdout io.Writer, report func(machine) string, missed error) error {
	m, err := describeMachine()
	if err != nil {
		return err
	}
	text := report(m)
	if _, err := io.WriteString(stdout, text); err != nil {
		return err
	}
	if cfg.out != "" {
		err = os.WriteFile(cfg.out+".md", []byte(text), 0o644)
	}
	return errors.Join(err, missed)
}

func missedBy(all []*flood) error {
	var missed []error
	for _, one := range all {
		for _, what := range one.missed {
			missed = append(missed, fmt.Errorf("%s: %s", one.name, what))
		}
	}
	return errors.Join(missed...)
}

// quietNamespace has one release that nobody changes, whose pages a person looks at.
const (
	quietNamespace = "quiet"
	quietRelease   = "quiet"
)

// flooded fills a cluster, starts an exporter behind a relay, calls do, and stops everything.
func (e *experiment) flooded(ctx context.Context, fill func(context.Context, *flooding) error, do func(*flooding) error) error {
	return e.inCluster(ctx, func(client kubernetes.Interface) (err error) {
		e.begin("writing %d releases into %d namespaces", e.cfg.releases, e.cfg.namespaces)
		if err := makeNamespaces(ctx, e.cfg, client); err != nil {
			return err
		}
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: quietNamespace}}
		if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return err
		}
		f := &flooding{experiment: e, client: client}
		if err := f.create(ctx, quietNamespace, quietRelease, 1, "deployed"); err != nil {
			return err
		}
		if err := fill(ctx, f); err != nil {
			return err
		}
		e.begin("starting the exporter")
		passing, through, err := e.relay("flood")
		if err != nil {
			return err
		}
		defer passing.Off()
		s := e.exporter("helm_release_info")
		s.serves++
		if f.run, err = e.start(ctx, s, through); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.run.stop()) }()
		f.passing = passing
		return do(f)
	})
}

// record returns a record with a small payload, whose chart's version tells the revision.
func record(namespace, name string, revision int, status string) (*corev1.Secret, error) {
	r := &payload.Release{
		Name: name, Namespace: namespace, Version: revision,
		Info: &payload.Info{LastDeployed: payload.Time{Time: time.Unix(1_790_000_000+int64(revision), 0).UTC()}, Status: status},
		Chart: &payload.Chart{Metadata: &payload.Metadata{
			Name: "small", Version: fmt.Sprintf("1.%d.0", revision), AppVersion: "1", APIVersion: "v2",
		}},
	}
	encoded, err := payload.Encode(r)
	if err != nil {
		return nil, err
	}
	s := cluster.Secret(name, revision, status, encoded)
	s.Namespace = namespace
	return s, nil
}

func (f *flooding) create(ctx context.Context, namespace, name string, revision int, status string) error {
	s, err := record(namespace, name, revision, status)
	if err != nil {
		return err
	}
	_, err = f.client.CoreV1().Secrets(namespace).Create(ctx, s, metav1.CreateOptions{})
	return err
}

// update writes a record that exists, as Helm does: all of it.
func (f *flooding) update(ctx context.Context, s *corev1.Secret, status string) error {
	s.Labels["status"] = status
	_, err := f.client.CoreV1().Secrets(s.Namespace).Update(ctx, s, metav1.UpdateOptions{})
	return err
}

// times calls do n times, some at once, and stops at the first error.
func times(ctx context.Context, n, atOnce int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := 0; i < n && ctx.Err() == nil; i++ {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// floods returns the floods in the order in which they are measured.
func (f *flooding) floods() []*flood {
	quiet := quietNamespace + "/" + quietRelease
	return []*flood{
		{name: fmt.Sprintf("%d releases upgraded at once", f.cfg.releases), newest: f.cfg.releases, page: quiet, do: f.upgradeAll},
		{name: fmt.Sprintf("%d Secrets of other types", f.cfg.others), page: quiet, still: true, do: f.writeStrangers},
		{name: fmt.Sprintf("%d scrapes a second", scrapesPerSecond), page: quiet, still: true, do: f.scrapeOften},
		{name: fmt.Sprintf("%d clients that do not read", slowClients), page: quiet, still: true, slow: true, do: f.scrapeSlowly},
		{name: fmt.Sprintf("%d namespaces emptied at once", f.cfg.namespaces), page: quiet, do: f.emptyAll},
		{name: fmt.Sprintf("one record rewritten %d times", f.cfg.times), page: quiet, flooded: true, do: f.rewriteOne},
		{name: fmt.Sprintf("one release upgraded %d times", f.cfg.times), newest: f.cfg.times, page: quietNamespace + "/busy", do: f.upgradeOne},
	}
}

// upgradeAll upgrades every release once, with the three writes of Helm.
func (f *flooding) upgradeAll(ctx context.Context, one *flood) error {
	cfg := f.cfg
	cfg.revisions = 2
	one.writes = 3 * cfg.releases
	return times(ctx, cfg.releases, writers, func(ctx context.Context, n int) error {
		records, err := history(cfg, n, 1, 3)
		if err != nil {
			return err
		}
		newer := records[1]
		newer.Labels["status"] = "pending-upgrade"
		if _, err := f.client.CoreV1().Secrets(newer.Namespace).Create(ctx, newer, metav1.CreateOptions{}); err != nil {
			return err
		}
		return errors.Join(f.update(ctx, records[0], "superseded"), f.update(ctx, newer, "deployed"))
	})
}

// writeStrangers writes Secrets that are no records, half of them with the names and the labels of records.
func (f *flooding) writeStrangers(ctx context.Context, one *flood) error {
	one.writes = f.cfg.others
	return times(ctx, f.cfg.others, writers, func(ctx context.Context, n int) error {
		stranger := cluster.Secret(fmt.Sprintf("stranger-%d", n), 1, "deployed", []byte("not a payload"))
		if stranger.Type = "operatorframework.io/bundle"; n%2 == 0 {
			stranger.Type, stranger.Labels, stranger.Name = corev1.SecretTypeOpaque, nil, fmt.Sprintf("stranger-%d", n)
		}
		_, err := f.client.CoreV1().Secrets(namespaceName(f.cfg, n)).Create(ctx, stranger, metav1.CreateOptions{})
		return err
	})
}

// emptyAll deletes all records of all namespaces but the quiet one.
func (f *flooding) emptyAll(ctx context.Context, one *flood) error {
	one.writes = 2 * f.cfg.releases
	return times(ctx, f.cfg.namespaces, writers, func(ctx context.Context, n int) error {
		return f.client.CoreV1().Secrets(namespaceName(f.cfg, n)).DeleteCollection(ctx, metav1.DeleteOptions{}, records())
	})
}

// records selects Helm's records.
func records() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: cluster.Owner, FieldSelector: "type=" + cluster.RecordType}
}

// rewriteOne writes one record again and again. In the end it is as before.
func (f *flooding) rewriteOne(ctx context.Context, one *flood) error {
	one.writes = f.cfg.times
	return times(ctx, f.cfg.times, writers, func(ctx context.Context, n int) error {
		s, err := record(quietNamespace, quietRelease, 1, "deployed")
		if err != nil {
			return err
		}
		return f.update(ctx, s, []string{"deployed", "failed", "pending-upgrade"}[n%3])
	})
}

// upgradeOne writes one revision of a release after the other, and leaves all of them.
func (f *flooding) upgradeOne(ctx context.Context, one *flood) error {
	one.writes = f.cfg.times
	return times(ctx, f.cfg.times, writers, func(ctx context.Context, n int) error {
		return f.create(ctx, quietNamespace, "busy", n+1, "deployed")
	})
}

// scrapeOften scrapes with many clients, as often as is wanted of them together.
func (f *flooding) scrapeOften(ctx context.Context, one *flood) error {
	limited, cancel := context.WithTimeout(ctx, f.cfg.lasts)
	defer cancel()
	took := make([][]time.Duration, scrapers)
	err := times(ctx, scrapers, scrapers, func(_ context.Context, n int) (err error) {
		took[n], err = reload(limited, scrapers*time.Second/scrapesPerSecond, f.run.metrics+"/metrics")
		return err
	})
	all := slices.Concat(took...)
	if err != nil || len(all) == 0 {
		return errors.Join(err, ctx.Err())
	}
	one.note = fmt.Sprintf("%.0f a second were answered, 99%% of them within %s", float64(len(all))/f.cfg.lasts.Seconds(), inSeconds.format(quantile(all, 0.99).Seconds()))
	return nil
}

// scrapeSlowly holds all places with clients that read nothing or little, and come back when they are cut off.
func (f *flooding) scrapeSlowly(ctx context.Context, one *flood) error {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.lasts)
	defer cancel()
	var came atomic.Int64
	err := times(ctx, slowClients, slowClients, func(ctx context.Context, n int) error {
		for ctx.Err() == nil {
			if err := hold(ctx, f.run.metrics, n%2*slowSpeed); err != nil {
				return err
			}
			came.Add(1)
		}
		return nil
	})
	one.note = fmt.Sprintf("they came %d times", came.Load())
	return err
}

// hold asks for everything, without compression, and reads so many bytes per second until it is cut off, or nothing for
// three seconds.
func hold(ctx context.Context, address string, speed int) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	if speed == 0 {
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
		return nil
	}
	tick := time.NewTicker(time.Second / 10)
	defer tick.Stop()
	for b := make([]byte, speed/10); ctx.Err() == nil; <-tick.C {
		if _, err := conn.Read(b); err != nil || bytes.HasPrefix(b, []byte("HTTP/1.1 503")) {
			return nil //nolint:nilerr // it is cut off, as it should be, or there was no place for it
		}
	}
	return nil
}

// measure lets a flood come, while Prometheus scrapes and a person looks at pages, and waits until the exporter is
// right.
func (f *flooding) measure(ctx context.Context, one *flood) error {
	before, err := f.counts(ctx)
	if err != nil {
		return err
	}
	if err := resetPeak(f.run.PID()); err != nil {
		return err
	}
	begin := time.Now()
	err = f.during(ctx, one, func(ctx context.Context) (err error) {
		if err := one.do(ctx, one); err != nil {
			return err
		}
		one.took = time.Since(begin)
		one.right, err = f.untilRight(ctx, time.Now())
		return err
	})
	if err != nil {
		return err
	}
	after, err := f.counts(ctx)
	if err != nil {
		return err
	}
	one.gets, one.events, one.received = after.gets-before.gets, after.events-before.events, after.received-before.received
	if one.rss, err = peakRSS(f.run.PID()); err != nil {
		return err
	}
	one.judge()
	return nil
}

// counts are how much has come from the API server.
type counts struct {
	gets, events int
	received     int64
}

func (f *flooding) counts(ctx context.Context) (c counts, err error) {
	s, err := f.run.scrape(ctx)
	if err != nil {
		return c, err
	}
	gets, err := s.sum("helm_state_metrics_payload_fetches_total")
	if err != nil {
		return c, err
	}
	events, err := s.sum("helm_state_metrics_watch_events_total")
	return counts{int(gets), int(events), f.passing.Received()}, err
}

// maxRereads is how many GETs the viewers of pages may cause within some time.
func maxRereads(within time.Duration) int { return 10 + int(5*within.Seconds()) }

// judge compares the figures with their limits.
func (one *flood) judge() {
	lasted := one.took + one.right
	gets, received := one.newest, int64(math.MaxInt64)
	if one.flooded {
		gets += maxRereads(lasted)
	}
	if one.still {
		received = 1000 + int64(quietBytes*lasted.Seconds())
	}
	scrape, longest, page := quantile(one.scrapes, 0.99), quantile(one.scrapes, 1), quantile(one.pages, 0.99)
	for _, limit := range []struct {
		exceeded bool
		what     string
		got, may any
	}{
		{one.right > rightWithin, "right after", one.right, rightWithin},
		{one.gets > gets, "GETs", one.gets, gets},
		{one.rss > maxFloodRSS, "peak RSS", inBytes.format(float64(one.rss)), inBytes.format(maxFloodRSS)},
		{one.still && one.events > 0, "watch events", one.events, 0},
		{one.received > received, "bytes from the API server", one.received, received},
		{scrape > usually && !one.slow, "scrape, p99", scrape, usually},
		{longest > atMost, "longest scrape", longest, atMost},
		{page > usually, "page, p99", page, usually},
	} {
		if limit.exceeded {
			one.missed = append(one.missed, fmt.Sprintf("%s: %v, want at most %v", limit.what, limit.got, limit.may))
		}
	}
}

// during calls do while Prometheus scrapes and a person reloads pages.
func (f *flooding) during(ctx context.Context, one *flood, do func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	busy, done := context.WithCancel(ctx)
	defer done()
	group.Go(func() (err error) {
		one.scrapes, err = reload(busy, scrapeInterval, f.run.metrics+"/metrics")
		return err
	})
	group.Go(func() (err error) {
		page := "/releases/" + one.page
		one.pages, err = reload(busy, reloadInterval, f.run.pages+"/", f.run.pages+page, f.run.pages+"/api/v1/releases", f.run.pages+"/api/v1"+page)
		return err
	})
	group.Go(func() error {
		defer done()
		return do(ctx)
	})
	return group.Wait()
}

// reload asks for one page after the other, over one connection, until the context ends. It returns how long each answer
// took.
func reload(ctx context.Context, interval time.Duration, urls ...string) (took []time.Duration, err error) {
	client := newScraper("", "", "")
	client.client.Timeout = clientTimeout
	defer client.close()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; ; n++ {
		url := urls[n%len(urls)]
		begin := time.Now()
		status, err := client.get(ctx, url, http.Header{"Accept-Encoding": {"gzip"}})
		switch {
		case ctx.Err() != nil:
			return took, nil
		case err != nil:
			return nil, err
		case status != http.StatusOK:
			return nil, fmt.Errorf("%s: status %d: %s", url, status, client.wire.Bytes())
		}
		took = append(took, time.Since(begin))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return took, nil
		}
	}
}

// untilRight returns how long after the last write a scrape first showed exactly what the records say.
func (f *flooding) untilRight(ctx context.Context, last time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	type seen struct {
		after time.Duration
		shown uint64
	}
	var all []seen
	var want uint64
	truth := make(chan error, 1)
	go func() {
		text, err := f.truth(ctx)
		want = fingerprint(text)
		truth <- err
	}()
	known := false
	for {
		s, err := f.run.scrape(ctx)
		if err != nil {
			return 0, err
		}
		all = append(all, seen{s.end.Sub(last), fingerprint(s.text)})
		select {
		case err := <-truth:
			if err != nil {
				return 0, err
			}
			known = true
		case <-ctx.Done():
			return 0, ctx.Err()
		default:
		}
		if !known {
			continue
		}
		if at := slices.IndexFunc(all, func(s seen) bool { return s.shown == want }); at >= 0 {
			return all[at].after, nil
		}
	}
}

var seed = maphash.MakeSeed()

// fingerprint is the same for the same lines about releases, in any order. It leaves out the size of a payload: that is
// the one when it was read, and later writes change it.
func fingerprint(text []byte) (sum uint64) {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("helm_release_")) && !bytes.HasPrefix(line, []byte("helm_release_payload_bytes{")) {
			sum += maphash.Bytes(seed, line)
		}
	}
	return sum
}

// truth returns the lines that the records call for, derived in the simplest way.
func (f *flooding) truth(ctx context.Context) ([]byte, error) {
	list, err := f.client.CoreV1().Secrets(metav1.NamespaceAll).List(ctx, records())
	if err != nil {
		return nil, err
	}
	type truth struct {
		newest                     *corev1.Secret
		revision, deployed, stored int
	}
	releases := make(map[string]*truth)
	for i := range list.Items {
		s := &list.Items[i]
		revision, err := strconv.Atoi(s.Labels["version"])
		if err != nil {
			return nil, err
		}
		key := s.Namespace + "/" + s.Labels["name"]
		if releases[key] == nil {
			releases[key] = &truth{}
		}
		r := releases[key]
		r.stored++
		if revision > r.revision {
			r.newest, r.revision = s, revision
		}
		if s.Labels["status"] == "deployed" {
			r.deployed = max(r.deployed, revision)
		}
	}
	var b bytes.Buffer
	for _, r := range releases {
		if err := writeTruth(&b, r.newest, r.revision, r.deployed, r.stored); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func writeTruth(b *bytes.Buffer, newest *corev1.Secret, revision, deployed, stored int) error {
	p, err := payload.Decode(newest.Data[cluster.PayloadKey])
	if err != nil {
		return err
	}
	var modified time.Time
	for _, field := range newest.ManagedFields {
		if field.Time.After(modified) {
			modified = field.Time.Time
		}
	}
	key := fmt.Sprintf("name=%q,namespace=%q", newest.Labels["name"], newest.Namespace)
	line := func(family, labels string, value int64) {
		fmt.Fprintf(b, "helm_release_%s{%s} %s\n", family, labels, strconv.FormatFloat(float64(value), 'g', -1, 64))
	}
	line("created_timestamp_seconds", key, newest.CreationTimestamp.Unix())
	line("modified_timestamp_seconds", key, modified.Unix())
	line("revision", key, int64(revision))
	line("stored_revisions", key, int64(stored))
	line("updated", key, p.Info.LastDeployed.Unix())
	if deployed > 0 {
		line("deployed_revision", key, int64(deployed))
	}
	chart := p.Chart.Metadata
	line("info", fmt.Sprintf("app_version=%q,chart=%q,chart_version=%q,%s,revision=\"%d\"", chart.AppVersion, chart.Name, chart.Version, key, revision), 1)
	for status := range strings.FieldsSeq("deployed failed pending-install pending-rollback pending-upgrade") {
		value := int64(0)
		if status == newest.Labels["status"] {
			value = 1
		}
		line("status", fmt.Sprintf("%s,status=%q", key, status), value)
	}
	return nil
}

func (one *flood) row() string {
	seconds := func(d time.Duration) string { return inSeconds.format(d.Seconds()) }
	return fmt.Sprintf("| %s | %d | %s | %s | %d | %d | %s | %s | %s | %s | %s |", one.name, one.writes, seconds(one.took), seconds(one.right),
		one.newest, one.gets, inBytes.format(float64(one.rss)), inBytes.format(float64(one.received)),
		seconds(quantile(one.scrapes, 0.99)), seconds(quantile(one.scrapes, 1)), seconds(quantile(one.pages, 0.99)))
}

func floodsReport(cfg config, m machine, all []*flood) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Floods\n\nWritten by `make flood` (`test/scale`) on %s. Do not edit.\n\n", m.Date)
	fmt.Fprintf(&b, "%d releases in %d namespaces. Machine: %s, which also ran the API server, etcd and all clients.\n\n", cfg.releases, cfg.namespaces, m)
	fmt.Fprintf(&b, `One exporter took all of this, one after the other. Meanwhile a client scraped it every %s, as Prometheus does, and
another one reloaded the status page, the page of a release, and both as JSON, every %s. Any answer but 200 fails the
measurement.

- **Right** is how long after the last write a scrape first showed exactly what the records say, compared line by line.
- **New** is how many revisions became the newest of their release. Each may cost one GET. One that is replaced before its
  turn costs none, and neither does one that is written again. The page of a release whose record was written again may
  cause up to 5 GETs a second after a burst of 10.
- **Received** is what came from the API server, TLS included.

The measurement also fails if it is right later than %s after the last write, if there are more GETs or more peak RSS
(%s) than is allowed, if anything but pings and bookmarks is received while nothing of Helm changes, if one scrape or page of a
hundred takes longer than %s (scrapes not while slow clients hold all places), or if any scrape takes longer than %s.

`, scrapeInterval, reloadInterval, rightWithin, inBytes.format(maxFloodRSS), usually, atMost)
	b.WriteString("| flood | writes | took | right | new | GETs | peak RSS | received | scrape, p99 | longest | page, p99 |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, one := range all {
		b.WriteString(one.row() + "\n")
	}
	b.WriteString("\n")
	for _, one := range all {
		if one.note != "" {
			fmt.Fprintf(&b, "- %s: %s.\n", one.name, one.note)
		}
		for _, missed := range one.missed {
			fmt.Fprintf(&b, "- %s: MISSED: %s.\n", one.name, missed)
		}
	}
	return b.String()
}
