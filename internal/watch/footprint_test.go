package watch

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// BenchmarkFootprint measures what a release costs in memory, from the informer's store to the deflated
// segments, and the resident memory of the process. There is no API server: the handlers are fed as informers
// feed them.
func BenchmarkFootprint(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				w, store, handler := fed(b, n, 0)
				req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				req.Header.Set("Accept-Encoding", "gzip")
				handler.ServeHTTP(discard{http.Header{}}, req)
				b.ReportMetric(float64(heap()-before)/float64(n), "heap-bytes/release")
				b.ReportMetric(resident(b), "rss-MB")
				runtime.KeepAlive(w)
				runtime.KeepAlive(store)
			}
		})
	}
}

// fed returns a watcher that has seen n releases, the informer's store of them, and a handler that exposes them,
// at most the given number of each namespace, 0 for all.
func fed(b testing.TB, n, most int) (*Watcher, cache.Store, http.Handler) {
	families, err := metrics.Families(metrics.Options{})
	if err != nil {
		b.Fatal(err)
	}
	sink := metrics.NewStore(families, true)
	meta, core, err := Clients(&rest.Config{Host: "http://cluster.invalid"})
	if err != nil {
		b.Fatal(err)
	}
	w := New(Config{
		Metadata: meta, Core: core, Storages: []release.Storage{release.Secrets}, FetchConcurrency: 1, MaxReleases: most,
		Sink: sink, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	store := cache.NewStore(cache.DeletionHandlingMetaNamespaceKeyFunc)
	for i := range n {
		r := deliver(b, w, store, object(i))
		w.setPayload(r.key(), &r.revision, payloadOf(i))
	}
	queue, _ := w.setSynced()
	queue.ShutDown() // nothing reads from it
	return w, store, metrics.NewHandler(sink, prometheus.NewRegistry())
}

// deliver adds an object as an informer does.
func deliver(b testing.TB, w *Watcher, store cache.Store, o *metav1.PartialObjectMetadata) *record {
	obj, err := toRecords(release.Secrets, nil, everyRelease)(o)
	if err != nil {
		b.Fatal(err)
	}
	if err := store.Add(obj); err != nil {
		b.Fatal(err)
	}
	h := &handler{source: w.sources[0], live: true}
	h.OnAdd(obj, true)
	return recordOf(obj)
}

// TestOneNamespaceCostsTheOthersNothing adds 50,000 releases to one namespace, each older than those before, so that
// each takes the place of another one. `make tenants` does it with an API server.
func TestOneNamespaceCostsTheOthersNothing(t *testing.T) {
	const others, flood, limit = 1000, 50_000, 60
	w, store, handler := fed(t, others, limit)
	scrape := func() (own, ofOthers []string) {
		response := httptest.NewRecorder()
		handler.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for line := range strings.Lines(response.Body.String()) {
			switch {
			case strings.Contains(line, `namespace="flood"`):
				own = append(own, line)
			case strings.HasPrefix(line, "helm_release_"):
				ofOthers = append(ofOthers, line)
			}
		}
		slices.Sort(ofOthers)
		return own, ofOthers
	}
	_, before := scrape()
	held, began := heap(), time.Now()
	for i := range flood {
		o := object(flood - i)
		o.Namespace, o.Labels["name"] = "flood", fmt.Sprint("app-", i)
		deliver(t, w, store, o)
	}
	took, grew := time.Since(began), heap()-held
	own, after := scrape()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the series of other namespaces changed (-before +after):\n%s", diff)
	}
	if series := len(own) / limit; series < 5 || series > 13 || len(own)%limit != 0 {
		t.Errorf("%d series of %d releases are exposed", len(own), limit)
	}
	if dropped := w.limit.dropped("flood"); dropped != flood-limit {
		t.Errorf("%d are dropped, want %d", dropped, flood-limit)
	}
	t.Logf("%d releases took %s and %.0f bytes each", flood, took, grew/flood)
	if grew/flood > 1500 {
		t.Errorf("%.0f bytes of memory for each release", grew/flood)
	}
	runtime.KeepAlive(store)
}

// object is the metadata of a record, with strings of its own as if decoded.
func object(i int) *metav1.PartialObjectMetadata {
	name, number := fmt.Sprintf("payments-api-%d", i%50), 1+i%9
	at := metav1.NewTime(time.Unix(1_790_000_000+int64(i), 0))
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: fmt.Sprintf("team-%04d", i/50), Name: fmt.Sprintf("sh.helm.release.v1.%s.v%d", name, number),
		UID: types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", i, i)), ResourceVersion: fmt.Sprint(1_000_000 + i),
		CreationTimestamp: at,
		Labels: map[string]string{
			"name": name, "owner": "helm", "status": "deployed", "version": fmt.Sprint(number), "modifiedAt": fmt.Sprint(at.Unix()),
		},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "Helm", Operation: "Update", Time: &at, FieldsV1: metav1.NewFieldsV1(strings.Repeat("x", 200))}},
	}}
}

func payloadOf(i int) release.Payload {
	at := time.Unix(1_790_000_000+int64(i), 0).UTC()
	return release.Payload{Bytes: 20_000 + i%50_000, Read: at, ResourceVersion: uint64(1_000_000 + i), Head: release.Head{
		FirstDeployed: at, LastDeployed: at, Description: strings.Clone("Upgrade complete"),
		Chart: release.Chart{
			Name: fmt.Sprintf("chart-%d", i%61), Version: fmt.Sprintf("1.%d.0", i%20), AppVersion: fmt.Sprintf("v2.%d", i%20),
		},
	}}
}

func heap() float64 {
	runtime.GC()
	runtime.GC() // pools give up what they hold at the second
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

func resident(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc to read the resident memory from")
	}
	var kilobytes float64
	_, resident, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(resident, &kilobytes); err != nil {
		b.Fatal(err)
	}
	return kilobytes / 1024
}

// discard is a response writer that takes everything.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) WriteHeader(int)             {}
func (d discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }

// BenchmarkReleases lists 10,000 releases when one of them has changed since the last time.
func BenchmarkReleases(b *testing.B) {
	w := &Watcher{index: make(index), synced: true}
	for i := range 10_000 {
		r := parseRecord(release.Secrets, object(i), nil)
		w.index.Insert(r.key(), &r.revision)
		w.index.Refresh(r.key())
	}
	b.ReportAllocs()
	for b.Loop() {
		w.sorted = nil
		if all, err := w.Releases(); err != nil || len(all) != 10_000 {
			b.Fatal(len(all), err)
		}
	}
}
