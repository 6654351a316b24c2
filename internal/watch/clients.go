package watch

import (
	"fmt"
	"net"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// dialTimeout is how long a connection may take to open. A packet that was
// dropped is sent again after a second, then after two more, then four: a new
// attempt is sooner there than the fourth when the network is back.
const dialTimeout = 3 * time.Second

// Clients returns the two clients that Config wants.
//
// Payloads are read over HTTP/1.1. Over HTTP/2, whose flow control costs a
// frame for every few kilobytes, the same reads take a quarter more CPU, and
// they would share a connection with the watches.
//
// Requests are not limited on this side, since the server's priority and
// fairness knows better, and answers are not compressed: that would cost the
// server more than it saves anybody.
func Clients(config *rest.Config) (metadata.Interface, rest.Interface, error) {
	config = metadata.ConfigFor(config)
	config.QPS = -1
	config.DisableCompression = true
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("metadata client for %s: %w", config.Host, err)
	}
	config.APIPath = "/api"
	config.GroupVersion = &schema.GroupVersion{Version: "v1"}
	config.NextProtos = []string{"http/1.1"}
	core, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, nil, fmt.Errorf("core client for %s: %w", config.Host, err)
	}
	return meta, core, nil
}
