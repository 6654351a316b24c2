package metrics_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
)

// none is a gatherer without telemetry, so that only the engine is measured.
var none = prometheus.NewRegistry()

// telemetry is a registry like that of the exporter, without the watcher's.
func telemetry(store *metrics.Store) *prometheus.Registry {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(store.Collector(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

const many = 10_000

// measure is the loop of a benchmark. Besides the time it reports the CPU time of the whole process, which
// another process on the machine does not change, and which includes what the garbage collector does meanwhile.
func measure(b *testing.B, do func()) {
	b.Helper()
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
}

func cpu() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func BenchmarkUnchanged(b *testing.B) {
	all := fleet.Of(many)
	store, _ := filled(all)
	engine := metrics.NewHandler(store, none)
	lines := fleet.NewReadyLines(text(engine))
	for _, bc := range []struct {
		name, encoding string
		handler        func() http.Handler
	}{
		{"engine/gzip", "gzip", func() http.Handler { return engine }},
		{"handler/gzip", "gzip", func() http.Handler { return metrics.NewHandler(store, telemetry(store)) }},
		{"ready-lines/gzip", "gzip", func() http.Handler { return lines }},
		{"gauge-vecs/gzip", "gzip", func() http.Handler { return fleet.GaugeVecs(all) }},
		{"engine/identity", "", func() http.Handler { return engine }},
		{"gauge-vecs/identity", "", func() http.Handler { return fleet.GaugeVecs(all) }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			h, asker := bc.handler(), newAsker(bc.encoding)
			size := asker.ask(h)
			measure(b, func() { asker.ask(h) })
			b.ReportMetric(float64(size), "bytes/scrape")
		})
	}
}

// BenchmarkUpgraded measures a scrape after some releases of 10,000 got their next revision.
func BenchmarkUpgraded(b *testing.B) {
	for name, pick := range map[string]func(round int) []int{
		"1%-at-random": func(round int) []int {
			random := rand.New(rand.NewPCG(uint64(round), 1))
			return random.Perm(many)[:many/100]
		},
		"100-in-one-place": func(round int) []int {
			picked := make([]int, 100)
			for i := range picked {
				picked[i] = round*100%many + i
			}
			return picked
		},
	} {
		b.Run(name, func(b *testing.B) {
			store, _ := filled(fleet.Of(many))
			h := metrics.NewHandler(store, none)
			fetch(h, "gzip")
			round := 0
			measure(b, func() {
				round++
				for _, i := range pick(round) {
					store.Set(fleet.Member(i, 10+round))
				}
				fetch(h, "gzip")
			})
		})
	}
}

// BenchmarkChange measures one change and the scrape after it, from few releases to many.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		store, _ := filled(fleet.Of(n))
		h := metrics.NewHandler(store, none)
		fetch(h, "gzip")
		b.Run(fmt.Sprintf("set/%d", n), func(b *testing.B) {
			round := 0
			measure(b, func() {
				round++
				store.Set(fleet.Member(n/2, round))
			})
		})
		b.Run(fmt.Sprintf("set+scrape/%d", n), func(b *testing.B) {
			round := 0
			measure(b, func() {
				round++
				store.Set(fleet.Member(n/2, round))
				fetch(h, "gzip")
			})
		})
		b.Run(fmt.Sprintf("scrape/%d", n), func(b *testing.B) {
			measure(b, func() { fetch(h, "gzip") })
		})
	}
}

// BenchmarkNamespaces measures a tenant's scrape, of few and of many namespaces with 50 releases each.
func BenchmarkNamespaces(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		store, _ := filled(fleet.Of(n))
		h := metrics.NewHandler(store, none)
		for _, namespaces := range []int{1, 100} {
			query := make(url.Values)
			for i := range namespaces {
				query.Add("namespace", fleet.Member(50*i, 1).Namespace)
			}
			b.Run(fmt.Sprintf("%d-of-%d", namespaces, n/50), func(b *testing.B) {
				asker := newAsker("gzip")
				asker.req.URL.RawQuery = query.Encode()
				size := asker.ask(h)
				measure(b, func() { asker.ask(h) })
				b.ReportMetric(float64(size), "bytes/scrape")
			})
		}
	}
}

// BenchmarkLargeRequests measures the largest requests that are accepted: with a header of 32 KiB.
func BenchmarkLargeRequests(b *testing.B) {
	store, _ := filled(fleet.Of(many))
	h := metrics.NewHandler(store, telemetry(store))
	for _, bc := range []struct{ name, query, encoding, accept string }{
		{"ordinary", "", "gzip", ""},
		{"not compressed", "", "", ""},
		{"families", strings.Repeat("name[]=x&", 3600), "", ""},
		{"namespaces", strings.Repeat("namespace=x&", 2700), "", ""},
		{"all namespaces", "namespace=" + fleet.Member(0, 1).Namespace + strings.Repeat("&a", 9_990), "gzip", ""},
		{"formats", "name[]=x", "", strings.Repeat("a/b;q=0.1;x=y,", 2300)},
		{"encodings", "name[]=x", strings.Repeat("br;q=0.1,", 3600), ""},
	} {
		b.Run(bc.name, func(b *testing.B) {
			asker := newAsker(bc.encoding)
			asker.req.URL.RawQuery = bc.query
			if bc.accept != "" {
				asker.req.Header.Set("Accept", bc.accept)
			}
			size := asker.ask(h)
			measure(b, func() { asker.ask(h) })
			b.ReportMetric(float64(size), "bytes/scrape")
		})
	}
}
