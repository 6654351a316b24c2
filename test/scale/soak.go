package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
)

// soakCommand is the argument that makes this program watch an exporter for a long time while releases change.
const soakCommand = "soak"

const (
	changesPerSecond = 100
	changers         = 4 // clients that share them
	kept             = 3 // stored revisions of a release, as with helm upgrade --history-max=3
	// soakRound is how long releases change before the exporter has to be right.
	soakRound = time.Minute
	// meaningful is how long a soak has to be for growth to be told from noise.
	meaningful = 10 * time.Minute
)

// sample is what the exporter had at one time.
type sample struct {
	at                           time.Duration // since the beginning
	rss, goroutines, files, heap float64
}

// soaking is a soak, and what was measured.
type soaking struct {
	*flooding
	flood
	begun            time.Time
	samples          []sample
	changes, created atomic.Int64
	rights           []time.Duration
}

// soak changes releases for a long time, writes the report, and fails if the exporter grows.
func soak(ctx context.Context, cfg config, stdout, stderr io.Writer) error {
	cfg.revisions = 1
	e := &experiment{cfg: cfg, stderr: stderr, steps: 4}
	return e.flooded(ctx, fillSmall, func(f *flooding) error {
		s := &soaking{flooding: f, flood: flood{name: "soak", page: quietNamespace + "/" + quietRelease}, begun: time.Now()}
		e.begin("changing %d releases, %d times a second, for %s", cfg.releases, changesPerSecond, cfg.soak)
		s.do = s.churn
		if err := f.measure(ctx, &s.flood); err != nil {
			return err
		}
		trends := s.trends()
		return publish(cfg, stdout, func(m machine) string { return s.report(m, trends) }, errors.Join(missedBy([]*flood{&s.flood}), grown(trends)))
	})
}

func smallName(n int) string { return fmt.Sprintf("app-%04d", n) }

// fillSmall writes releases whose later revisions have the same small payload.
func fillSmall(ctx context.Context, f *flooding) error {
	return times(ctx, f.cfg.releases, writers, func(ctx context.Context, n int) error {
		return f.create(ctx, namespaceName(f.cfg, n), smallName(n), 1, "deployed")
	})
}

// churn changes releases in rounds, and takes samples. After each round the exporter must be right.
func (s *soaking) churn(ctx context.Context, one *flood) error {
	live := make([]living, s.cfg.releases)
	for n := range live {
		live[n] = living{namespaceName(s.cfg, n), smallName(n), 1, 1}
	}
	group, ctx := errgroup.WithContext(ctx)
	sampling, done := context.WithCancel(ctx)
	group.Go(func() error { return s.sample(sampling) })
	group.Go(func() error {
		defer done()
		for left := s.cfg.soak; left > 0; left = s.cfg.soak - time.Since(s.begun) {
			if err := s.round(ctx, live, min(soakRound, left)); err != nil {
				return err
			}
			right, err := s.untilRight(ctx, time.Now())
			if err != nil {
				return err
			}
			s.rights = append(s.rights, right)
			if right > rightWithin {
				one.missed = append(one.missed, fmt.Sprintf("right after: %s, want at most %s", right, rightWithin))
			}
			s.say("      %s: %d changes, right after %s", time.Since(s.begun).Round(time.Second), s.changes.Load(), right)
		}
		one.writes, one.newest = int(s.changes.Load()), int(s.created.Load())
		return nil
	})
	return group.Wait()
}

// round changes releases for some time.
func (s *soaking) round(ctx context.Context, live []living, lasts time.Duration) error {
	group, ctx := errgroup.WithContext(ctx)
	begin := time.Now()
	for changer := range changers {
		group.Go(func() error {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for done := 0; time.Since(begin) < lasts && ctx.Err() == nil; {
				if done >= int(time.Since(begin).Seconds()*changesPerSecond/changers) {
					<-tick.C
					continue
				}
				n := changer + changers*rand.IntN((len(live)-changer+changers-1)/changers)
				changed, err := s.change(ctx, &live[n])
				if err != nil {
					return err
				}
				done += changed
			}
			return nil
		})
	}
	return group.Wait()
}

