package versions_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
	"github.com/helm-state-metrics/helm-state-metrics/internal/versions"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/hostile"
)

// world is what a tracker sees: exporters and repositories, whose answers a test sets.
type world struct {
	mu sync.Mutex
	// releases are by host of the exporter, as "NAMESPACE/NAME CHART VERSION"; nil if it does not answer.
	releases map[string][]string
	// replies are by "REPOSITORY" or "REPOSITORY CHART".
	replies map[string]chartrepo.Reply
	// asked are the times of the questions, by the same.
	asked map[string][]time.Time
	// delay is how long a repository takes to fail.
	delay time.Duration
	// log is what was logged.
	log logged
	dir string
}

func newWorld(t testing.TB, config string) *world {
	t.Helper()
	w := &world{releases: make(map[string][]string), replies: make(map[string]chartrepo.Reply), asked: make(map[string][]time.Time), dir: t.TempDir()}
	w.configure(t, config)
	return w
}

func (w *world) configure(t testing.TB, config string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// set changes the world while a tracker runs.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// times returns when a question was asked.
func (w *world) times(question string) []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked[question])
}

// has makes a repository answer.
func (w *world) has(question string, charts map[string][]string) {
	w.replies[question] = chartrepo.Reply{Answer: &chartrepo.Answer{Charts: charts}, Result: "ok"}
}

// RoundTrip implements http.RoundTripper.
func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	releases, ok := w.releases[req.URL.Host]
	if !ok || !slices.Equal(req.URL.Query()["name[]"], []string{"helm_release_info", "helm_release_other_status"}) {
		return nil, errors.New("no route to host")
	}
	var b strings.Builder
	b.WriteString("# TYPE helm_release_info gauge\n")
	for _, r := range releases {
		if strings.HasPrefix(r, "helm_release_info{") { // as it is
			b.WriteString(r)
			continue
		}
		var namespace, name, chart, version string
		if _, err := fmt.Sscanf(strings.ReplaceAll(r, "/", " "), "%s %s %s %s", &namespace, &name, &chart, &version); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "helm_release_info{app_version=\"\",chart=%q,chart_version=%q,name=%q,namespace=%q,revision=\"1\"} 1\n", chart, version, name, namespace)
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(b.String()))}, nil
}

// logged is a log that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// repository is one of the world.
type repository struct {
	*world
	name string
}

// Ask implements versions.Asker.
func (r repository) Ask(ctx context.Context, chart, _ string, last *chartrepo.Answer) chartrepo.Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	question := strings.TrimSpace(r.name + " " + chart)
	r.asked[question] = append(r.asked[question], time.Now())
	reply, ok := r.replies[question]
	switch {
	case !ok:
		r.mu.Unlock()
		defer r.mu.Lock()
		if r.delay > 0 {
			select {
			case <-time.After(r.delay):
			case <-ctx.Done():
			}
		}
		return chartrepo.Reply{Result: "error", Err: errors.New("connection refused")}
	case reply.Result == "not_modified":
		same := *last
		reply.Answer = &same
	}
	if reply.Answer != nil {
		now := *reply.Answer
		now.At = time.Now()
		reply.Answer = &now
	}
	return reply
}

// start runs a tracker until stop is called, or the test ends.
func (w *world) start(t testing.TB, change func(*versions.Config), exporters ...string) (tracker *versions.Tracker, stop func()) {
	t.Helper()
	cfg := versions.Config{
		Client: &http.Client{Transport: w}, ScrapeInterval: time.Minute, AskInterval: 24 * time.Hour, File: filepath.Join(w.dir, "config.yaml"),
		Open:   func(c chartrepo.Config) versions.Asker { return repository{w, c.Name} },
		Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	}
	for _, text := range exporters {
		e, err := versions.ParseExporter(text)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Exporters = append(cfg.Exporters, e)
	}
	if change != nil {
		change(&cfg)
	}
	tracker, err := versions.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tracker.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return tracker, stop
}

