package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
)

// TestSlowScrapers holds all places for scrapes with clients that read next to nothing, and come back whenever they are
// cut off. One that reads at once must be answered in time. They use HTTP/2, because there a client says how much it takes:
// the buffers of a connection would hold the metrics of thousands of releases.
func TestSlowScrapers(t *testing.T) {
	t.Parallel()
	cert, key := selfSigned(t)
	config := writeFile(t, "web.yml", fmt.Sprintf("tls_server_config: {cert_file: %q, key_file: %q}\n", writeFile(t, "tls.crt", cert), writeFile(t, "tls.key", key)))
	namespace := newNamespace(t, "slow")
	want := shown(write(t, namespace, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+namespace, "--web.config.file="+config)
	e.metrics = strings.Replace(e.metrics, "http:", "https:", 1)
	trusting := func() *http.Transport {
		authorities := x509.NewCertPool()
		authorities.AppendCertsFromPEM([]byte(cert))
		return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	}
	e.client.Transport = trusting()
	eventually(t, patience, e.shows(want, namespace))

	ctx, stop := context.WithCancel(t.Context())
	var slow sync.WaitGroup
	defer slow.Wait()
	defer stop()
	const places, clients = 16, 40
	held := make(chan struct{}, clients)
	for range clients {
		slow.Go(func() {
			transport := trusting()
			transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 1 << 10}
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				hold(ctx, transport, e.metrics+"/metrics", held)
			}
		})
	}
	for range places {
		<-held
	}
	for range 4 {
		began := time.Now()
		if err := e.shows(want, namespace)(); err != nil {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		t.Logf("answered after %s", time.Since(began))
	}
}

// hold asks for a page, and reads a little of it now and then until it is cut off. It says when it has been answered.
func hold(ctx context.Context, transport http.RoundTripper, url string, held chan<- struct{}) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	select {
	case held <- struct{}{}:
	default:
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for some := make([]byte, 512); ctx.Err() == nil; <-tick.C {
		if _, err := resp.Body.Read(some); err != nil {
			return
		}
	}
}
