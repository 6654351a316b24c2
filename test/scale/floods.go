package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
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

func missedBy(all []*flood) error {
	var missed []error
	for _, one := range all {
		for _, what := range one.missed {
			missed = append(missed, fmt.Errorf("%s: %s", one.name, what))
		}
	}
	return errors.Join(missed...)
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
		{name: fmt.Sprintf("one release upgraded %d times", f.cfg.times), newest: f.cfg.times, page: quietNamespace + "/" + busyRelease, do: f.upgradeOne},
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

// rewriteOne writes one record again and again.
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
		return f.create(ctx, quietNamespace, busyRelease, n+2, "deployed")
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
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if len(all) == 0 {
		return errors.New("no scrape was answered")
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

func (one *flood) row() string {
	seconds := func(d time.Duration) string { return inSeconds.format(d.Seconds()) }
	return fmt.Sprintf("| %s | %d | %s | %s | %d | %d | %s | %s | %s | %s | %s |", one.name, one.writes, seconds(one.took), seconds(one.right),
		one.newest, one.gets, inBytes.format(float64(one.rss)), inBytes.format(float64(one.received)),
		seconds(quantile(one.scrapes, 0.99)), seconds(quantile(one.scrapes, 1)), seconds(quantile(one.pages, 0.99)))
}

func floodsReport(cfg config, m machine, all []*flood) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Floods\n\nWritten by `make flood FLOOD=\"-releases %d -namespaces %d -times %d -others %d\"` (`test/scale`) on %s. Do not edit.\n\n",
		cfg.releases, cfg.namespaces, cfg.times, cfg.others, m.Date)
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