// lines returns the lines of some families.
func lines(t *testing.T, tracker *versions.Tracker, families ...string) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(tracker.Collector()); err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	text, err := testutil.CollectAndFormat(tracker.Collector(), expfmt.TypeTextPlain, families...)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// expectLines compares the lines of the families about releases.
func expectLines(t *testing.T, tracker *versions.Tracker, want string) {
	t.Helper()
	got := lines(t, tracker, "helm_release_chart_outdated", "helm_release_chart_latest_info", "helm_release_chart_unresolved")
	if diff := cmp.Diff(strings.TrimLeft(want, "\n"), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

const (
	exporterOne = "http://one/metrics"
	oneIndex    = "repositories: [{name: prom, url: https://charts.example.com}]\n"
)

// settled waits until all that is due has been done.
func settled() {
	<-time.After(time.Second)
	synctest.Wait()
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	settled()
}

func TestEverythingIsTriedBeforeAnythingIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oneIndex)
		w.releases["one"] = []string{"a/web app 1.0.0", "a/db db 2.0.0", "b/x other 1.0.0"}
		w.has("prom", map[string][]string{"app": {"1.0.0", "2.0.0"}, "db": {"2.0.0"}})
		tracker, _ := w.start(t, nil, exporterOne)
		if err := tracker.WhyNotReady(); err == nil || !strings.Contains(err.Error(), "exporter one") {
			t.Errorf("it is ready at once: %v", err)
		}
		settled()
		if err := tracker.WhyNotReady(); err != nil {
			t.Error(err)
		}
		expectLines(t, tracker, `
helm_release_chart_latest_info{chart="app",chart_version="1.0.0",latest_version="2.0.0",level="major",name="web",namespace="a",repository="prom"} 1
helm_release_chart_latest_info{chart="db",chart_version="2.0.0",latest_version="2.0.0",level="none",name="db",namespace="a",repository="prom"} 1
helm_release_chart_outdated{name="db",namespace="a"} 0
helm_release_chart_outdated{name="web",namespace="a"} 1
helm_release_chart_unresolved{chart="other",name="x",namespace="b",reason="no_repository"} 1
`)
	})
}

func TestAnExporterThatIsStartingIsScrapedSoonAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oneIndex)
		w.has("prom", map[string][]string{"app": {"2.0.0"}})
		tracker, _ := w.start(t, nil, exporterOne)
		settled()
		w.set(func() { w.releases["one"] = []string{"a/web app 1.0.0"} })
		pass(5 * time.Second)
		if got := lines(t, tracker, "helm_release_chart_outdated"); got == "" {
			t.Error("it is not scraped again within six seconds")
		}
	})
}

func TestARepositoryIsAskedOncePerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oneIndex)
		for i := range 200 {
			w.releases["one"] = append(w.releases["one"], fmt.Sprintf("a/web-%d app-%d 1.0.0", i, i))
		}
		w.has("prom", map[string][]string{"app-1": {"1.0.0"}})
		w.start(t, func(cfg *versions.Config) { cfg.ScrapeInterval = time.Hour }, exporterOne)
		settled()
		w.set(func() {
			w.replies["prom"] = chartrepo.Reply{Result: "not_modified"}
			w.releases["one"] = append(w.releases["one"], "a/new new 1.0.0")
		})
		pass(72 * time.Hour)
		times := w.times("prom")
		if len(times) != 3 && len(times) != 4 {
			t.Fatalf("asked %d times in three days", len(times))
		}
		for i, at := range times[1:] {
			if since := at.Sub(times[i]); since < 21*time.Hour || since > 27*time.Hour {
				t.Errorf("asked again after %v, want about a day", since)
			}
		}
	})
}

func TestAFailureIsRetriedLaterAndLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oneIndex)
		w.releases["one"] = []string{"a/web app 1.0.0"}
		tracker, _ := w.start(t, nil, exporterOne)
		settled()
		expectLines(t, tracker, "helm_release_chart_unresolved{chart=\"app\",name=\"web\",namespace=\"a\",reason=\"repository_failed\"} 1\n")
		pass(24 * time.Hour)
		if n := len(w.times("prom")); n < 24 || n > 40 {
			t.Errorf("asked %d times in a day, want a backoff up to an hour", n)
		}
		if n := strings.Count(w.log.String(), "Cannot ask the repository"); n != 1 {
			t.Errorf("the log has %d lines about it, want 1", n)
		}
		w.set(func() { w.has("prom", map[string][]string{"app": {"1.0.0"}}) })
		pass(2 * time.Hour)
		kept := strings.Count(lines(t, tracker, "helm_release_chart_outdated"), "\n")
		w.set(func() { w.replies["prom"] = chartrepo.Reply{Result: "error", Err: errors.New("away")} })
		pass(48 * time.Hour)
		if now := strings.Count(lines(t, tracker, "helm_release_chart_outdated"), "\n"); kept != 1 || now != 1 {
			t.Errorf("%d lines, then %d: what it said before is to be kept", kept, now)
		}
		if got := tracker.View().Repositories[0]; time.Since(got.Last) < 24*time.Hour || got.Failure == nil {
			t.Errorf("the state is %+v, want an old answer and the failure", got)
		}
	})
}

func TestARepositoryThatIsTiredIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "repositories: [{name: own, url: oci://registry.example.com/helm}]\nrules: [{repository: own}]\n")
		w.releases["one"] = []string{"a/web app 1.0.0", "a/db db 1.0.0", "a/c c 1.0.0", "a/d d 1.0.0", "a/e e 1.0.0"}
		for _, chart := range []string{"app", "db", "c", "d", "e"} {
			w.replies["own "+chart] = chartrepo.Reply{Result: "rate_limited", RetryAfter: 5 * time.Hour, Err: errors.New("too many requests")}
		}
		tracker, _ := w.start(t, nil, exporterOne)
		pass(4 * time.Hour)
		all := 0
		for _, chart := range []string{"app", "db", "c", "d", "e"} {
			all += len(w.times("own " + chart))
		}
		if all != 4 {
			t.Errorf("asked %d times, want the four that are asked at once", all)
		}
		if err := tracker.WhyNotReady(); err != nil {
			t.Errorf("it waits for the repository: %v", err)
		}
		if got := lines(t, tracker, "helm_release_chart_unresolved"); strings.Count(got, "repository_failed") != 5 {
			t.Errorf("want five releases whose repository failed:\n%s", got)
		}
		pass(2 * time.Hour)
		if len(w.times("own e")) == 0 {
			t.Error("the others are not asked after the pause")
		}
	})
}

