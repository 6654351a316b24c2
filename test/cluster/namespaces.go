package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/pkg/controller/namespace"
)

// startNamespaceController starts the one controller that tests cannot do without: a deleted namespace otherwise stays
// in phase Terminating, with everything in it. As in a real cluster it begins five seconds after the deletion.
// The function it returns stops it and waits for that.
func startNamespaceController(starting context.Context, config *rest.Config) (stop func(), err error) {
	config = rest.CopyConfig(config)
	config.UserAgent = "namespace-controller"
	config.QPS = -1 // Emptying a namespace takes two requests per kind: the default of five a second is slow.

	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(starting))
	factory := informers.NewSharedInformerFactory(client, 0)
	controller := namespace.NewNamespaceController(ctx, client, metadataClient,
		client.Discovery().ServerPreferredNamespacedResources,
		factory.Core().V1().Namespaces(), time.Minute, corev1.FinalizerKubernetes)
	factory.StartWithContext(ctx)

	done := make(chan struct{})
	go func() {
		defer close(done)
		controller.Run(ctx, 2)
	}()
	return func() {
		cancel()
		<-done
		factory.Shutdown()
	}, nil
}