// living is a release, and the range of its stored revisions.
type living struct {
	namespace, name string
	oldest, newest  int
}

// change does to a release what Helm does, and returns how many writes that took.
func (s *soaking) change(ctx context.Context, l *living) (writes int, err error) {
	secrets := s.client.CoreV1().Secrets(l.namespace)
	var failures []error
	wrote := func(err error) { writes++; failures = append(failures, err) }
	remove := func() {
		wrote(secrets.Delete(ctx, cluster.RecordName(l.name, l.oldest), metav1.DeleteOptions{}))
		l.oldest++
	}
	create := func(status string) {
		s.created.Add(1)
		wrote(s.create(ctx, l.namespace, l.name, l.newest, status))
	}
	update := func(revision int, status string) {
		r, err := record(l.namespace, l.name, revision, status)
		wrote(errors.Join(err, s.update(ctx, r, status)))
	}
	switch do := rand.IntN(10); {
	case do < 3: // the outcome of a hook, or an edited label
		update(l.newest, []string{"deployed", "failed", "pending-upgrade"}[rand.IntN(3)])
	case do < 9: // helm upgrade
		if l.newest-l.oldest+1 == kept {
			remove()
		}
		l.newest++
		create("pending-upgrade")
		update(l.newest-1, "superseded")
		update(l.newest, "deployed")
	default: // helm uninstall and helm install
		update(l.newest, "uninstalling")
		for l.oldest <= l.newest {
			remove()
		}
		l.oldest, l.newest = 1, 1
		create("pending-install")
		update(1, "deployed")
	}
	s.changes.Add(int64(writes))
	return writes, errors.Join(failures...)
}

