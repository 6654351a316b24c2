package watch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// dialTimeout is how long a connection may take to open. TCP sends a lost
// packet again after 1, 2 and 4 seconds; a new attempt is sooner than the third
// of these when the network is back.
const dialTimeout = 3 * time.Second

// Clients returns the two clients that Config wants.
//
// Payloads are read over HTTP/1.1: the flow control of HTTP/2 costs a frame for
// every few kilobytes and a quarter more CPU, and the reads would share a
// connection with the watches. There is no limit of requests per second, since
// priority and fairness is up to the server, and no compression, which costs
// the server more than it saves.
func Clients(config *rest.Config) (metadata.Interface, rest.Interface, error) {
	config = metadata.ConfigFor(config)
	config.QPS = -1
	config.DisableCompression = true
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	forMetadata := rest.CopyConfig(config)
	forMetadata.Wrap(func(base http.RoundTripper) http.RoundTripper { return transport{base, true} })
	meta, err := metadata.NewForConfig(forMetadata)
	if err != nil {
		return nil, nil, fmt.Errorf("metadata client for %s: %w", config.Host, err)
	}
	config.Wrap(func(base http.RoundTripper) http.RoundTripper { return transport{base, false} })
	config.APIPath = "/api"
	config.GroupVersion = &schema.GroupVersion{Version: "v1"}
	config.NextProtos = []string{"http/1.1"}
	core, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, nil, fmt.Errorf("core client for %s: %w", config.Host, err)
	}
	return meta, core, nil
}

// transport keeps client-go from retrying by itself. When a connection fails,
// client-go tries ten times, a second apart, and then returns a watch without
// events: nobody would know for ten seconds that a watch is down, and hundreds
// of watches would retry at once. After a Retry-After it waits, too, and holds
// one of the few places for requests meanwhile.
type transport struct {
	base http.RoundTripper
	// noRetryAfter removes the header from responses.
	noRetryAfter bool
}

// RoundTrip implements http.RoundTripper. It replaces errors by others with a
// text that k8s.io/apimachinery/pkg/util/net does not recognize.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil && req.Context().Err() == nil {
		return nil, errors.New("no response: " + strings.NewReplacer(
			"connection reset by peer", "connection reset",
			"use of closed network connection", "connection closed",
			"http: can't write HTTP request on broken connection", "broken connection",
			"http2: server sent GOAWAY and closed the connection", "http2: server sent GOAWAY",
			"http2: client connection lost", "http2: connection lost",
		).Replace(err.Error()))
	}
	if err == nil && t.noRetryAfter && resp.StatusCode >= http.StatusTooManyRequests {
		resp.Header.Del("Retry-After")
	}
	return resp, err
}

// WrappedRoundTripper implements net.RoundTripperWrapper of apimachinery.
func (t transport) WrappedRoundTripper() http.RoundTripper { return t.base }
