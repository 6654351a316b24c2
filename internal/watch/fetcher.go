package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// retryMin and retryMax bound the backoff of a payload that could not be read for a reason that may pass.
	retryMin = 200 * time.Millisecond
	retryMax = 2 * time.Second
	// fetchTimeout bounds one GET, with its response.
	fetchTimeout = 10 * time.Second
	// undecodableDelay is when an undecodable payload is read for the third time, if its record was written again twice
	// within this time: whoever edits a label of it in a loop would otherwise cause a GET of up to a mebibyte each time,
	// and a line of the log.
	undecodableDelay = time.Second
	// rereadsPerSecond bounds the GETs that viewers of pages cause, and rereadTimeout how long a viewer waits
	// for one.
	rereadsPerSecond = 5
	rereadTimeout    = 3 * time.Second
)

// fetcher reads and decodes payloads, and remembers which could not be read. It is safe for concurrent use.
type fetcher struct {
	core      rest.Interface
	metrics   *telemetry
	log       *slog.Logger
	decoder   decode.Decoder
	forbidden forbidden
	rereads   singleflight.Group // by release
	limiter   *rate.Limiter      // of rereads

	mu       sync.Mutex
	failures map[release.Key]*release.Failure // guarded by mu; the last one of each payload that is tried again
	reread   map[release.Key]uint64           // guarded by mu; the resource version that was last read again, or tried
	// undecodable is guarded by mu. It has the undecodable payloads of the last second, and when they were read.
	undecodable map[release.Key]undecodable
	// far is guarded by mu. It has the payloads whose head is not at the beginning.
	far map[release.Key]release.UID
}

type undecodable struct {
	uid   release.UID
	at    time.Time
	again bool // it was also read within undecodableDelay before
}

func newFetcher(core rest.Interface, metrics *telemetry, log *slog.Logger) *fetcher {
	return &fetcher{
		core: core, metrics: metrics, log: log,
		limiter:     rate.NewLimiter(rereadsPerSecond, 2*rereadsPerSecond),
		failures:    make(map[release.Key]*release.Failure),
		reread:      make(map[release.Key]uint64),
		undecodable: make(map[release.Key]undecodable),
		far:         make(map[release.Key]release.UID),
	}
}

// outcome is what came of a read.
type outcome struct {
	payload *release.Payload // nil if there is none, because the record is gone or may not be read
	delay   time.Duration    // when to try again, 0 for never
	allowed bool             // payloads of this group may be read again
}

// fetch reads the payload of a release's newest revision, and decodes only its beginning unless far is set. An error
// means that it may succeed at any time, or is decode.ErrFar. A failure ends here: it is counted, and logged once.
func (f *fetcher) fetch(ctx context.Context, key release.Key, rev *release.Revision, far bool) (outcome, error) {
	head := f.decoder.Head
	if !far {
		if f.isFar(key, rev.UID) {
			return outcome{}, decode.ErrFar
		}
		head = f.decoder.Near
	}
	g := group{rev.Storage, key.Namespace}
	delay := f.undecodableDelay(key, rev)
	if delay <= 0 {
		delay = f.forbidden.delay(g)
	}
	if delay > 0 {
		return outcome{delay: delay}, nil
	}
	p, err := f.get(ctx, key, rev, head)
	if ctx.Err() != nil {
		return outcome{}, nil
	}
	if errors.Is(err, decode.ErrFar) {
		f.setFar(key, rev.UID)
		return outcome{allowed: f.forbidden.allow(g)}, err
	}
	log := f.log.With("namespace", key.Namespace, "release", key.Name, "revision", rev.Number)
	f.setFailure(key, nil)
	switch {
	case err == nil:
		if p.Problem != "" {
			f.setUndecodable(key, rev)
			log.Warn("Cannot decode the payload; status and revision are still exposed", "object", rev.Object(key.Name), "reason", p.Problem)
		}
		return outcome{payload: &p, allowed: f.forbidden.allow(g)}, nil
	case isGone(err): // the event that says so is on its way
		return outcome{allowed: f.forbidden.allow(g)}, nil
	case apierrors.IsForbidden(err):
		delay, first := f.forbidden.forbid(g, failed(err))
		if first {
			log.Error("Cannot read payloads; status and revision are still exposed; grant the verb get, or run with --payload=never",
				"verb", "get", "resource", rev.Storage, "err", err)
		}
		return outcome{delay: delay}, nil
	}
	log.Warn("Cannot read the payload, will retry", "err", err)
	f.setFailure(key, err)
	return outcome{}, err
}

// get does the GET and counts it.
func (f *fetcher) get(ctx context.Context, key release.Key, rev *release.Revision, head headReader) (release.Payload, error) {
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	p, decoding, err := readPayload(limited, f.core, head, key, rev)
	if ctx.Err() != nil {
		return release.Payload{}, ctx.Err()
	}
	f.metrics.fetched(p, time.Since(start), decoding, err)
	if errors.Is(err, decode.ErrFar) {
		return release.Payload{}, err
	}
	if err == nil {
		return p, nil
	}
	if client, ok := f.core.(*rest.RESTClient); ok && client.Client != nil && statusCode(err) == 0 && !isGone(err) {
		// HTTP/1.1 has no ping, so each idle connection would run into its own timeout if the network between
		// here and the API server dropped it.
		utilnet.CloseIdleConnectionsFor(client.Client.Transport)
	}
	return release.Payload{}, fmt.Errorf("get %s %s/%s: %w", rev.Storage, key.Namespace, rev.Object(key.Name), err)
}