// sample takes samples until the context ends.
func (s *soaking) sample(ctx context.Context) error {
	client := newScraper(s.run.metrics, s.run.health, "")
	defer client.close()
	tick := time.NewTicker(min(max(s.cfg.soak/360, 200*time.Millisecond), 5*time.Second))
	defer tick.Stop()
	for {
		answer, err := client.scrape(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		one := sample{at: time.Since(s.begun)}
		for family, value := range map[string]*float64{
			"go_goroutines": &one.goroutines, "process_open_fds": &one.files, "go_memstats_heap_inuse_bytes": &one.heap,
		} {
			if *value, err = answer.sum(family); err != nil {
				return err
			}
		}
		rss, err := memory(s.run.PID(), "VmRSS")
		if err != nil {
			return err
		}
		one.rss = float64(rss)
		s.samples = append(s.samples, one)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// trend is the line that fits one figure of the samples best.
type trend struct {
	name      string
	unit      unit
	mean      float64
	perSecond float64
	uncertain float64 // standard error of perSecond, as if samples were independent of each other
	growth    float64 // from the first sample to the last one, along the line
	most      float64 // that it may be; 0 for no limit
}

// trends fits lines to the samples after the warm-up, which is a sixth of the time.
func (s *soaking) trends() []trend {
	warm := s.samples
	for len(warm) > 0 && warm[0].at < s.cfg.soak/6 {
		warm = warm[1:]
	}
	figure := func(name string, u unit, of func(sample) float64) trend {
		t := fit(warm, of)
		t.name, t.unit = name, u
		return t
	}
	rss := figure("resident memory", inBytes, func(s sample) float64 { return s.rss })
	goroutines := figure("goroutines", inNumbers, func(s sample) float64 { return s.goroutines })
	files := figure("open files and connections", inNumbers, func(s sample) float64 { return s.files })
	if s.cfg.soak >= meaningful {
		rss.most, goroutines.most, files.most = rss.mean/10, 5, 5
	}
	return []trend{rss, figure("heap in use", inBytes, func(s sample) float64 { return s.heap }), goroutines, files}
}

// fit is the method of least squares.
func fit(samples []sample, of func(sample) float64) (t trend) {
	n := float64(len(samples))
	if n < 3 {
		return trend{perSecond: math.NaN(), growth: math.NaN()}
	}
	var at, mean float64
	for _, s := range samples {
		at += s.at.Seconds() / n
		mean += of(s) / n
	}
	var xx, xy, rest float64
	for _, s := range samples {
		x := s.at.Seconds() - at
		xx += x * x
		xy += x * (of(s) - mean)
	}
	t.mean, t.perSecond = mean, xy/xx
	for _, s := range samples {
		off := of(s) - mean - t.perSecond*(s.at.Seconds()-at)
		rest += off * off
	}
	t.uncertain = math.Sqrt(rest / (n - 2) / xx)
	t.growth = t.perSecond * (samples[len(samples)-1].at - samples[0].at).Seconds()
	return t
}

// grown returns an error that names what grew.
func grown(trends []trend) error {
	var all []error
	for _, t := range trends {
		if t.most > 0 && !(t.growth <= t.most) {
			all = append(all, fmt.Errorf("soak: %s grew by %s, want %s at the most", t.name, t.unit.format(t.growth), t.unit.format(t.most)))
		}
	}
	return errors.Join(all...)
}

func (s *soaking) report(m machine, trends []trend) string {
	const day = 24 * 60 * 60
	seconds := func(d time.Duration) string { return inSeconds.format(d.Seconds()) }
	var b strings.Builder
	fmt.Fprintf(&b, "# Soak\n\nWritten by `make soak` (`test/scale`) on %s. Do not edit.\n\n", m.Date)
	fmt.Fprintf(&b, `For %s, %d releases changed: %d writes, %.0f a second. Of the operations, 30%% are edits of a status, 60%% upgrades that keep %d
revisions, and 10%% reinstallations, with the writes that Helm makes; so the number of releases stays the same. Meanwhile a client
scraped every %s, and another one reloaded pages every %s. Any answer but 200 fails the measurement.
Machine: %s, which also ran the API server, etcd and all clients.

`, s.cfg.soak, s.cfg.releases, s.writes, float64(s.writes)/s.took.Seconds(), kept, scrapeInterval, reloadInterval, m)
	fmt.Fprintf(&b, "Fitted by least squares to %d samples; the first sixth of the time is warm-up and does not count.\n\n", len(s.samples))
	b.WriteString("| figure | mean | change per day | ± | growth while measured | limit |\n|---|---:|---:|---:|---:|---:|\n")
	for _, t := range trends {
		limit := "" // of what is only shown
		if t.most > 0 {
			limit = "≤ " + t.unit.format(t.most)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", t.name, t.unit.format(t.mean), t.unit.format(t.perSecond*day), t.unit.format(t.uncertain*day), t.unit.format(t.growth), limit)
	}
	fmt.Fprintf(&b, `
The limit of memory is a tenth of the mean, because the garbage collector moves it by that much, and a soak is short: a day
extrapolated from it says less than the growth. A leak of %s per write would exceed it. The standard error (±) takes samples as
independent, which they are not quite.

| figure | measured | limit |
|---|---:|---:|
| right after the last write of a minute, longest of %d | %s | ≤ %s |
| GETs, with %d new revisions | %d | ≤ 1 per revision |
| peak RSS | %s | ≤ %s |
| scrape, p99 | %s | ≤ %s |
| scrape, longest | %s | ≤ %s |
| page, p99 | %s | ≤ %s |
`, inBytes.format(trends[0].mean/10/(float64(s.writes)*5/6)), len(s.rights), seconds(quantile(s.rights, 1)), rightWithin, s.newest, s.gets,
		inBytes.format(float64(s.rss)), inBytes.format(maxFloodRSS), seconds(quantile(s.scrapes, 0.99)), usually,
		seconds(quantile(s.scrapes, 1)), atMost, seconds(quantile(s.pages, 0.99)), usually)
	for _, missed := range s.missed {
		fmt.Fprintf(&b, "\nMISSED: %s.\n", missed)
	}
	return b.String()
}
