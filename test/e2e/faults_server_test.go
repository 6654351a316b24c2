package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// newServerStage has an exporter that watches all namespaces.
func newServerStage(t *testing.T) *stage { return newStage(t, newWorld(t)) }

// newStage has an exporter that watches all namespaces, and exposes what is in the world.
func newStage(t *testing.T, w *world) *stage {
	t.Helper()
	s := &stage{world: w, relay: newRelay(t), proxy: newProxy(t, nil), leads: shared.config.Host}
	s.relay.on(t)
	for range 50 {
		s.operate(t)
	}
	through := s.relay.access()
	through.ca = append(bytes.Clone(through.ca), s.proxy.access().ca...)
	s.start = func() {
		s.exporter = startExporter(t, shared.kubeconfig(t, through), append(w.flags, "--pages.enable-pprof")...)
		s.exporter.awaitReady(t)
	}
	s.start()
	s.agrees(t, s.exporter, healedWithin)
	return s
}

// leadTo has the relay lead to the API server itself, or to the proxy in front of it.
func (s *stage) leadTo(t *testing.T, url string) {
	t.Helper()
	if s.leads == url {
		return
	}
	s.leads = url
	s.relay.Off()
	s.relay.To(strings.TrimPrefix(url, "https://"))
	s.relay.on(t)
	s.agrees(t, s.exporter, healedWithin)
	eventually(t, healedWithin, func() error { return watchUp(s, 1) })
}

// watchUp returns an error unless all watches are up, or down.
func watchUp(s *stage, value float64) error {
	want := make(series)
	for _, storage := range s.storages {
		want.add(value, "helm_state_metrics_watch_up", map[string]string{"namespace": "", "storage": storage})
	}
	return s.exporter.has(want)()
}

var (
	// watchDown is the sign that the alert HelmStateMetricsWatchDown is about.
	watchDown = sign{"watch_up 0", func(s *stage) error { return watchUp(s, 0) }}
	// silent is the sign that nothing comes any more. The exporter must not claim that it has heard something.
	silent = sign{"watch_up 0", func(s *stage) error {
		all, err := s.exporter.scrape()
		if heard := all[`helm_state_metrics_watch_last_event_timestamp_seconds{namespace="",storage="secrets"}`]; err == nil && heard > float64(s.since.Unix()+1) {
			err = fmt.Errorf("the last event came %v s after the silence began", heard-float64(s.since.Unix()))
		}
		return errors.Join(err, watchUp(s, 0))
	}}
	// payloadsPending is the sign of the alert HelmStateMetricsPayloadsPending.
	payloadsPending = sign{"payloads_pending above 0", func(s *stage) error {
		all, err := s.exporter.scrape()
		if err == nil && all["helm_state_metrics_payloads_pending"] == 0 {
			err = errors.New("no payload is pending")
		}
		return err
	}}
)

