package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	informers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// baselineCommand is the argument that makes this program run the baseline, in a process that can be measured.
const baselineCommand = "baseline"

// runBaseline runs an exporter as others are built: one informer holds every record in full, every payload is decoded
// as Helm does it, and GaugeVecs hold the series. It has those flags of the exporter that start needs.
func runBaseline(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(baselineCommand, flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "")
	address, health := flags.String("web.listen-address", "", ""), flags.String("health.listen-address", "", "")
	flags.String("pages.listen-address", "", "") // it has none
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has already reported the error.
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	cfg.ContentType = runtime.ContentTypeProtobuf // as controller-runtime does
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	informer := informers.NewFilteredSecretInformer(client, metav1.NamespaceAll, 0, nil, func(o *metav1.ListOptions) {
		o.LabelSelector, o.FieldSelector = cluster.Owner, "type="+cluster.RecordType
	})
	baseline := exposed{fleet.NewBaseline("helm_release_revision", "helm_release_updated"), make(map[release.Key]int)}
	handled, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    baseline.set,
		UpdateFunc: func(_, obj any) { baseline.set(obj) },
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", baseline.Handler())
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case !informer.HasSynced():
			http.Error(w, initialList, http.StatusServiceUnavailable)
		case !handled.HasSynced():
			http.Error(w, "waiting for payloads to be decoded", http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go informer.RunWithContext(ctx) // ends with the process
	ended := make(chan error, 2)
	for _, at := range []string{*address, *health} {
		listener, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		go func() { ended <- server.Serve(listener) }()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// exposed feeds the baseline with records.
type exposed struct {
	*fleet.Baseline
	newest map[release.Key]int // revisions; informers call handlers one at a time
}

// set decodes a record completely. If it is the newest of its release, set exposes it.
func (e exposed) set(obj any) {
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return
	}
	r, err := payload.Decode(secret.Data[cluster.PayloadKey])
	if err != nil {
		return // The start does not end before every release is exposed.
	}
	key := release.Key{Namespace: r.Namespace, Name: r.Name}
	if r.Version < e.newest[key] {
		return
	}
	e.newest[key] = r.Version
	chart := r.Chart.Metadata
	e.Set(&release.Release{
		Key:    key,
		Newest: &release.Revision{Number: r.Version, Status: release.Status(r.Info.Status)},
		Payload: &release.Payload{Head: release.Head{
			LastDeployed: r.Info.LastDeployed.Time,
			Chart:        release.Chart{Name: chart.Name, Version: chart.Version, AppVersion: chart.AppVersion},
		}},
	})
}
