//go:build unix

package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	informers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// baselineCommand is the argument that turns this program into the baseline, so that its CPU and memory are those of a
// process of its own.
const baselineCommand = "baseline"

// runBaseline is an exporter as they were: one informer holds every record in full, every payload is decoded as Helm
// does, GaugeVecs hold the series. It takes as many of the exporter's flags as it needs to be started like it.
func runBaseline(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(baselineCommand, flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "")
	address := flags.String("web.listen-address", "", "")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has already said what is wrong.
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
		o.LabelSelector, o.FieldSelector = "owner=helm", "type="+recordType
	})
	registry := prometheus.NewRegistry()
	series := newSeries(registry)
	handled, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    series.set,
		UpdateFunc: func(_, obj any) { series.set(obj) },
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case !informer.HasSynced():
			http.Error(w, initialList, http.StatusServiceUnavailable)
		case !handled.HasSynced():
			http.Error(w, "waiting for payloads to be decoded", http.StatusServiceUnavailable)
		}
	})
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go informer.RunWithContext(ctx) // ends with the process
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// series is the baseline's store.
type series struct {
	info, revision, status, updated *prometheus.GaugeVec
	newest                          map[string]shown // by namespace and name; informers call handlers one at a time
}

// shown is what is exposed of one release.
type shown struct {
	revision int
	info     []string // label values
}

func newSeries(registry *prometheus.Registry) *series {
	vec := func(name string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "helm_release_" + name, Help: name}, append([]string{"name", "namespace"}, labels...))
		registry.MustRegister(v)
		return v
	}
	return &series{
		info:     vec("info", "revision", "chart", "chart_version", "app_version"),
		revision: vec("revision"), status: vec("status", "status"), updated: vec("updated"),
		newest: make(map[string]shown),
	}
}

// set decodes a record and, if it is the newest of its release, shows it.
func (s *series) set(obj any) {
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return
	}
	r, err := decodeFully(secret.Data[payloadKey])
	if err != nil {
		return // The start is not over before every release is there.
	}
	key := r.Namespace + "/" + r.Name
	before := s.newest[key]
	if r.Version < before.revision {
		return
	}
	if before.revision > 0 {
		s.info.DeleteLabelValues(before.info...)
	}
	chart := r.Chart.Metadata
	now := shown{r.Version, []string{r.Name, r.Namespace, secret.Labels["version"], chart.Name, chart.Version, chart.AppVersion}}
	s.newest[key] = now
	s.info.WithLabelValues(now.info...).Set(1)
	s.revision.WithLabelValues(r.Name, r.Namespace).Set(float64(r.Version))
	s.updated.WithLabelValues(r.Name, r.Namespace).Set(float64(r.Info.LastDeployed.Unix()))
	for _, status := range []string{"deployed", "failed", "pending-install", "pending-rollback", "pending-upgrade"} {
		value := 0.0
		if r.Info.Status == status {
			value = 1
		}
		s.status.WithLabelValues(r.Name, r.Namespace, status).Set(value)
	}
}
