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
	config.Wrap(func(base http.RoundTripper) http.RoundTripper { return newTransport(base) })
	impatiently := rest.CopyConfig(config)
	impatiently.Wrap(func(base http.RoundTripper) http.RoundTripper { return impatient{base} })
	meta, err := metadata.NewForConfig(impatiently)
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

// transport tells errors in words that client-go does not know. Those that it
// knows, such as the end of a stream, a reset connection or a timeout, it tries
// again by itself, ten times, a second apart, and returns a watch without any
// event in the end: nobody would know for ten seconds that a watch is down, and
// each of hundreds of watches would try for itself.
type transport struct {
	base  http.RoundTripper
	words *strings.Replacer // for those that k8s.io/apimachinery/pkg/util/net knows
}

func newTransport(base http.RoundTripper) transport {
	return transport{base, strings.NewReplacer(
		"connection reset by peer", "connection reset",
		"use of closed network connection", "connection closed",
		"http: can't write HTTP request on broken connection", "broken connection",
		"http2: server sent GOAWAY and closed the connection", "http2: server sent GOAWAY",
		"http2: client connection lost", "http2: connection lost",
	)}
}

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil && req.Context().Err() == nil {
		err = errors.New("no answer: " + t.words.Replace(err.Error()))
	}
	return resp, err
}

// WrappedRoundTripper implements net.RoundTripperWrapper of apimachinery.
func (t transport) WrappedRoundTripper() http.RoundTripper { return t.base }

// impatient takes away what has client-go wait and try again by itself after an
// answer that says so, as transport does where there is no answer: it would
// hold one of the few requests that may wait at once.
type impatient struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t impatient) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err == nil && resp.StatusCode >= http.StatusTooManyRequests {
		resp.Header.Del("Retry-After")
	}
	return resp, err
}

// WrappedRoundTripper implements net.RoundTripperWrapper of apimachinery.
func (t impatient) WrappedRoundTripper() http.RoundTripper { return t.base }
