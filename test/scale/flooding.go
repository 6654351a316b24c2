package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/relay"
)

// flooding is an exporter between a control plane full of releases and those who flood both.
type flooding struct {
	*experiment
	client  kubernetes.Interface
	passing *relay.Relay // between the two
	run     *running
}

// The namespace of releases whose pages a person looks at: one that few floods change, and one that is upgraded often.
const (
	quietNamespace = "quiet"
	quietRelease   = "quiet"
	busyRelease    = "busy"
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
		for _, name := range []string{quietRelease, busyRelease} {
			if err := f.create(ctx, quietNamespace, name, 1, "deployed"); err != nil {
				return err
			}
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
		s.serves += 2
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
