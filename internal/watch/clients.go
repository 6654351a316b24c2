package watch

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Clients returns the two clients that Config wants. They share their
// connections to the API server.
//
// Requests are not limited on this side, since the server's priority and
// fairness knows better, and answers are not compressed: that would cost the
// server more than it saves anybody.
func Clients(config *rest.Config) (metadata.Interface, rest.Interface, error) {
	config = metadata.ConfigFor(config)
	config.QPS = -1
	config.DisableCompression = true
	http, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", config.Host, err)
	}
	meta, err := metadata.NewForConfigAndClient(config, http)
	if err != nil {
		return nil, nil, fmt.Errorf("metadata client for %s: %w", config.Host, err)
	}
	config.APIPath = "/api"
	config.GroupVersion = &schema.GroupVersion{Version: "v1"}
	core, err := rest.RESTClientForConfigAndClient(config, http)
	if err != nil {
		return nil, nil, fmt.Errorf("core client for %s: %w", config.Host, err)
	}
	return meta, core, nil
}
