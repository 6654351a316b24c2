package watch_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata/fake"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/watch"
)

// cluster is a fake one: metadata comes from client-go's fake client, payloads from a round tripper that counts
// what it is asked for.
type cluster struct {
	t        *testing.T
	metadata *fake.FakeMetadataClient

	mu       sync.Mutex
	payloads map[string]*corev1.Secret // by object name; guarded by mu
	gets     map[string]int            // by object name; guarded by mu
	status   int                       // of every GET if not 0; guarded by mu
}

func newCluster(t *testing.T) *cluster {
	scheme := fake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return &cluster{
		t: t, metadata: fake.NewSimpleMetadataClient(scheme),
		payloads: make(map[string]*corev1.Secret), gets: make(map[string]int),
	}
}

var secrets = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

// write stores a record, as Helm would: its metadata, and a payload that names the chart.
func (c *cluster) write(name string, number int, status release.Status, uid, chart string) {
	c.t.Helper()
	object := objectName(name, number)
	meta := metav1.ObjectMeta{
		Namespace: "ns", Name: object, UID: types.UID(uid), ResourceVersion: "1",
		Labels: map[string]string{"owner": "helm", "name": name, "status": string(status), "version": fmt.Sprint(number)},
	}
	payload := fmt.Sprintf(`{"info":{"last_deployed":"2026-01-02T03:04:05Z"},"chart":{"metadata":{"name":%q,"version":"1.0.0"}}}`, chart)
	if chart == "garbage" {
		payload = "garbage"
	}
	if chart == "garbage behind the beginning" {
		payload = `{"a":"` + strings.Repeat("x", 20_000)
	}
	if chart == "bomb" { // it takes a thousand times as long
		payload = `{"config":[` + strings.Repeat(strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+",", 10) + "0]," + payload[1:]
	}
	c.mu.Lock()
	old := c.payloads[object]
	c.payloads[object] = &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: meta,
		Data: map[string][]byte{"release": []byte(base64.StdEncoding.EncodeToString([]byte(payload)))},
	}
	c.mu.Unlock()
	partial := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: meta}
	var err error
	if old != nil {
		version, _ := strconv.Atoi(old.ResourceVersion)
		partial.ResourceVersion = strconv.Itoa(version + 1)
		c.setVersion(object, partial.ResourceVersion)
		err = c.metadata.Tracker().Update(secrets, partial, "ns")
	} else {
		err = c.metadata.Tracker().Create(secrets, partial, "ns")
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// relabel edits the name label of a record.
func (c *cluster) relabel(name string, number int, to string) {
	c.t.Helper()
	object := objectName(name, number)
	c.setVersion(object, "2")
	c.mu.Lock()
	meta := *c.payloads[object].ObjectMeta.DeepCopy()
	c.mu.Unlock()
	meta.Labels["name"] = to
	partial := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: meta}
	if err := c.metadata.Tracker().Update(secrets, partial, "ns"); err != nil {
		c.t.Fatal(err)
	}
}

// setVersion is what a write does to a record's payload.
func (c *cluster) setVersion(object, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.payloads[object].ResourceVersion = version
}

func (c *cluster) delete(name string, number int) {
	c.t.Helper()
	object := objectName(name, number)
	c.mu.Lock()
	delete(c.payloads, object)
	c.mu.Unlock()
	if err := c.metadata.Tracker().Delete(secrets, "ns", object); err != nil {
		c.t.Fatal(err)
	}
}

// answer sets the status of every GET from now on, 0 for the truth.
func (c *cluster) answer(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// count returns how many GETs there were of a record.
func (c *cluster) count(name string, number int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gets[objectName(name, number)]
}

// total returns how many GETs there were.
func (c *cluster) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, k := range c.gets {
		n += k
	}
	return n
}

