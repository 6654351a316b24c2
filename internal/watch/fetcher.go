package watch

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// retryMin and retryMax bound the backoff of a payload that could not be
	// read for a reason that may pass.
	retryMin = 200 * time.Millisecond
	retryMax = 5 * time.Second
	// fetchTimeout bounds one GET, with its response.
	fetchTimeout = 10 * time.Second
)

// fetcher reads and decodes payloads, and remembers which could not be read. It
// is safe for concurrent use.
type fetcher struct {
	core      rest.Interface
	metrics   *telemetry
	log       *slog.Logger
	decoder   decode.Decoder
	forbidden forbidden
	rereads   *rereads

	mu       sync.Mutex
	failures map[release.Key]release.Failure // guarded by mu; the last one of each payload that is tried again
}

func newFetcher(core rest.Interface, metrics *telemetry, log *slog.Logger) *fetcher {
	return &fetcher{core: core, metrics: metrics, log: log, rereads: newRereads(), failures: make(map[release.Key]release.Failure)}
}

// fetch reads the payload of a release's newest revision. It returns nil if there
// is none, because the record is gone or may not be read; delay is then when to
// try again, 0 for never. An error means that it may succeed at any time.
//
// A failure ends here: it is counted, and logged once.
func (f *fetcher) fetch(ctx context.Context, key release.Key, rev *release.Revision) (payload *release.Payload, delay time.Duration, err error) {
	g := group{rev.Storage, key.Namespace}
	if delay := f.forbidden.delay(g); delay > 0 {
		return nil, delay, nil
	}
	p, err := f.get(ctx, key, rev)
	if ctx.Err() != nil {
		return nil, 0, nil
	}
	log := f.log.With("namespace", key.Namespace, "release", key.Name, "revision", rev.Number)
	f.setFailure(key, nil)
	switch {
	case err == nil:
		if p.Problem != "" {
			log.Warn("Cannot decode the payload; status and revision are still exposed", "object", rev.Object(key.Name), "reason", p.Problem)
		}
		f.forbidden.allow(g)
		return &p, 0, nil
	case isGone(err): // the event that says so is on its way
		return nil, 0, nil
	case apierrors.IsForbidden(err):
		delay, first := f.forbidden.forbid(g, failed(err))
		if first {
			log.Error("Cannot read payloads; status and revision are still exposed; grant the verb get, or run with --payload=never",
				"verb", "get", "resource", rev.Storage, "err", err)
		}
		return nil, delay, nil
	}
	log.Warn("Cannot read the payload, will retry", "err", err)
	f.setFailure(key, err)
	return nil, 0, err
}

// forget drops what is remembered of a release whose payload is not wanted.
func (f *fetcher) forget(key release.Key) {
	f.setFailure(key, nil)
	f.rereads.forget(key)
}

// setFailure remembers why a payload could not be read; nil forgets it.
func (f *fetcher) setFailure(key release.Key, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.failures, key)
		return
	}
	f.failures[key] = failed(err)
}

// failure returns why a payload that is still to be read has not been read, nil
// if nothing has gone wrong so far.
func (f *fetcher) failure(key release.Key, rev *release.Revision) *release.Failure {
	if last := f.forbidden.failure(group{rev.Storage, key.Namespace}); last != nil {
		return last
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if last, known := f.failures[key]; known {
		return &last
	}
	return nil
}

// failed truncates the error to 512 bytes.
func failed(err error) release.Failure {
	text := err.Error()
	return release.Failure{At: time.Now().UTC(), Error: strings.ToValidUTF8(text[:min(len(text), 512)], "")}
}

// get does the GET and counts it.
func (f *fetcher) get(ctx context.Context, key release.Key, rev *release.Revision) (release.Payload, error) {
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	p, decoding, err := readPayload(limited, f.core, &f.decoder, key, rev)
	if ctx.Err() != nil {
		return release.Payload{}, ctx.Err()
	}
	f.metrics.fetched(p, time.Since(start), decoding, err)
	if err == nil {
		return p, nil
	}
	if statusCode(err) == 0 && !isGone(err) {
		f.closeIdleConnections()
	}
	return release.Payload{}, fmt.Errorf("get %s %s/%s: %w", rev.Storage, key.Namespace, rev.Object(key.Name), err)
}

// closeIdleConnections makes the next GETs open new connections: HTTP/1.1 has
// no ping, so each idle connection would run into its own timeout if the network
// between here and the API server has dropped it.
func (f *fetcher) closeIdleConnections() {
	if c, ok := f.core.(*rest.RESTClient); ok && c.Client != nil {
		utilnet.CloseIdleConnectionsFor(c.Client.Transport)
	}
}
