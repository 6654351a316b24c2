package metrics_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// releases are one of each kind that makes a difference to the lines.
func releases() []*release.Release {
	deployed := time.Unix(1e9, 0)
	return []*release.Release{
		{
			Key:      release.Key{Namespace: "default", Name: "foo"},
			Newest:   &release.Revision{Number: 4, Status: release.Failed, Created: 1_500_000_000, Modified: 1_500_000_060},
			Deployed: 3, Stored: 2,
			Payload: &release.Payload{Bytes: 34_567, Head: release.Head{
				LastDeployed: deployed,
				Chart:        release.Chart{Name: "chickadee", Version: "1.0.0", AppVersion: "0.0.1"},
			}},
		},
		{
			Key:    release.Key{Namespace: "default", Name: "payload.pending"},
			Newest: &release.Revision{Number: 1, Status: release.PendingInstall, Created: 1_600_000_000},
			Stored: 1,
		},
		{
			Key:    release.Key{Namespace: "default", Name: "undecodable"},
			Newest: &release.Revision{Number: 1, Status: release.Deployed, Created: 1_600_000_000},
			Stored: 1, Deployed: 1,
			Payload: &release.Payload{Bytes: 12, Problem: "gzip"},
		},
		{
			Key:     release.Key{Namespace: "default", Name: "ending"},
			Newest:  &release.Revision{Number: 1, Status: release.Uninstalling, Created: 1_600_000_000},
			Stored:  1,
			Payload: &release.Payload{Bytes: 100},
		},
		{
			Key:     release.Key{Namespace: "kube-system", Name: "no-chart"},
			Newest:  &release.Revision{Number: 1, Status: release.Uninstalled, Labels: map[string]string{"team/name": "core"}},
			Stored:  1,
			Payload: &release.Payload{Bytes: 100},
		},
		{
			Key:    release.Key{Namespace: "kube-system", Name: "odd"},
			Newest: &release.Revision{Number: 2, Status: release.Deployed, Created: 1_600_000_000},
			Stored: 1, Deployed: 2,
			Payload: &release.Payload{Bytes: 1_048_576, Head: release.Head{
				Chart: release.Chart{Name: "quo\"te", Version: "back\\slash", AppVersion: "line\nfeed \xff", Deprecated: true},
			}},
		},
	}
}

// handler serves the given releases; its telemetry is one counter.
func handler(t *testing.T, o metrics.Options, all []*release.Release) (*metrics.Handler, *metrics.Store) {
	t.Helper()
	families, err := metrics.Families(o)
	if err != nil {
		t.Fatal(err)
	}
	store := metrics.NewStore(families, true)
	for _, r := range slices.SortedFunc(slices.Values(all), func(a, b *release.Release) int { return a.Compare(b.Key) }) {
		store.Set(r)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "telemetry_total", Help: "Stands for the telemetry."}))
	return metrics.NewHandler(store, registry), store
}

func scrape(h http.Handler, header map[string]string) *httptest.ResponseRecorder {
	return scrapeURL(h, "/metrics", header)
}

func scrapeURL(h http.Handler, url string, header map[string]string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodGet, url, nil)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

const openMetrics = "application/openmetrics-text;version=1.0.0"