func TestReleasesOfAnExporterThatIsAwayStayForTwoIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oneIndex)
		w.releases["one"], w.releases["two"] = []string{"a/web app 1.0.0"}, []string{"a/web app 2.0.0", "b/web app 2.0.0"}
		w.has("prom", map[string][]string{"app": {"2.0.0"}})
		tracker, _ := w.start(t, nil, "cluster=eu,http://one/metrics", "cluster=us,http://two/metrics")
		settled()
		both := lines(t, tracker, "helm_release_chart_outdated", "helm_chart_versions_exporter_up")
		want := `helm_chart_versions_exporter_up{exporter="one"} 1
helm_chart_versions_exporter_up{exporter="two"} 1
helm_release_chart_outdated{cluster="eu",name="web",namespace="a"} 1
helm_release_chart_outdated{cluster="us",name="web",namespace="a"} 0
helm_release_chart_outdated{cluster="us",name="web",namespace="b"} 0
`
		if diff := cmp.Diff(want, both); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		w.set(func() { delete(w.releases, "two") })
		pass(118 * time.Second)
		away := strings.Replace(want, `exporter="two"} 1`, `exporter="two"} 0`, 1)
		if diff := cmp.Diff(away, lines(t, tracker, "helm_release_chart_outdated", "helm_chart_versions_exporter_up")); diff != "" {
			t.Errorf("within two intervals (-want +got):\n%s", diff)
		}
		pass(3 * time.Second)
		if got := lines(t, tracker, "helm_release_chart_outdated"); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"eu"`) {
			t.Errorf("after two intervals:\n%s", got)
		}
		w.set(func() { w.releases["two"] = nil })
		pass(time.Minute)
		if got := lines(t, tracker, "helm_chart_versions_exporter_up"); strings.Contains(got, " 0") {
			t.Errorf("an exporter without releases is up: %s", got)
		}
	})
}

func TestTheStateFileSavesQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, strings.Replace(oneIndex, "https://", "https://bot:s3cret@", 1))
		w.releases["one"] = []string{"a/web app 1.0.0"}
		w.has("prom", map[string][]string{"app": {"2.0.0"}})
		withState := func(cfg *versions.Config) { cfg.StateFile = filepath.Join(w.dir, "state.json") }
		_, stop := w.start(t, withState, exporterOne)
		pass(time.Hour)
		stop()
		w.set(func() { delete(w.replies, "prom") })
		tracker, stop := w.start(t, withState, exporterOne)
		pass(time.Hour)
		if got := lines(t, tracker, "helm_release_chart_outdated"); got != "helm_release_chart_outdated{name=\"web\",namespace=\"a\"} 1\n" {
			t.Errorf("got %q after a restart", got)
		}
		if n := len(w.times("prom")); n != 1 {
			t.Errorf("asked %d times, want once before the restart", n)
		}
		if text, err := os.ReadFile(filepath.Join(w.dir, "state.json")); err != nil || strings.Contains(string(text), "s3cret") {
			t.Errorf("the state file has a password, or cannot be read: %v", err)
		}
		stop()
		if err := os.WriteFile(filepath.Join(w.dir, "state.json"), []byte(`[{"url":`), 0o600); err != nil {
			t.Fatal(err)
		}
		w.start(t, withState, exporterOne)
		settled()
		if n := len(w.times("prom")); n != 2 || !strings.Contains(w.log.String(), "Cannot use the state file") {
			t.Errorf("asked %d times, want once more with a broken state file, and a warning", n)
		}
		info, err := os.Stat(filepath.Join(w.dir, "state.json"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the state file: %v %v", info.Mode(), err)
		}
	})
}

func TestAnOldAnswerOfTheStateFileIsNotTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oneIndex)
		w.releases["one"] = []string{"a/web app 1.0.0"}
		w.has("prom", map[string][]string{"app": {"1.0.0"}})
		withState := func(cfg *versions.Config) { cfg.StateFile = filepath.Join(w.dir, "state.json") }
		_, stop := w.start(t, withState, exporterOne)
		settled()
		stop()
		<-time.After(7 * 24 * time.Hour)
		w.set(func() { w.has("prom", map[string][]string{"app": {"2.0.0"}}) })
		tracker, _ := w.start(t, withState, exporterOne)
		<-tracker.Ready()
		if got := lines(t, tracker, "helm_release_chart_outdated"); !strings.HasSuffix(got, " 1\n") {
			t.Errorf("it is ready with what it knew a week ago: %s", got)
		}
	})
}

func TestADeadRegistryIsNotAskedForEachChart(t *testing.T) {
	const charts = 200
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "repositories: [{name: own, url: oci://registry.example.com/helm}, {name: prom, url: https://charts.example.com}]\nrules: [{chart: own-*, repository: own}]\n")
		w.has("prom", map[string][]string{"app": {"1.0.0"}})
		w.releases["one"] = []string{"a/app app 1.0.0"}
		w.delay = 30 * time.Second // of what does not answer
		for i := range charts {
			w.releases["one"] = append(w.releases["one"], fmt.Sprintf("a/own-%d own-%d 1.0.0", i, i))
		}
		tracker, _ := w.start(t, nil, exporterOne)
		pass(31 * time.Second)
		if err := tracker.WhyNotReady(); err != nil {
			t.Error(err)
		}
		pass(10 * time.Minute)
		if n := tracker.View().Repositories[0].Results["error"]; n > 24 {
			t.Errorf("asked %d times in ten minutes", n)
		}
		if n := strings.Count(w.log.String(), "Cannot ask the repository"); n != 1 {
			t.Errorf("the log has %d lines about it, want 1", n)
		}
		w.set(func() {
			for i := range charts {
				w.has(fmt.Sprintf("own own-%d", i), map[string][]string{fmt.Sprintf("own-%d", i): {"1.0.0"}})
			}
		})
		pass(time.Hour)
		if got := tracker.View().Repositories[0]; got.Charts != charts || got.Failure != nil {
			t.Errorf("an hour after it is back: %+v", got)
		}
	})
}

func TestTheReplicaThatAnswersCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oneIndex)
		w.has("prom", map[string][]string{"app": {"2.0.0"}})
		w.releases["one"], w.releases["two"] = []string{"a/web app 1.0.0"}, []string{"a/web app 1.0.0"}
		tracker, _ := w.start(t, nil, exporterOne, "http://two/metrics")
		settled()
		w.set(func() {
			delete(w.releases, "one")
			w.releases["two"] = []string{"a/web app 2.0.0"}
		})
		pass(time.Minute)
		if got := lines(t, tracker, "helm_release_chart_outdated"); !strings.HasSuffix(got, " 0\n") {
			t.Errorf("what a replica says that is away: %s", got)
		}
	})
}

func TestUninstalledReleasesDoNotCount(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `# TYPE helm_release_info gauge
helm_release_info{chart="c",chart_version="1.0.0",name="kept",namespace="a"} 1
helm_release_info{chart="c",chart_version="1.0.0",name="runs",namespace="a"} 1
helm_release_info{chart="c",chart_version="1.0.0",name="kept",namespace="b"} 1
helm_release_other_status{name="kept",namespace="a",status="uninstalled"} 1
helm_release_other_status{name="kept",namespace="b",status="uninstalling"} 1
`)
	}))
	defer server.Close()
	w := newWorld(t, "")
	tracker, _ := w.start(t, func(cfg *versions.Config) { cfg.Client = server.Client() }, server.URL+"/metrics")
	<-tracker.Ready()
	if got := lines(t, tracker, "helm_release_chart_unresolved"); strings.Count(got, "\n") != 2 || strings.Contains(got, `name="kept",namespace="a"`) {
		t.Errorf("got\n%s", got)
	}
}

func TestScrapesThatAreNone(t *testing.T) {
	line := "helm_release_info{chart=\"c\",chart_version=\"1.0.0\",name=\"%s\",namespace=\"a\"} 1\n"
	for name, tc := range map[string]struct {
		body string
		want string // in the error, "" for none
	}{
		"no releases":                 {"# TYPE helm_release_info gauge\n", ""},
		"other families":              {"# TYPE other gauge\nother 1\n# TYPE helm_release_info gauge\n" + fmt.Sprintf(line, "a"), ""},
		"a login page":                {"<html>log in</html>\n", "/metrics"},
		"another exporter":            {"# TYPE helm_release_info_total counter\n", "/metrics"},
		"a line that is too long":     {fmt.Sprintf(line, strings.Repeat("x", 65<<10)), "too long"},
		"a line that is not a metric": {"helm_release_info{name=\"a\" 1\n", "text format"},
		"invalid UTF-8":               {fmt.Sprintf(line, "\xff"), "invalid"},
		"more text than can be":       {"# TYPE helm_release_info gauge\n" + strings.Repeat(strings.Repeat("x", 1000)+"\n", 70_000), "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, tc.body) }))
			defer server.Close()
			w := newWorld(t, "")
			tracker, _ := w.start(t, func(cfg *versions.Config) { cfg.Client = server.Client() }, server.URL+"/metrics")
			<-tracker.Ready()
			failure := tracker.View().Exporters[0].Failure
			if tc.want == "" && failure != nil || tc.want != "" && (failure == nil || !strings.Contains(failure.Error(), tc.want)) {
				t.Errorf("got %v, want %q in it", failure, tc.want)
			}
		})
	}
}

func TestAConfigThatIsWrongDoesNotReplaceOneThatIsRight(t *testing.T) {
	const two = "repositories: [{name: prom, url: https://charts.example.com}, {name: two, url: https://two.example.com}]\n"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, two)
		w.releases["one"] = []string{"a/web app 1.0.0", "a/web-2 app 1.0.0"}
		w.has("prom", map[string][]string{"app": {"2.0.0"}})
		w.has("two", map[string][]string{"app": {"1.0.0"}})
		tracker, _ := w.start(t, nil, exporterOne)
		pass(time.Hour)
		if n := strings.Count(w.log.String(), "Cannot tell where a chart comes from"); n != 1 {
			t.Errorf("an ambiguous chart is logged %d times, want once", n)
		}
		successful := func() string { return lines(t, tracker, "helm_chart_versions_config_last_reload_successful") }
		w.configure(t, two+"rules: [{chart: app, repository: three}]\n")
		tracker.Reload()
		settled()
		if got := successful(); !strings.HasSuffix(got, " 0\n") || !strings.Contains(w.log.String(), "three") {
			t.Errorf("after a wrong config: %s\n%s", got, w.log.String())
		}
		if got := lines(t, tracker, "helm_release_chart_unresolved"); strings.Count(got, "ambiguous") != 2 {
			t.Errorf("the old config does not stay:\n%s", got)
		}
		w.configure(t, two+"rules: [{chart: app, repository: two}]\n")
		pass(11 * time.Second) // without a signal
		if got := successful() + lines(t, tracker, "helm_release_chart_outdated"); !strings.Contains(got, `successful 1`) || strings.Count(got, `namespace="a"} 0`) != 2 {
			t.Errorf("after a right config:\n%s", got)
		}
		if n := len(w.times("prom")) + len(w.times("two")); n != 2 {
			t.Errorf("asked %d times; repositories that stay need not be asked again", n)
		}
		if err := os.Remove(filepath.Join(w.dir, "config.yaml")); err != nil {
			t.Fatal(err)
		}
		pass(11 * time.Second)
		gone := successful()
		w.configure(t, two+"rules: [{chart: app, repository: two}]\n")
		pass(11 * time.Second)
		if again := successful(); !strings.HasSuffix(gone, " 0\n") || !strings.HasSuffix(again, " 1\n") {
			t.Errorf("without the file %q, with it again %q", gone, again)
		}
		w.configure(t, strings.Replace(two, "charts.example.com}", "charts.example.com, username: bot}", 1))
		tracker.Reload()
		settled()
		if n := len(w.times("prom")); n != 2 {
			t.Errorf("asked %d times; a repository with another user is asked again", n)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t, "rules: {}")
	for _, file := range []string{"config.yaml", "none.yaml"} {
		if _, err := versions.New(versions.Config{File: filepath.Join(w.dir, file), Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, text := range []string{"", "helm:8080", "ftp://helm/metrics", "cluster=,http://a", "cluster=a", "https:///metrics", "http://bot:s3cret@a b/"} {
		if _, err := versions.ParseExporter(text); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// BenchmarkScrape scrapes a program that compares 10,000 releases.
func BenchmarkScrape(b *testing.B) {
	w := newWorld(b, oneIndex)
	index := make(map[string][]string)
	for i := range 10_000 {
		chart := fmt.Sprintf("chart-%d", i%200)
		index[chart] = []string{"1.0.0", "2.0.0"}
		w.releases["one"] = append(w.releases["one"], fmt.Sprintf("team-%d/release-%d %s 1.0.0", i%100, i, chart))
	}
	w.has("prom", index)
	tracker, _ := w.start(b, nil, exporterOne)
	<-tracker.Ready()
	registry := prometheus.NewRegistry()
	if err := registry.Register(tracker.Collector()); err != nil {
		b.Fatal(err)
	}
	routes, err := tracker.Routes("", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	if err != nil {
		b.Fatal(err)
	}
	for path, want := range map[string]string{"/metrics": "helm_release_chart_latest_info", "/": "10000"} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				answer := httptest.NewRecorder()
				routes.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
				if !strings.Contains(answer.Body.String(), want) {
					b.Fatalf("%d without %q", answer.Code, want)
				}
			}
		})
	}
}

func TestThePageFiltersAndComesInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oneIndex)
		for i := range 150 {
			w.releases["one"] = append(w.releases["one"], fmt.Sprintf("team-%d/old-%d app 1.0.0", i%2, i))
		}
		w.releases["one"] = append(w.releases["one"], "team-0/new app 2.0.0", "team-0/own <b>own 1.0.0")
		w.has("prom", map[string][]string{"app": {"2.0.0"}})
		tracker, _ := w.start(t, nil, exporterOne)
		routes, err := tracker.Routes("1.2.3", http.NotFoundHandler())
		if err != nil {
			t.Fatal(err)
		}
		get := func(path string) string {
			answer := httptest.NewRecorder()
			routes.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
			return fmt.Sprint(answer.Code) + answer.Body.String()
		}
		if early := get("/metrics") + get("/"); !strings.Contains(early, "503waiting for the first answer of exporter one") || !strings.Contains(early, "Not complete yet") {
			t.Errorf("before the first answers: %s", early)
		}
		settled()
		for path, want := range map[string][]string{
			"/":                       {"1 to 100 of 152 releases", `level=major">major <b>150`, `level=unknown">unknown <b>1`, `rel="next"`},
			"/?page=2":                {"101 to 152 of 152 releases", ">new<", "&lt;b&gt;own", "no_repository", `rel="prev"`},
			"/?level=none":            {"1 to 1 of 1 releases, filtered from 152", ">new<", `aria-current="true">none`},
			"/?q=team-1+old":          {"1 to 75 of 75 releases, filtered from 152"},
			"/?q=team-1&level=none":   {"No release of 152 matches", `href="?q=team-1"`},
			"/?q=%22%3E%3Cscript%3Ex": {"No release", "&lt;script&gt;x"},
		} {
			got := get(path)
			for _, part := range want {
				if !strings.Contains(got, part) {
					t.Errorf("%s has no %q:\n%s", path, part, got)
				}
			}
			if strings.Contains(got, "<b>own") || strings.Contains(got, "<script>x") {
				t.Errorf("%s: markup from a name or the query", path)
			}
		}
	})
}

// TestHostileTexts puts hostile texts into what releases say of their charts, and what repositories have.
func TestHostileTexts(t *testing.T) {
	page := func(text func(string) string) (html string, charts map[string]bool) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, oneIndex)
			known := map[string][]string{}
			quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
			for name := range hostile.Texts() {
				chart := hostile.Plain(text(name))
				known[chart] = []string{"2.0.0", chart}
				for _, version := range []string{"1.0.0", chart} {
					w.releases["one"] = append(w.releases["one"], fmt.Sprintf("helm_release_info{app_version=\"\",chart=\"%s\",chart_version=\"%s\",name=\"%s\",namespace=\"a\",revision=\"1\"} 1\n",
						quote.Replace(chart), quote.Replace(version), strings.ReplaceAll(name, " ", "-")+"."+fmt.Sprint(version == "1.0.0")))
				}
			}
			w.has("prom", known)
			tracker, _ := w.start(t, nil, exporterOne)
			routes, err := tracker.Routes("1.2.3", http.NotFoundHandler())
			if err != nil {
				t.Fatal(err)
			}
			settled()
			answer := httptest.NewRecorder()
			routes.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
			html = answer.Body.String()
			parser := expfmt.NewTextParser(model.UTF8Validation)
			parsed, err := parser.TextToMetricFamilies(strings.NewReader(lines(t, tracker, "helm_release_chart_latest_info", "helm_release_chart_unresolved")))
			if err != nil {
				t.Fatal(err)
			}
			charts = make(map[string]bool)
			for _, family := range parsed {
				for _, m := range family.GetMetric() {
					charts[m.GetLabel()[0].GetValue()] = true // of the labels, the first in the alphabet
				}
			}
		})
		return html, charts
	}
	plain, _ := page(func(string) string { return "plain" })
	got, charts := page(func(name string) string { return hostile.Texts()[name] })
	if diff := cmp.Diff(hostile.Markup(plain), hostile.Markup(got)); diff != "" {
		t.Errorf("elements of the page (-want +got):\n%s", diff)
	}
	if r := hostile.Hidden(got); r != 0 {
		t.Errorf("the page has the character %U", r)
	}
	for name, text := range hostile.Texts() {
		if !charts[hostile.Plain(text)] {
			t.Errorf("the chart that is called so as %s is not in the metrics", name)
		}
	}
}