var serverFaults = []fault{
	{
		what: "API server killed, and started again with the same data", sign: watchDown, still: true,
		begin: func(t *testing.T, s *stage) func() {
			s.leadTo(t, shared.config.Host)
			shared.Kill()
			return func() { shared.restart(t, 0) }
		},
	},
	{
		what: "API server killed and started again, and records changed, while the exporter was cut off", sign: watchDown, long: true,
		begin: func(t *testing.T, s *stage) func() {
			s.leadTo(t, shared.config.Host)
			s.relay.Off()
			for range 10 {
				s.operate(t)
			}
			shared.restart(t, 0)
			return func() { s.relay.on(t) }
		},
	},
	{
		what: "API server hangs: it accepts connections and never answers", sign: watchDown, still: true, long: true,
		begin: func(t *testing.T, s *stage) func() {
			s.leadTo(t, shared.config.Host)
			shared.Signal(syscall.SIGSTOP)
			return func() { shared.Signal(syscall.SIGCONT) }
		},
	},
	{
		what: "network silent: packets are dropped both ways, those that open a connection too", sign: silent,
		begin: func(t *testing.T, s *stage) func() {
			s.leadTo(t, shared.config.Host)
			expect.NoError(t, s.relay.Stall())
			return s.relay.Resume
		},
	},
	{
		what: "connections refused", sign: watchDown, quick: true,
		begin: func(t *testing.T, s *stage) func() {
			s.leadTo(t, shared.config.Host)
			s.relay.Off()
			return func() { s.relay.on(t) }
		},
	},
	{
		what: "connections reset while a watch runs", quick: true,
		begin: func(t *testing.T, s *stage) func() {
			s.leadTo(t, shared.config.Host)
			s.relay.Reset()
			return func() {}
		},
	},
	{
		what: "connections reset again and again while records change", quick: true,
		begin: func(t *testing.T, s *stage) func() {
			s.leadTo(t, shared.config.Host)
			for range 10 {
				s.relay.Reset()
				s.operate(t)
			}
			return func() {}
		},
	},
	{
		what: "network slow: each packet takes 0.3 s longer", quick: true,
		begin: func(t *testing.T, s *stage) func() {
			s.leadTo(t, shared.config.Host)
			s.relay.Delay(300 * time.Millisecond)
			return func() { s.relay.Delay(0) }
		},
	},
	slowed("every request takes 3 s", sign{}, 3*time.Second),
	slowed("no request is answered, on connections that are alive", watchDown, time.Hour),
	meddled("429 with Retry-After, by priority and fairness", watchDown, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
	}),
	meddled("429 with Retry-After of 300 s", watchDown, responds(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, 300)),
	meddled("500 for every request", watchDown, responds(http.StatusInternalServerError, metav1.StatusReasonInternalError, 0)),
	meddled("503 for every request", watchDown, responds(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, 0)),
	unreadable("500 for every read of a payload", responds(http.StatusInternalServerError, metav1.StatusReasonInternalError, 0)),
	unreadable("429 with Retry-After of 300 s for every read of a payload", responds(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, 300)),
	unreadable("reads of payloads are cut off", cut(100, false)),
	relisted("streamed list cut off half-way", watchDown, cut(500, false)),
	relisted("streamed list that ends half-way like a complete one", watchDown, cut(500, true)),
	relisted("plain list cut off half-way", watchDown, plain(cut(500, false))),
	relisted("plain list that ends half-way like a complete one", watchDown, plain(cut(500, true))),
	relisted("streamed list refused, as by an older API server", sign{}, refuses(streamsList)),
	{
		what: "streamed list whose last bookmark never comes", sign: sign{"watch_up 1", func(s *stage) error { return watchUp(s, 1) }},
		begin: func(t *testing.T, s *stage) func() {
			end := s.startOver(t, without("k8s.io/initial-events-end"))
			eventually(t, healedWithin, func() error { return watchUp(s, 0) })
			return end
		},
	},
	{
		what: "connections reset in mid-list", sign: watchDown, quick: true,
		begin: func(t *testing.T, s *stage) func() {
			return s.startOver(t, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
				pass.ServeHTTP(&cutter{ResponseWriter: w, left: 500, cut: s.relay.Reset}, r)
			})
		},
	},
	{
		what: "watch starts over (410) again and again while records change", quick: true,
		begin: func(t *testing.T, s *stage) func() {
			for range 3 {
				end := s.startOver(t, passesOn)
				for range 4 {
					s.operate(t)
				}
				end()
			}
			return s.startOver(t, passesOn)
		},
	},
	{
		what: "bookmarks stop, and the connection is reset", quick: true,
		begin: func(t *testing.T, s *stage) func() {
			end := s.meddle(t, without("BOOKMARK"))
			s.operate(t)
			s.relay.Reset()
			return end
		},
	},
	{
		what: "certificate of the server replaced, by the same authority", quick: true,
		begin: func(t *testing.T, s *stage) func() {
			s.leadTo(t, s.proxy.URL)
			s.proxy.rotate(t)
			s.relay.Reset()
			return func() {}
		},
	},
}

// meddle leads to the proxy, which meddles with requests from now on, and breaks the connections.
func (s *stage) meddle(t *testing.T, with meddler) (end func()) {
	t.Helper()
	s.leadTo(t, s.proxy.URL)
	end = s.proxy.meddle(with)
	s.relay.Reset()
	return end
}

// meddled is a fault of requests.
func meddled(what string, sign sign, with meddler) fault {
	return fault{what: what, sign: sign, quick: true, begin: func(t *testing.T, s *stage) func() { return s.meddle(t, with) }}
}

// unreadable is a fault of the reads of payloads. There is one to be read.
func unreadable(what string, with meddler) fault {
	return fault{what: what, sign: payloadsPending, quick: true, begin: func(t *testing.T, s *stage) func() {
		end := s.meddle(t, only(readsPayload, with))
		namespace := s.namespaces[0]
		s.create(t, namespace, secretStorage, "app", newest(storedIn(t, namespace, secretStorage), "app")+1, "deployed")
		delete(s.known, namespace)
		return end
	}}
}

// slowed is a fault that holds back each request for some time. In the end all of them are passed on.
func slowed(what string, sign sign, by time.Duration) fault {
	return fault{what: what, sign: sign, quick: by < time.Minute, begin: func(t *testing.T, s *stage) func() {
		ended := make(chan struct{})
		end := s.meddle(t, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			select {
			case <-time.After(by):
			case <-ended:
			case <-r.Context().Done():
			}
			pass.ServeHTTP(w, r)
		})
		return func() {
			end()
			close(ended)
		}
	}}
}