func TestScrapeIsGolden(t *testing.T) {
	every := metrics.Options{AllStatuses: true, ReleaseLabels: []string{"team/name", "other"}}
	for name, tc := range map[string]struct {
		options metrics.Options
		accept  string
		golden  string
	}{
		"text":                         {golden: "default.prom"},
		"text with every option":       {options: every, golden: "every-option.prom"},
		"OpenMetrics":                  {accept: openMetrics, golden: "default.om"},
		"a format that is not offered": {accept: "application/json", golden: "default.prom"},
	} {
		t.Run(name, func(t *testing.T) {
			h, store := handler(t, tc.options, releases())
			store.Synced()
			w := scrape(h, map[string]string{"Accept": tc.accept})
			path := filepath.Join("testdata", tc.golden)
			if *update {
				if err := os.WriteFile(path, w.Body.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), w.Body.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestScrapeParsesAndIsClean(t *testing.T) {
	h, store := handler(t, metrics.Options{AllStatuses: true}, releases())
	store.Synced()
	body := scrape(h, nil).Body.Bytes()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parsed, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	odd := parsed["helm_release_chart_deprecated"].GetMetric()
	if len(odd) != 1 || odd[0].GetLabel()[0].GetValue() != "odd" {
		t.Errorf("deprecated charts: %v", odd)
	}
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	if len(problems) > 0 {
		t.Errorf("lint: %v", problems)
	}
}

// TestEachFamilyIsThereOnce looks at the telemetry of Go itself, in both formats.
func TestEachFamilyIsThereOnce(t *testing.T) {
	families, err := metrics.Families(metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := metrics.NewStore(families, true)
	store.Synced()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collectors.NewGoCollector())
	for _, accept := range []string{"text/plain", "application/openmetrics-text"} {
		body := scrape(metrics.NewHandler(store, registry), map[string]string{"Accept": accept}).Body.String()
		seen := make(map[string]bool)
		for line := range strings.Lines(body) {
			name, isType := strings.CutPrefix(line, "# TYPE ")
			if name, _, _ = strings.Cut(name, " "); isType && seen[name] {
				t.Errorf("%s is there twice in %s", name, accept)
			} else if isType {
				seen[name] = true
			}
		}
		if !seen["go_goroutines"] {
			t.Errorf("there is nothing of Go in %s", accept)
		}
	}
}

func TestAStatusWithoutARowIsShownWhileItLasts(t *testing.T) {
	at := func(status release.Status) *release.Release {
		r := fleet.Member(1, 1)
		r.Newest.Status = status
		return r
	}
	for name, tc := range map[string]struct {
		options    metrics.Options
		from       release.Status
		to         release.Status // none if it goes
		want, then string
	}{
		"from deployed to uninstalled":     {from: release.Deployed, to: release.Uninstalled, then: "uninstalled"},
		"from uninstalling to uninstalled": {from: release.Uninstalling, to: release.Uninstalled, want: "uninstalling", then: "uninstalled"},
		"from uninstalling to gone":        {from: release.Uninstalling, want: "uninstalling"},
		"from superseded to deployed":      {from: release.Superseded, to: release.Deployed, want: "superseded"},
		"from unknown to failed":           {from: release.Unknown, to: release.Failed, want: "unknown"},
		"where every status has a row":     {options: metrics.Options{AllStatuses: true}, from: release.Uninstalling, to: release.Uninstalled},
	} {
		t.Run(name, func(t *testing.T) {
			before := at(tc.from)
			h, store := handler(t, tc.options, []*release.Release{before})
			store.Synced()
			shows := func(status string) {
				t.Helper()
				want := []string{}
				if status != "" {
					want = append(want, fmt.Sprintf("helm_release_other_status{name=%q,namespace=%q,status=%q} 1", before.Name, before.Namespace, status))
				}
				for _, encoding := range []string{"gzip", ""} {
					got := slices.DeleteFunc(sortedLines(unzip(t, h, encoding, "", "")), func(line string) bool {
						return !strings.HasPrefix(line, "helm_release_other_status")
					})
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("encoding %q (-want +got):\n%s", encoding, diff)
					}
				}
			}
			shows(tc.want)
			if tc.to == "" {
				store.Remove(before.Key)
			} else {
				store.Set(at(tc.to))
			}
			shows(tc.then)
		})
	}
}

func TestTheFormatIsNegotiated(t *testing.T) {
	h, store := handler(t, metrics.Options{}, releases())
	store.Synced()
	const (
		text = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
		om   = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping="
	)
	for accept, want := range map[string]string{
		"":          text,
		"*/*":       text,
		"text/html": text,
		openMetrics: om + "underscores",
		"text/plain;q=0.3, " + openMetrics + ";q=0.5": om + "underscores",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited, text/plain;version=0.0.4": text,
		// What Prometheus 3 sends with native histograms on, and off.
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2": om + "allow-utf-8",
		"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2":                                                                                                  om + "allow-utf-8",
	} {
		if got := scrape(h, map[string]string{"Accept": accept}).Header().Get("Content-Type"); got != want {
			t.Errorf("Accept %q: got %q, want %q", accept, got, want)
		}
	}
}

func TestGzipIsNegotiatedAndSaysTheSame(t *testing.T) {
	h, store := handler(t, metrics.Options{}, releases())
	store.Synced()
	plain := scrape(h, nil).Body.String()
	for accept, zipped := range map[string]bool{
		"": false, "identity": false, "br": false, "gzip;q=0": false, "gzip; q=0.0, *": false, "*;q=0": false,
		"gzip": true, "GZIP": true, "br;q=1.0, gzip;q=0.8, *;q=0.1": true, "*": true, "deflate,gzip": true,
	} {
		w := scrape(h, map[string]string{"Accept-Encoding": accept})
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != zipped {
			t.Errorf("Accept-Encoding %q: gzip %v, want %v", accept, got, zipped)
			continue
		}
		body := w.Body.String()
		if zipped {
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			read, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			body = string(read)
		}
		if body != plain {
			t.Errorf("Accept-Encoding %q: another text than without", accept)
		}
	}
}

func TestNothingIsServedBeforeTheInitialListIsIn(t *testing.T) {
	h, store := handler(t, metrics.Options{}, nil)
	w := scrape(h, nil)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "initial list") {
		t.Errorf("got %d %q, want 503 with a reason", w.Code, w.Body)
	}
	store.Synced()
	if w := scrape(h, nil); w.Code != http.StatusOK {
		t.Errorf("got %d once the list is in", w.Code)
	}
}

func TestReleaseLabelsThatCollideAreRefused(t *testing.T) {
	_, err := metrics.Families(metrics.Options{ReleaseLabels: []string{"a/b", "a.b"}})
	if err == nil || !strings.Contains(err.Error(), "a/b") || !strings.Contains(err.Error(), "a.b") {
		t.Errorf("got %v, want an error that names both", err)
	}
}

func TestAScrapeCanBeLimited(t *testing.T) {
	all := releases()
	h, store := handler(t, metrics.Options{}, all)
	store.Synced()
	for name, tc := range map[string]struct {
		query     string
		want, not []string
	}{
		"to a namespace, without telemetry": {
			query: "?namespace=kube-system",
			want:  []string{`helm_release_revision{name="odd"`, "# TYPE helm_release_info"}, not: []string{`name="foo"`, "telemetry_total"},
		},
		"to two namespaces": {
			query: "?namespace=kube-system&namespace=default",
			want:  []string{`name="odd"`, `name="foo"`}, not: []string{"telemetry_total"},
		},
		"to a namespace without releases": {
			query: "?namespace=nowhere",
			want:  []string{"# TYPE helm_release_info"}, not: []string{"name="},
		},
		"to families": {
			query: "?name[]=helm_release_info&name[]=telemetry_total",
			want:  []string{"helm_release_info{", "telemetry_total"}, not: []string{"helm_release_revision", "helm_release_status"},
		},
		"to families of a namespace": {
			query: "?name[]=helm_release_info&namespace=default",
			want:  []string{`helm_release_info{app_version="0.0.1"`}, not: []string{`name="odd"`, "helm_release_status"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			plain := unzip(t, h, "", "", tc.query)
			for _, want := range tc.want {
				if !strings.Contains(plain, want) {
					t.Errorf("lacks %s", want)
				}
			}
			for _, not := range tc.not {
				if strings.Contains(plain, not) {
					t.Errorf("has %s", not)
				}
			}
			if zipped := unzip(t, h, "gzip", "", tc.query); zipped != plain {
				t.Error("gzip says something else")
			}
		})
	}
}

// stalled is a client that takes nothing until it is let go.
type stalled struct {
	*httptest.ResponseRecorder
	entered chan<- struct{}
	leave   <-chan struct{}
}

func (s stalled) Write(p []byte) (int, error) {
	s.entered <- struct{}{}
	<-s.leave
	return s.ResponseRecorder.Write(p)
}

func TestStalledClientsHoldNothingButTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, store := handler(t, metrics.Options{}, releases())
		store.Synced()
		const turns = 16
		entered, leave := make(chan struct{}), make(chan struct{})
		done := make(chan struct{})
		for range turns {
			go func() {
				h.ServeHTTP(stalled{httptest.NewRecorder(), entered, leave}, httptest.NewRequest(http.MethodGet, "/metrics", nil))
				done <- struct{}{}
			}()
		}
		for range turns {
			<-entered
		}
		store.Set(fleet.Member(1, 2)) // does not wait
		if w := scrape(h, nil); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "16 scrapes") {
			t.Errorf("got %d %q, want 503 that says why", w.Code, w.Body)
		}
		partial := httptest.NewRecorder() // of a tenant, for whom there are other turns, and the other way round
		h.ServeHTTP(partial, httptest.NewRequest(http.MethodGet, "/metrics?namespace=team", nil))
		if partial.Code != http.StatusOK {
			t.Errorf("got %d %q for one namespace", partial.Code, partial.Body)
		}
		close(leave)
		for range turns {
			select {
			case <-entered: // a second chunk of the same answer
				<-done
			case <-done:
			}
		}
		if w := scrape(h, nil); w.Code != http.StatusOK {
			t.Errorf("got %d once the others are done", w.Code)
		}
	})
}