// mayReread reports whether a payload may be read again now, and this version has not been tried before.
func (f *fetcher) mayReread(key release.Key, version uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reread[key] == version || !f.limiter.Allow() {
		return false
	}
	f.reread[key] = version
	return true
}

// forget drops what is remembered of a release whose payload is not wanted.
func (f *fetcher) forget(key release.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.failures, key)
	delete(f.reread, key)
	delete(f.far, key)
}

func (f *fetcher) setFar(key release.Key, uid release.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.far[key] = uid
}

// isFar reports whether the head of a payload is known not to be at its beginning.
func (f *fetcher) isFar(key release.Key, uid release.UID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.far[key] == uid
}

func (f *fetcher) setUndecodable(key release.Key, rev *release.Revision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.undecodable, func(_ release.Key, last undecodable) bool { return time.Since(last.at) > undecodableDelay })
	again := f.undecodable[key].uid == rev.UID // what is older has been deleted
	f.undecodable[key] = undecodable{rev.UID, time.Now(), again}
}

// undecodableDelay returns for how long a read has to wait because it would be the third one of a payload within
// undecodableDelay. The payload of another revision may be read.
func (f *fetcher) undecodableDelay(key release.Key, rev *release.Revision) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := f.undecodable[key]; last.uid == rev.UID && last.again {
		return undecodableDelay - time.Since(last.at)
	}
	return 0
}

// setFailure remembers why a payload could not be read; nil forgets it. After a failure that passes by itself,
// the same version may be read again.
func (f *fetcher) setFailure(key release.Key, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if isUnavailable(err) {
		delete(f.reread, key)
	}
	if err == nil {
		delete(f.failures, key)
		return
	}
	f.failures[key] = failed(err)
}

// failure returns why a payload that is still to be read has not been read, nil if nothing has gone wrong so
// far.
func (f *fetcher) failure(key release.Key, rev *release.Revision) *release.Failure {
	if last := f.forbidden.failure(group{rev.Storage, key.Namespace}); last != nil {
		return last
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failures[key]
}

// failed truncates the error to 512 bytes.
func failed(err error) *release.Failure {
	text := err.Error()
	return &release.Failure{At: time.Now().UTC(), Error: strings.ToValidUTF8(text[:min(len(text), 512)], "")}
}

// group is the smallest set of records that an RBAC rule covers.
type group struct {
	storage   release.Storage
	namespace string
}

// forbidden are the groups whose payloads may not be read. Only one release of a group is tried now and then,
// so that a missing rule does not cost a request per release, and a rule that is added is noticed. The zero
// value is ready for use.
type forbidden struct {
	mu     sync.Mutex
	groups map[group]*refusal // guarded by mu
}

// refusal is what is known of a group that is forbidden.
type refusal struct {
	last    *release.Failure
	backoff wait.Backoff
	next    time.Time // when to try again
}

// delay returns for how long a read has to wait because its group is forbidden. If it is time to try again it
// returns 0, and the others of the group wait.
func (f *forbidden) delay(g group) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.groups[g]
	if r == nil {
		return 0
	}
	delay := time.Until(r.next)
	if delay <= 0 {
		r.next = time.Now().Add(refusedBackoff().Duration)
	}
	return max(delay, 0)
}

// forbid notes that a read was forbidden. It returns when to try again, and whether the group was allowed
// before.
func (f *forbidden) forbid(g group, last *release.Failure) (delay time.Duration, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.groups[g]
	if first = r == nil; first {
		if f.groups == nil {
			f.groups = make(map[group]*refusal)
		}
		r = &refusal{backoff: refusedBackoff()}
		f.groups[g] = r
	}
	delay = r.backoff.Step()
	r.last, r.next = last, time.Now().Add(delay)
	return delay, first
}

// allow notes that a read was not forbidden. It reports whether the group was forbidden before.
func (f *forbidden) allow(g group) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, known := f.groups[g]
	delete(f.groups, g)
	return known
}

// failure returns the last failure of a group, nil if it is allowed.
func (f *forbidden) failure(g group) *release.Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.groups[g]; r != nil {
		return r.last
	}
	return nil
}

// list returns the groups that are forbidden, by storage and namespace, without those that have no release any
// more: nothing has been tried when it was time.
func (f *forbidden) list() []group {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.groups, func(_ group, r *refusal) bool { return time.Since(r.next) > 2*fetchTimeout })
	return slices.SortedFunc(maps.Keys(f.groups), func(x, y group) int {
		return cmp.Or(-cmp.Compare(x.storage, y.storage), cmp.Compare(x.namespace, y.namespace))
	})
}