// relisted is a fault of lists. The watches have to start over.
func relisted(what string, sign sign, with meddler) fault {
	return fault{what: what, sign: sign, quick: true, begin: func(t *testing.T, s *stage) func() { return s.startOver(t, with) }}
}

// startOver says of a watch of each storage, when it is resumed, that its version has gone, and has lists meddled with.
// The end waits until a list is asked for.
func (s *stage) startOver(t *testing.T, lists meddler) (end func()) {
	t.Helper()
	var listed sync.Map // by resource; until then each answer that is lost with its connection is repeated
	asked := make(chan struct{})
	var once sync.Once
	passAll := s.meddle(t, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		resumes := r.URL.Query().Get("watch") == "true" && !streamsList(r)
		switch {
		case resumes && !has(&listed, path.Base(r.URL.Path)):
			writeStatus(w, metav1.Status{Reason: metav1.StatusReasonExpired, Code: http.StatusGone})
		case resumes, readsPayload(r):
			pass.ServeHTTP(w, r)
		default:
			listed.Store(path.Base(r.URL.Path), true)
			once.Do(func() { close(asked) })
			lists(w, r, pass)
		}
	})
	return func() {
		select {
		case <-asked:
		case <-time.After(noticedWithin):
			t.Error("no watch has started over")
		}
		passAll()
	}
}

func has(m *sync.Map, key string) bool {
	_, ok := m.Load(key)
	return ok
}

func passesOn(w http.ResponseWriter, r *http.Request, pass http.Handler) { pass.ServeHTTP(w, r) }

func readsPayload(r *http.Request) bool { return strings.Contains(r.URL.Path, "/sh.helm.release.v1.") }

// only meddles with some requests.
func only(some func(*http.Request) bool, with meddler) meddler {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if !some(r) {
			pass.ServeHTTP(w, r)
			return
		}
		with(w, r, pass)
	}
}

// plain refuses to stream lists, and meddles with those that are not streamed.
func plain(with meddler) meddler {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if streamsList(r) {
			refuses(streamsList)(w, r, pass)
			return
		}
		with(w, r, pass)
	}
}

// responds answers by a status.
func responds(code int32, reason metav1.StatusReason, retryAfter int32) meddler {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		status := metav1.Status{Reason: reason, Code: code}
		if retryAfter > 0 {
			status.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfter}
			w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter)))
		}
		writeStatus(w, status)
	}
}

// cut breaks answers after some bytes. Ended ones look complete to HTTP.
func cut(after int, ended bool) meddler {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		defer func() {
			if reason := recover(); reason != nil && (reason != http.ErrAbortHandler || !ended) {
				panic(reason)
			}
		}()
		pass.ServeHTTP(&cutter{w, after, func() {}}, r)
	}
}

// cutter passes on the beginning of an answer.
type cutter struct {
	http.ResponseWriter
	left int
	cut  func() // called after the beginning was passed on
}

var errCut = errors.New("cut off")

// WriteHeader implements http.ResponseWriter.
func (c *cutter) WriteHeader(status int) {
	c.Header().Del("Content-Length")
	c.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (c *cutter) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, err := c.ResponseWriter.Write(p[:c.left])
	err = errors.Join(err, http.NewResponseController(c.ResponseWriter).Flush())
	c.cut()
	return 0, errors.Join(err, errCut)
}

// Unwrap lets http.ResponseController flush.
func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// without drops the events that contain a text from watches.
func without(text string) meddler {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.URL.Query().Get("watch") == "true" {
			w = &filter{ResponseWriter: w, text: []byte(text)}
		}
		pass.ServeHTTP(w, r)
	}
}

// filter passes on the events of a watch, in protobuf, but for those that contain a text. The length of each comes
// first, in four bytes.
type filter struct {
	http.ResponseWriter
	text []byte
	held []byte // the beginning of an event
}

// Write implements http.ResponseWriter.
func (f *filter) Write(p []byte) (int, error) {
	f.held = append(f.held, p...)
	for len(f.held) >= 4 {
		size := 4 + int(binary.BigEndian.Uint32(f.held))
		if len(f.held) < size {
			break
		}
		if event := f.held[:size]; !bytes.Contains(event, f.text) {
			if _, err := f.ResponseWriter.Write(event); err != nil {
				return 0, err
			}
		}
		f.held = f.held[size:]
	}
	return len(p), nil
}

