package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// experiment is the state that the steps share.
type experiment struct {
	cfg    config
	dir    string // for everything that is written; removed at the end
	stderr io.Writer
	step   int
	steps  int // how many times begin is called
	found  findings
}

// findings are the results.
type findings struct {
	filled         filled
	baseline       startup
	baselineSteady steady
	lazy           startup // through the relay
	single         startup // with one revision of each release, and --payload=never
	whole          startup // the same with all of them
	named          startup // the same with each namespace watched by itself
	many           startup // the same with more namespaces, which are empty
	plain          startup // like whole, with a plain list instead of a streamed one
	starts         []startup
	steady         steady
	upgrades       upgrades
	decoding       decoding
}

// measure does everything and writes the report.
func measure(ctx context.Context, cfg config, stdout, stderr io.Writer) (err error) {
	e := &experiment{cfg: cfg, stderr: stderr, steps: 9}
	if e.dir, err = os.MkdirTemp("", "helm-state-metrics-scale-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(e.dir)) }()
	if err := e.run(ctx); err != nil {
		return err
	}
	r, err := newReport(cfg, e.found)
	if err != nil {
		return err
	}
	return r.publish(cfg, stdout)
}

func (e *experiment) run(ctx context.Context) (err error) {
	e.begin("starting etcd and a Kubernetes API server")
	cluster, err := process.StartCluster(ctx, e.clusterDir(), e.clusterSettings())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()

	e.begin("writing %d revisions of %d releases (about a minute for 10,000 records)", e.cfg.revisions, e.cfg.releases)
	if err := e.fill(ctx); err != nil {
		return err
	}
	if e.cfg.baseline {
		if err := e.measureBaseline(ctx); err != nil {
			return err
		}
	}
	e.begin("measuring the memory of watches in namespaces")
	if err := e.measureWatches(ctx); err != nil {
		return err
	}
	e.begin("counting bytes of the exporter's start, without payloads and with them")
	if e.found.lazy, err = e.startCounted(ctx, e.exporter("helm_release_info")); err != nil {
		return err
	}
	if err := e.measureExporter(ctx); err != nil {
		return err
	}
	e.begin("running the benchmarks of the decoder")
	e.found.decoding, err = benchmark(ctx)
	return err
}

// fill writes the first revision of each release, measures an exporter with them, and writes the rest.
func (e *experiment) fill(ctx context.Context) error {
	client, err := helmClient(e.kubeconfig())
	if err != nil {
		return err
	}
	if err := makeNamespaces(ctx, e.cfg, client); err != nil {
		return err
	}
	first, err := fill(ctx, e.cfg, client, 1, 2, e.stderr)
	if err != nil {
		return err
	}
	if e.found.single, err = e.startCounted(ctx, e.metadataAlone()); err != nil {
		return err
	}
	rest, err := fill(ctx, e.cfg, client, 2, e.cfg.revisions+1, e.stderr)
	e.found.filled = filled{first.records + rest.records, first.bytes + rest.bytes}
	if err != nil {
		return err
	}
	if e.found.whole, err = e.startCounted(ctx, e.metadataAlone()); err != nil {
		return err
	}
	plain := e.metadataAlone()
	plain.env = []string{"KUBE_FEATURE_WatchListClient=false"} // client-go's own
	e.found.plain, err = e.startCounted(ctx, plain)
	return err
}

// manyNamespaces is how many are watched one by one.
const manyNamespaces = 900

func (e *experiment) measureWatches(ctx context.Context) (err error) {
	var names []string
	for n := range e.cfg.namespaces {
		names = append(names, namespaceName(e.cfg, n))
	}
	if e.found.named, err = e.startCounted(ctx, e.metadataAlone("--namespaces="+strings.Join(names, ","))); err != nil {
		return err
	}
	for n := len(names); n < manyNamespaces; n++ {
		names = append(names, fmt.Sprintf("not-there-%03d", n))
	}
	e.found.many, err = e.startCounted(ctx, e.metadataAlone("--namespaces="+strings.Join(names, ",")))
	return err
}

// metadataAlone is the exporter without payloads.
func (e *experiment) metadataAlone(args ...string) subject {
	return e.exporter("helm_release_revision", append(args, "--payload=never")...)
}

func (e *experiment) measureBaseline(ctx context.Context) (err error) {
	e.begin("starting the baseline, which decodes everything (about a minute for 10,000 records)")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	baseline := subject{name: baselineCommand, program: self, args: []string{baselineCommand}, family: "helm_release_info", serves: e.cfg.releases}
	e.found.baseline, err = e.startCounted(ctx, baseline, func(r *running) (err error) {
		e.found.baselineSteady, err = r.scrapeRepeatedly(ctx)
		return err
	})
	return err
}

// measureExporter starts the exporter several times, without a relay. The last one is also scraped and shows upgrades.
func (e *experiment) measureExporter(ctx context.Context) error {
	e.begin("starting the exporter %d times", e.cfg.starts)
	for n := range e.cfg.starts {
		r, err := e.start(ctx, e.exporter("helm_release_info"), e.kubeconfig())
		if err != nil {
			return err
		}
		e.found.starts = append(e.found.starts, r.startup)
		if n == e.cfg.starts-1 {
			err = e.work(ctx, r)
		}
		if err := errors.Join(err, r.stop()); err != nil {
			return err
		}
	}
	return nil
}

func (e *experiment) work(ctx context.Context, r *running) (err error) {
	e.begin("scraping it for %s", scraping)
	if e.found.steady, err = r.scrapeRepeatedly(ctx); err != nil {
		return err
	}
	e.begin("upgrading releases by Helm, %d times (about a second each)", e.cfg.upgrades)
	e.found.upgrades, err = e.upgrade(ctx, r)
	return err
}

func (e *experiment) exporter(family string, args ...string) subject {
	return subject{name: "helm-state-metrics", program: e.cfg.exporter, args: args, family: family, serves: e.cfg.releases}
}

// clusterSettings returns environment variables with which a control plane that keeps 100,000 records in memory fits
// into the machine. They cost CPU that the exporter would lack, so they are only for large clusters.
func (e *experiment) clusterSettings() []string {
	if e.cfg.releases*e.cfg.revisions <= 20_000 {
		return nil
	}
	return []string{"GOGC=25"}
}

func (e *experiment) clusterDir() string { return filepath.Join(e.dir, "cluster") }

func (e *experiment) kubeconfig() string { return process.Kubeconfig(e.clusterDir()) }

func (e *experiment) begin(format string, args ...any) {
	e.step++
	e.say("[%d/%d] %s", e.step, e.steps, fmt.Sprintf(format, args...))
}

func (e *experiment) say(format string, args ...any) {
	_, _ = fmt.Fprintf(e.stderr, format+"\n", args...)
}
