package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

const (
	// writers is how many records are written at the same time.
	writers = 16
	// progressInterval is how often a long step reports its progress.
	progressInterval = 10 * time.Second
)

// filled is what the cluster was filled with.
type filled struct {
	records int
	bytes   int64 // of all payloads
}

func makeNamespaces(ctx context.Context, cfg config, client kubernetes.Interface) error {
	for n := range min(cfg.namespaces, cfg.releases) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceName(cfg, n)}}
		if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}

// fill writes the records of all releases with revisions from ≤ revision < to, as Helm writes them.
func fill(ctx context.Context, cfg config, client kubernetes.Interface, from, to int, progress io.Writer) (filled, error) {
	if from >= to {
		return filled{}, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, records, bytes atomic.Int64
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for n := int(next.Add(1)) - 1; n < cfg.releases && ctx.Err() == nil; n = int(next.Add(1)) - 1 {
				if err := writeHistory(ctx, client, cfg, n, from, to, &records, &bytes); err != nil {
					cancel(fmt.Errorf("fill: %w", err))
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return filled{int(records.Load()), bytes.Load()}, context.Cause(ctx)
		case <-tick.C:
			_, _ = fmt.Fprintf(progress, "      %d of %d records\n", records.Load(), cfg.releases*(to-from))
		}
	}
}

func writeHistory(ctx context.Context, client kubernetes.Interface, cfg config, n, from, to int, records, bytes *atomic.Int64) error {
	all, err := history(cfg, n, from, to)
	if err != nil {
		return err
	}
	for _, r := range all {
		if _, err := client.CoreV1().Secrets(r.Namespace).Create(ctx, r, metav1.CreateOptions{}); err != nil {
			return err
		}
		records.Add(1)
		bytes.Add(int64(len(r.Data[cluster.PayloadKey])))
	}
	return nil
}

// history returns the records of the n-th release with revisions from ≤ revision < to, oldest first. They differ in
// what an upgrade changes: the info, the chart's version, the values and the number.
func history(cfg config, n, from, to int) ([]*corev1.Secret, error) {
	generator := payload.NewGenerator(n)
	r := generator.Release(namespaceName(cfg, n), cfg.templates)
	r.Name = releaseName(r.Name, n)
	begin := time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC)
	r.Info.FirstDeployed.Time = begin
	records := make([]*corev1.Secret, 0, cfg.revisions)
	for revision := 1; revision <= cfg.revisions; revision++ {
		r.Version = revision
		r.Info.LastDeployed.Time = begin.Add(time.Duration(revision) * 31 * time.Hour).Add(time.Duration(generator.IntN(1e9)))
		r.Info.Description, r.Info.Status = "Upgrade complete", "superseded"
		if revision == 1 {
			r.Info.Description = "Install complete"
		}
		if revision == cfg.revisions {
			r.Info.Status = "deployed"
		}
		r.Chart.Metadata.Version = fmt.Sprintf("%d.%d.%d", 1+n%7, revision, generator.IntN(10))
		r.Chart.Metadata.AppVersion = fmt.Sprintf("v2.%d.%d", n%13, revision)
		r.Config = map[string]any{"image": map[string]any{"tag": generator.Hex(40)}, "replicas": 1 + generator.IntN(9)}
		if revision < from || revision >= to {
			continue // It was only generated because the random values of later revisions depend on it.
		}
		encoded, err := payload.Encode(r)
		if err != nil {
			return nil, err
		}
		record := cluster.Secret(r.Name, revision, r.Info.Status, encoded)
		record.Namespace = r.Namespace
		record.Labels["modifiedAt"] = strconv.FormatInt(time.Now().Unix(), 10)
		records = append(records, record)
	}
	return records, nil
}

// releaseName returns the name of the n-th release, of the chart that was generated for it.
func releaseName(chart string, n int) string { return fmt.Sprintf("%s-%04d", chart, n) }

func namespaceName(cfg config, n int) string { return fmt.Sprintf("scale-%02d", n%cfg.namespaces) }

// helmClient returns a client with the User-Agent of Helm, which the API server writes into managedFields.
func helmClient(kubeconfig string) (kubernetes.Interface, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = "Helm/4.3.1"
	cfg.QPS = -1
	cfg.ContentType = runtime.ContentTypeProtobuf
	return kubernetes.NewForConfig(cfg)
}