// Unwrap lets http.ResponseController flush.
func (f *filter) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// rotate gives the proxy another certificate of the same authority.
func (p *proxy) rotate(t *testing.T) {
	t.Helper()
	key := expect.Value(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der := expect.Value(x509.CreateCertificate(rand.Reader, leaf, p.Certificate(), key.Public(), p.TLS.Certificates[0].PrivateKey))(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pair = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: p.TLS.NextProtos}
}

// newOldStage has an API server that does not stream lists, with a relay between it and etcd.
func newOldStage(t *testing.T) *stage {
	t.Helper()
	address := expect.Value(process.FreeAddress())(t)
	etcd := newRelayTo(t, address)
	etcd.on(t)
	s := newStageOf(t, "--etcd-address="+address, "--", "--etcd-servers=http://"+etcd.Address(), "--feature-gates=WatchList=false")
	s.etcd = etcd
	return s
}

// newUncachedStage has an API server that serves Secrets from etcd, whose history it compacts every second.
func newUncachedStage(t *testing.T) *stage {
	t.Helper()
	return newStageOf(t, "--", "--watch-cache-sizes=secrets#0", "--etcd-compaction-interval=1s")
}

// newStageOf has another control plane, with the given flags, in place of the shared one until the end of the test.
func newStageOf(t *testing.T, flags ...string) *stage {
	t.Helper()
	before := shared
	shared = expect.Value(startControlPlane(t.TempDir(), flags...))(t)
	t.Cleanup(func() {
		expect.NoError(t, shared.Stop())
		shared = before
	})
	s := &stage{world: newWorld(t), relay: newRelay(t)}
	s.relay.on(t)
	s.exporter = startExporter(t, shared.kubeconfig(t, s.relay.access()))
	s.exporter.awaitReady(t)
	return s
}

var oldFaults = []fault{
	{
		what: "etcd slow: each packet takes 0.2 s longer", long: true,
		begin: func(_ *testing.T, s *stage) func() {
			s.etcd.Delay(200 * time.Millisecond)
			return func() { s.etcd.Delay(0) }
		},
	},
	{
		what: "etcd gone", still: true, long: true,
		begin: func(t *testing.T, s *stage) func() {
			s.etcd.Off()
			return func() {
				s.etcd.on(t)
				eventually(t, patience, s.writable(t))
			}
		},
	},
	{
		what: "etcd silent: packets are dropped both ways", still: true, long: true,
		begin: func(t *testing.T, s *stage) func() {
			expect.NoError(t, s.etcd.Stall())
			return func() {
				s.etcd.Resume()
				eventually(t, patience, s.writable(t))
			}
		},
	},
	{
		what: "connections reset, and records changed meanwhile", long: true,
		begin: func(t *testing.T, s *stage) func() {
			for range 10 {
				s.relay.Reset()
				s.operate(t)
			}
			return func() {}
		},
	},
	{
		what: "API server killed, and started again with the same data", sign: watchDown, still: true, long: true,
		begin: func(t *testing.T, _ *stage) func() {
			shared.Kill()
			return func() { shared.restart(t, 0) }
		},
	},
}

// writable returns a check that the API server has found etcd again.
func (s *stage) writable(t *testing.T) func() error {
	return func() error {
		namespace, err := shared.client.CoreV1().Namespaces().Get(t.Context(), s.namespaces[0], metav1.GetOptions{})
		if err == nil {
			_, err = shared.client.CoreV1().Namespaces().Update(t.Context(), namespace, metav1.UpdateOptions{})
		}
		return err
	}
}

var uncachedFaults = []fault{{
	what: "history compacted while the exporter was cut off, so that the watch starts over (410)", sign: watchDown, long: true,
	begin: func(t *testing.T, s *stage) func() {
		s.relay.Off()
		all := shared.client.CoreV1().Secrets("")
		known := expect.Value(all.List(t.Context(), metav1.ListOptions{}))(t).ResourceVersion
		eventually(t, patience, func() error {
			s.operate(t)
			w, err := all.Watch(t.Context(), metav1.ListOptions{ResourceVersion: known})
			if err != nil {
				return onlyIf(apierrors.IsResourceExpired(err) || apierrors.IsGone(err), err)
			}
			defer w.Stop()
			select {
			case event := <-w.ResultChan():
				return onlyIf(event.Type == apiwatch.Error, errors.New("the version is still known"))
			case <-time.After(time.Second):
				return errors.New("nothing has happened since this version")
			}
		})
		return func() { s.relay.on(t) }
	},
}}

// onlyIf returns the error unless the condition holds.
func onlyIf(holds bool, err error) error {
	if holds {
		return nil
	}
	return err
}
