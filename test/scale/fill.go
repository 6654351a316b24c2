//go:build unix

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
)

const (
	// writers is how many records are on their way to the API server at once.
	writers = 16
	// progressInterval is how often a long step tells how far it is.
	progressInterval = 10 * time.Second

	recordType = "helm.sh/release.v1"
	payloadKey = "release"
)

// filled is what the cluster was filled with.
type filled struct {
	records int
	bytes   int64 // of all payloads
}

// makeNamespaces makes those that fill needs.
func makeNamespaces(ctx context.Context, cfg config, client kubernetes.Interface) error {
	for n := range min(cfg.namespaces, cfg.releases) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceName(cfg, n)}}
		if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}

// fill writes revisions of all releases, as Helm writes them: those of the given numbers, the last one not included.
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

// writeHistory writes some revisions of the n-th release.
func writeHistory(ctx context.Context, client kubernetes.Interface, cfg config, n, from, to int, records, bytes *atomic.Int64) error {
	all, err := history(cfg, n, from, to)
	if err != nil {
		return err
	}
	for _, r := range all {
		if _, err := client.CoreV1().Secrets(r.namespace).Create(ctx, r.secret(), metav1.CreateOptions{}); err != nil {
			return err
		}
		records.Add(1)
		bytes.Add(int64(len(r.payload)))
	}
	return nil
}

// secret is the record as Helm's storage driver makes it.
func (r record) secret() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      fmt.Sprintf("sh.helm.release.v1.%s.v%d", r.name, r.revision),
			Namespace: r.namespace,
			Labels: map[string]string{
				"name": r.name, "owner": "helm", "status": r.status, "version": strconv.Itoa(r.revision),
				"modifiedAt": strconv.FormatInt(time.Now().Unix(), 10),
			},
		},
		Type: recordType,
		Data: map[string][]byte{payloadKey: r.payload},
	}
}

func namespaceName(cfg config, n int) string { return fmt.Sprintf("scale-%02d", n%cfg.namespaces) }

// helmClient passes for Helm, whose name the API server writes into managedFields.
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