// reader is a client that takes so many bytes per second, 0 for none, until its deadline.
type reader struct {
	*httptest.ResponseRecorder
	rate     int
	deadline *time.Timer
}

func (r reader) Write(p []byte) (int, error) {
	var taken <-chan time.Time
	if r.rate > 0 {
		taken = time.After(time.Duration(len(p)) * time.Second / time.Duration(r.rate))
	}
	select {
	case <-taken:
		return r.ResponseRecorder.Write(p)
	case <-r.deadline.C:
		return 0, os.ErrDeadlineExceeded
	}
}

// SetWriteDeadline is for http.ResponseController.
func (r reader) SetWriteDeadline(at time.Time) error {
	r.deadline.Reset(time.Until(at))
	return nil
}

// TestWhoWaitsGetsAPlaceInTime lets as many clients scrape as may wait, all the time, so that one that reads at once
// always is the last of a full queue.
func TestWhoWaitsGetsAPlaceInTime(t *testing.T) {
	for name, rate := range map[string]int{"behind clients that read nothing": 0, "behind clients that read 32 kB a second": 32_000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, store := handler(t, metrics.Options{}, fleet.Of(100))
				store.Synced()
				ctx, stop := context.WithCancel(t.Context())
				var slow sync.WaitGroup
				defer slow.Wait()
				defer stop()
				for range 16 + 63 {
					slow.Go(func() {
						for ctx.Err() == nil {
							deadline := time.NewTimer(time.Minute)
							h.ServeHTTP(reader{httptest.NewRecorder(), rate, deadline}, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil))
						}
					})
				}
				for range 20 {
					synctest.Wait()
					began := time.Now()
					if w := scrape(h, nil); w.Code != http.StatusOK || time.Since(began) > 4*time.Second {
						t.Fatalf("got %d after %s", w.Code, time.Since(began))
					}
				}
			})
		})
	}
}