// RoundTrip serves the GETs. The second one of a release that is called slow takes five seconds.
func (c *cluster) RoundTrip(req *http.Request) (*http.Response, error) {
	object := req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
	c.mu.Lock()
	c.gets[object]++
	again := c.gets[object] == 2
	c.mu.Unlock()
	if again && object == objectName("slow", 1) {
		<-time.After(5 * time.Second)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	status := c.status
	if status == 0 && c.payloads[object] == nil {
		status = http.StatusNotFound
	}
	body := &bytes.Buffer{}
	if status == 0 {
		status = http.StatusOK
		scheme := runtime.NewScheme()
		if err := protobuf.NewSerializer(scheme, scheme).Encode(c.payloads[object], body); err != nil {
			return nil, err
		}
	}
	header := http.Header{}
	if status == http.StatusTooManyRequests {
		header.Set("Retry-After", "300")
	}
	return &http.Response{StatusCode: status, Request: req, Header: header, Body: io.NopCloser(body)}, nil
}

func objectName(name string, number int) string {
	return fmt.Sprintf("sh.helm.release.v1.%s.v%d", name, number)
}

// watching is a running watcher, and what its sink received.
type watching struct {
	*watch.Watcher

	mu       sync.Mutex
	releases map[string]*release.Release // by name; guarded by mu
	synced   int                         // guarded by mu
	sets     int                         // guarded by mu; how often Set was called

	registry *prometheus.Registry
}

// start runs a watcher in the bubble of a synctest; it ends with the test.
func (c *cluster) start(change ...func(*watch.Config)) *watching {
	c.t.Helper()
	_, core, err := watch.Clients(&rest.Config{Host: "http://cluster.invalid", Transport: c})
	if err != nil {
		c.t.Fatal(err)
	}
	w := &watching{releases: make(map[string]*release.Release), registry: prometheus.NewPedanticRegistry()}
	cfg := watch.Config{
		Metadata: c.metadata, Core: core,
		Storages: []release.Storage{release.Secrets}, FetchConcurrency: 2,
		Sink: w, Registerer: w.registry, Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&cfg)
	}
	w.Watcher = watch.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Error(err)
		}
	})
	synctest.Wait()
	return w
}

// chart returns which chart a release shows, "" if none or if it is gone.
func (w *watching) chart(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.releases[name]; r != nil && r.Payload != nil {
		return r.Payload.Head.Chart.Name
	}
	return ""
}

// newest returns the number and status that a release shows, 0 if it is gone.
func (w *watching) newest(name string) (int, release.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.releases[name]; r != nil {
		return r.Newest.Number, r.Newest.Status
	}
	return 0, ""
}

// times returns how often Set was called.
func (w *watching) times() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sets
}

// metric returns the value of a series, such as name{label="value"}.
func (w *watching) metric(series string) float64 {
	families, err := w.registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			if f.GetName()+"{"+strings.Join(labels, ",")+"}" == series {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	panic("there is no " + series)
}

// expect compares the value of a series.
func (w *watching) expect(t *testing.T, series string, want float64) {
	t.Helper()
	if got := w.metric(series); got != want {
		t.Errorf("%s is %v, want %v", series, got, want)
	}
}

const (
	watchUp        = `helm_state_metrics_watch_up{namespace="",storage="secrets"}`
	lastEvent      = `helm_state_metrics_watch_last_event_timestamp_seconds{namespace="",storage="secrets"}`
	watchExpired   = `helm_state_metrics_watch_errors_total{reason="expired",storage="secrets"}`
	watchForbidden = `helm_state_metrics_watch_errors_total{reason="forbidden",storage="secrets"}`
	fetchErrors    = `helm_state_metrics_payload_fetches_total{result="error"}`
	notJSON        = `helm_state_metrics_decode_errors_total{reason="json"}`
)

func (w *watching) Set(r *release.Release) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.releases[r.Name] = r
	w.sets++
}

func (w *watching) Remove(key release.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.releases, key.Name)
}

func (w *watching) Synced() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.synced++
}

// advance moves the clock of the synctest on and lets what is due happen.
func advance(by time.Duration) {
	<-time.After(by)
	synctest.Wait()
}