// TestWhoReadsSlowlyLoses lets clients ask for everything and read nothing, again and again, over real connections: what
// they are sent does not fit into the buffers of these.
func TestWhoReadsSlowlyLoses(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2, in one connection": true} {
		t.Run(name, func(t *testing.T) {
			h, store := handler(t, metrics.Options{}, fleet.Of(5_000))
			store.Synced()
			server := httptest.NewUnstartedServer(h)
			server.EnableHTTP2 = http2
			server.StartTLS()
			defer server.Close()
			defer server.CloseClientConnections()
			ctx, stop := context.WithCancel(t.Context())
			var slow sync.WaitGroup
			defer slow.Wait()
			defer stop()
			greedy := server.Client().Transport.(*http.Transport).Clone()
			greedy.DisableCompression = true
			for range 17 {
				slow.Go(func() {
					for ctx.Err() == nil {
						hold(ctx, &http.Client{Transport: greedy}, server.URL)
					}
				})
			}
			transport := server.Client().Transport.(*http.Transport).Clone()
			transport.DisableCompression = true
			client, served := &http.Client{Transport: transport, Timeout: 10 * time.Second}, 0
			for start := time.Now(); time.Since(start) < 4*time.Second; served++ {
				response, err := client.Get(server.URL + "/metrics")
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK || http2 != (response.ProtoMajor == 2) {
					t.Errorf("a client that reads at once got %s %d, %v", response.Proto, response.StatusCode, err)
				}
			}
			t.Logf("%d scrapes", served)
		})
	}
}

// hold asks for everything, and reads nothing of it for some seconds.
func hold(ctx context.Context, client *http.Client, url string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return
	}
	response, err := client.Do(req)
	if err != nil {
		return
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		select {
		case <-ctx.Done():
		case <-time.After(4 * time.Second):
		}
	}
}

func TestFamiliesAreChosenByName(t *testing.T) {
	for name, tc := range map[string]struct {
		allow, deny string
		want        []string
		payloads    bool
	}{
		"one by its name": {allow: "helm_release_info", want: []string{"helm_release_info"}, payloads: true},
		"some, less others": {
			allow: "helm_release_(info|updated|revision)", deny: ".*_(info|updated)",
			want: []string{"helm_release_revision"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := metrics.Options{Allow: []*regexp.Regexp{regexp.MustCompile("^(?:" + tc.allow + ")$")}}
			if tc.deny != "" {
				o.Deny = []*regexp.Regexp{regexp.MustCompile("^(?:" + tc.deny + ")$")}
			}
			families, err := metrics.Families(o)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range families {
				got = append(got, f.Name)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if metrics.NeedPayloads(families) != tc.payloads {
				t.Errorf("need payloads: %v", !tc.payloads)
			}
		})
	}
}
