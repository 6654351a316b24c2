package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/charts"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/relay"
)

// companion is helm-chart-versions. Its page is the path / of exporter.
type companion struct {
	*exporter
	config string // path of its config file
}

// impatient makes the companion scrape and ask as often as it can.
var impatient = []string{"--exporter.interval=1s", "--interval=1s"}

// startCompanion starts helm-chart-versions with a config for an exporter, once that is ready. It is stopped at the end of the test, where
// any exit status but 0 is a failure.
func startCompanion(t *testing.T, config string, of *exporter, flags ...string) companion {
	t.Helper()
	if of != nil {
		of.awaitReady(t)
		flags = append(flags, "--exporter.url="+of.metrics+"/metrics")
	}
	return runCompanion(t, writeFile(t, "repositories.yaml", config), nil, flags...)
}

func runCompanion(t *testing.T, config string, env []string, flags ...string) companion {
	t.Helper()
	cmd := exec.Command(process.Path("helm-chart-versions"), append([]string{
		"--config=" + config, "--web.listen-address=127.0.0.1:0", "--health.listen-address=127.0.0.1:0",
	}, flags...)...)
	cmd.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	c := companion{runServer(t, cmd), config}
	c.pages = c.metrics
	t.Cleanup(func() { c.stop(t) })
	return c
}

// configure replaces the config.
func (c companion) configure(t *testing.T, text string) {
	t.Helper()
	expect.NoError(t, os.WriteFile(c.config, []byte(text), 0o600))
}

// newRepository serves an index in which each line is a chart and its versions.
func newRepository(t *testing.T, index ...string) (s *charts.Server, dir string) {
	t.Helper()
	dir = t.TempDir()
	writeIndex(t, dir, index...)
	s = charts.NewRepository(dir)
	t.Cleanup(s.Close)
	return s, dir
}

func writeIndex(t *testing.T, dir string, index ...string) {
	t.Helper()
	text := "apiVersion: v1\nentries:\n"
	for _, line := range index {
		fields := strings.Fields(line)
		text += "  " + fields[0] + ":\n"
		for _, version := range fields[1:] {
			text += fmt.Sprintf("  - apiVersion: v2\n    name: %s\n    urls: [%s-%s.tgz]\n    version: %s\n", fields[0], fields[0], version, version)
		}
	}
	expect.NoError(t, os.WriteFile(filepath.Join(dir, "index.yaml"), []byte(text), 0o600))
}

// repositories is a config with repositories, as name and URL in turn.
func repositories(namesAndURLs ...string) string {
	text := "repositories:\n"
	for i := 0; i < len(namesAndURLs); i += 2 {
		text += fmt.Sprintf("- {name: %s, url: %q}\n", namesAndURLs[i], namesAndURLs[i+1])
	}
	return text
}

// runs writes the record of a release of a chart.
func runs(t *testing.T, namespace, name, chart, version string) {
	t.Helper()
	document := map[string]any{"name": name, "info": map[string]any{}, "chart": map[string]any{
		"metadata": map[string]any{"name": chart, "version": version},
	}}
	write(t, namespace, cluster.Secret(name, 1, "deployed", stored(string(expect.Value(json.Marshal(document))(t)))))
}

// compared returns the series about releases. Each line is a release, its chart, the running version, the latest one,
// the level and the repository; or a release, its chart and the reason why the latest version is not known.
func compared(namespace string, releases ...string) series {
	want := make(series)
	for _, line := range releases {
		f := strings.Fields(line)
		labels := map[string]string{"namespace": namespace, "name": f[0]}
		if len(f) > 3 {
			behind := 1.0
			if f[4] == "none" {
				behind = 0
			}
			want.add(behind, "helm_release_chart_outdated", labels)
			labels["chart_version"], labels["latest_version"], labels["level"] = f[2], f[3], f[4]
			labels["repository"] = strings.Join(f[5:], "")
		} else {
			labels["reason"] = f[2]
		}
		labels["chart"] = f[1]
		if family := "helm_release_chart_unresolved"; len(f) > 3 {
			want.add(1, "helm_release_chart_latest_info", labels)
		} else {
			want.add(1, family, labels)
		}
	}
	return want
}

// results is the name of a counter of answers.
func results(repository, result string) string {
	return seriesName("helm_chart_repository_requests_total", map[string]string{"repository": repository, "result": result})
}

// counted returns a check that a counter is at least 1.
func (c companion) counted(name string) func() error {
	return func() error {
		all, err := c.scrape()
		if err == nil && all[name] < 1 {
			err = fmt.Errorf("%s is %v", name, all[name])
		}
		return err
	}
}

// TestChartVersions has Helm 3 and Helm 4 install, upgrade and remove releases whose charts are in a repository and in a
// registry that they filled themselves, and a real Prometheus that joins what both programs say.
func TestChartVersions(t *testing.T) {
	t.Parallel()
	namespaces := map[string]string{"helm3": newNamespace(t, "versions"), "helm4": newNamespace(t, "versions")}
	dir, pushed, registry := t.TempDir(), t.TempDir(), charts.NewRegistry(2)
	t.Cleanup(registry.Close)
	three, four := charts.Helm{Program: "helm3", Home: t.TempDir()}, charts.Helm{Program: "helm4", Home: t.TempDir()}
	expect.NoError(t, errors.Join(
		three.Package(t.Context(), dir, "web", "1.0.0", "1.2.3", "2.0.0", "3.0.0-rc.1"),
		three.Package(t.Context(), dir, "site-settings", "1.9.0", "2.0.0-beta", "2.0.0-rc.1", "2.0.0-rc.2", "2.1.0-rc.1"),
		four.Package(t.Context(), dir, "deprecated", "v9.8.6", "v9.8.7"),
		four.Index(t.Context(), dir),
		three.Package(t.Context(), pushed, "hook", "0.3.0+build.2"), three.Push(t.Context(), pushed, "oci://"+registry.Address()+"/team"),
		four.Package(t.Context(), pushed, "hook", "0.2.0", "0.2.1", "0.3.0-rc.1"), four.Push(t.Context(), pushed, "oci://"+registry.Address()+"/team"),
	))
	repository := charts.NewRepository(dir)
	t.Cleanup(repository.Close)
	e := startExporter(t, shared.admin(), "--namespaces="+strings.Join(slices.Collect(maps.Values(namespaces)), ","))
	c := startCompanion(t, repositories("own", repository.URL, "team", "oci://"+registry.Address()+"/team")+"rules:\n- {chart: hook, repository: team}\n", e, impatient...)
	p := startPrometheus(t, e, fmt.Sprintf("  - targets: [%q]\n", c.target()))

	gone := t.TempDir() // what the repository does not have, or not any more
	expect.NoError(t, three.Package(t.Context(), gone, "web", "1.9.0", "9.0.0"))
	versions := func(t *testing.T, h helm, want ...string) {
		t.Helper()
		eventually(t, patience, c.shows(compared(h.namespace, want...), h.namespace))
	}
	t.Run("releases", func(t *testing.T) {
		for version, namespace := range namespaces {
			t.Run("by "+version, func(t *testing.T) {
				t.Parallel()
				h := newHelm(t, version, namespace, "secret")
				h.run(t, "install behind web --version=1.2.3 --repo="+repository.URL)
				versions(t, h, "behind web 1.2.3 2.0.0 major own")
				h.run(t, "install ahead "+gone+"/web-9.0.0.tgz")
				h.run(t, "install dropped "+gone+"/web-1.9.0.tgz")
				h.run(t, "install line "+dir+"/site-settings-2.0.0-rc.1.tgz")
				h.run(t, "install prefixed chart:deprecated")
				h.run(t, "install build "+pushed+"/hook-0.3.0+build.2.tgz --no-hooks")
				h.run(t, "install old oci://"+registry.Address()+"/team/hook --version=0.2.0 --plain-http --no-hooks")
				versions(t, h, "behind web 1.2.3 2.0.0 major own", "ahead web 9.0.0 2.0.0 none own", "dropped web 1.9.0 2.0.0 major own",
					"line site-settings 2.0.0-rc.1 2.0.0-rc.2 patch own", "prefixed deprecated 9.8.7 v9.8.7 none own",
					"build hook 0.3.0+build.2 0.3.0+build.2 none team", "old hook 0.2.0 0.3.0+build.2 minor team")
				h.run(t, "upgrade behind web --version=2.0.0 --repo="+repository.URL)
				h.run(t, "upgrade line "+dir+"/site-settings-1.9.0.tgz")
				h.run(t, "uninstall ahead")
				h.run(t, "uninstall old")
				versions(t, h, "behind web 2.0.0 2.0.0 none own", "dropped web 1.9.0 2.0.0 major own", "line site-settings 1.9.0 1.9.0 none own",
					"prefixed deprecated 9.8.7 v9.8.7 none own", "build hook 0.3.0+build.2 0.3.0+build.2 none team")
			})
		}
	})
	expect.NoError(t, errors.Join(four.Package(t.Context(), dir, "web", "2.0.1"), four.Index(t.Context(), dir)))
	want := make(series)
	for _, namespace := range namespaces {
		for release, labels := range map[string][3]string{
			"behind": {"2.0.0", "2.0.1", "patch"}, "dropped": {"1.9.0", "2.0.1", "major"}, "line": {"1.9.0", "1.9.0", "none"},
			"prefixed": {"9.8.7", "v9.8.7", "none"}, "build": {"0.3.0+build.2", "0.3.0+build.2", "none"},
		} {
			want.add(1, "", map[string]string{
				"namespace": namespace, "name": release, "chart_version": labels[0], "latest_version": labels[1], "level": labels[2],
			})
		}
	}
	eventually(t, patience, answer{series: want}.to(p, "sum by (namespace, name, chart_version, latest_version, level) "+
		"(helm_release_info * on (namespace, name) group_left (latest_version, level, repository) helm_release_chart_latest_info)"))
	eventually(t, patience, answer{series: series{"": 4}}.to(p, "sum(helm_release_chart_outdated)"))
	documented(t, p, true, map[string]string{
		`sum by (cluster, repository, result) (increase(helm_chart_repository_requests_total{result!~"ok|not_modified"}[1d])) > 0`: "all are answered",
		`max by (cluster, namespace, job, exporter) (helm_chart_versions_exporter_up) == 0`:                                        "the exporter is up",
		`min by (cluster, namespace, job) (helm_chart_versions_config_last_reload_successful) == 0`:                                "the config is right",
	}, func(string, series) {})
	expect.NoError(t, c.has(series{`helm_chart_repository_charts{repository="own"}`: 3, `helm_chart_repository_charts{repository="team"}`: 1})())
	expect.NoError(t, c.answers("/", http.StatusOK, "dropped", "1.9.0", "2.0.1", "own", "team")())
}

// TestChartRules changes the config of a running companion.
func TestChartRules(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "rules")
	one, _ := newRepository(t, "web 1.2.4 2.0.0 3.0.0-rc.1", "only 1.0.0")
	two, _ := newRepository(t, "web 1.5.0")
	runs(t, namespace, "app", "web", "1.2.3")
	runs(t, namespace, "other", "web", "1.2.3")
	runs(t, namespace, "here", "only", "1.0.0")
	runs(t, namespace, "nowhere", "unlisted", "1.0.0")
	runs(t, namespace, "odd", "only", "latest")
	both := repositories("one", one.URL, "two", two.URL)
	e := startExporter(t, shared.admin(), "--namespaces="+namespace)
	c := startCompanion(t, both, e, "--exporter.interval=1s")
	others := []string{"here only 1.0.0 1.0.0 none one", "nowhere unlisted no_repository", "odd only not_semver"}
	shows := func(app string) {
		t.Helper()
		eventually(t, patience, c.shows(compared(namespace, append([]string{"app " + app, "other " + app}, others...)...), namespace))
	}
	shows("web ambiguous")
	runs(t, namespace, "late", "only", "1.0.0") // its release shows that there has been another scrape
	others = append(others, "late only 1.0.0 1.0.0 none one")
	shows("web ambiguous")
	expect.NoError(t, c.says("web", "one", "two", "repository: one")())
	if n := strings.Count(c.Output(), "repository: one"); n != 1 {
		t.Errorf("the log names the rule %d times, want once", n)
	}
	for rule, want := range map[string]string{
		"{chart: web, repository: one}":                                              "web 1.2.3 2.0.0 major one",
		"{chart: w*b, namespace: rules-*, repository: two}":                          "web 1.2.3 1.5.0 minor two",
		"{chart: web, repository: one, constraint: ~1.2}":                            "web 1.2.3 1.2.4 patch one",
		"{chart: web, repository: one, prerelease: true}":                            "web 1.2.3 3.0.0-rc.1 major one",
		"{chart: web, desiredVersion: 1.2.3}":                                        "web 1.2.3 1.2.3 none",
		"{chart: we, ignore: true}\n- {chart: web, repository: one, constraint: >5}": "web not_found",
	} {
		c.configure(t, both+"rules:\n- "+strings.Replace(rule, ">5", `">5"`, 1)+"\n")
		c.Signal(syscall.SIGHUP)
		shows(want)
	}
	c.configure(t, both+"rules:\n- {namespace: rules-*, chart: web, ignore: true}\n")
	c.Signal(syscall.SIGHUP)
	eventually(t, patience, c.shows(compared(namespace, others...), namespace))

	t.Log("with a wrong config the old one stays, until the file is right again")
	const successful = "helm_chart_versions_config_last_reload_successful"
	reloaded := c.value(t, "helm_chart_versions_config_last_reload_success_timestamp_seconds")
	c.configure(t, both+"rules:\n- {chart: web, repositry: one}\n")
	c.Signal(syscall.SIGHUP)
	eventually(t, patience, c.has(series{successful: 0}))
	expect.NoError(t, c.says("level=ERROR", "line 5", "repositry")())
	expect.NoError(t, c.has(series{"helm_chart_versions_config_last_reload_success_timestamp_seconds": reloaded})())
	expect.NoError(t, c.shows(compared(namespace, others...), namespace)())
	expect.NoError(t, c.answers("/", http.StatusOK, "repositry")())
	c.configure(t, both+"rules:\n- {chart: web, repository: one}\n") // It finds out by itself.
	eventually(t, patience, c.has(series{successful: 1}))
	shows("web 1.2.3 2.0.0 major one")

	t.Log("the same file goes away and comes back")
	text := expect.Value(os.ReadFile(c.config))(t)
	expect.NoError(t, os.Remove(c.config))
	c.Signal(syscall.SIGHUP)
	eventually(t, patience, c.has(series{successful: 0}))
	c.configure(t, string(text))
	c.Signal(syscall.SIGHUP)
	eventually(t, patience, c.has(series{successful: 1}))
	shows("web 1.2.3 2.0.0 major one")
	for name, s := range map[string]*charts.Server{"one": one, "two": two} {
		if n := s.Answers(0); n != 1 {
			t.Errorf("repository %s got %d requests within one interval, want 1", name, n)
		}
	}
}

// TestChartRepositoryRequests counts what many releases and scrapes cost a repository.
func TestChartRepositoryRequests(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "requests")
	daily, _ := newRepository(t, "web 2.0.0", "new 1.0.0")
	often, dir := newRepository(t, "web 2.0.0", "new 1.0.0")
	var want []string
	for i := range 30 {
		runs(t, namespace, fmt.Sprintf("app-%d", i), "web", fmt.Sprintf("1.%d.0", i))
		want = append(want, fmt.Sprintf("app-%d web 1.%d.0 2.0.0 major own", i, i))
	}
	e := startExporter(t, shared.admin(), "--namespaces="+namespace)
	once := startCompanion(t, repositories("own", daily.URL), e, "--exporter.interval=1s")
	limited, _ := newRepository(t)
	limited.Break(charts.Status(http.StatusTooManyRequests, "Retry-After", "600"))
	again := startCompanion(t, repositories("own", often.URL, "limited", limited.URL)+"rules: [{repository: own}]\n", e, impatient...)
	eventually(t, patience, once.shows(compared(namespace, want...), namespace))
	runs(t, namespace, "late", "new", "1.0.0")
	want = append(want, "late new 1.0.0 1.0.0 none own")
	for _, c := range []companion{once, again} {
		eventually(t, patience, c.shows(compared(namespace, want...), namespace))
	}
	expect.NoError(t, once.has(series{results("own", "ok"): 1, results("own", "not_modified"): 0, results("own", "error"): 0})())
	if n := daily.Answers(0); n != 1 {
		t.Errorf("the repository got %d requests within one interval, want 1", n)
	}
	eventually(t, patience, again.counted(results("own", "not_modified")))
	before := again.value(t, `helm_chart_repository_last_success_timestamp_seconds{repository="own"}`)
	eventually(t, patience, func() error {
		if now := again.value(t, `helm_chart_repository_last_success_timestamp_seconds{repository="own"}`); now <= before {
			return errors.New("nothing has been confirmed")
		}
		return nil
	})
	if n := limited.Answers(0); n != 1 {
		t.Errorf("the repository that asked for ten minutes got %d requests", n)
	}
	if n := often.Answers(http.StatusOK); n != 1 {
		t.Errorf("the index was sent %d times, want once", n)
	}
	writeIndex(t, dir, "web 1.29.0", "new 1.0.0 1.0.1")
	eventually(t, patience, again.has(compared(namespace, "late new 1.0.0 1.0.1 patch own", "app-29 web 1.29.0 1.29.0 none own", "app-28 web 1.28.0 1.29.0 minor own")))
	expect.NoError(t, again.has(series{results("own", "ok"): 2})())
}

// TestExportersAway cuts off the exporter of a cluster, while those of another one answer.
func TestExportersAway(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "away")
	repository, _ := newRepository(t, "web 2.0.0")
	runs(t, namespace, "app", "web", "1.0.0")
	e := startExporter(t, shared.admin(), "--namespaces="+namespace)
	replica := startExporter(t, shared.admin(), "--namespaces="+namespace)
	e.awaitReady(t)
	replica.awaitReady(t)
	cut := expect.Value(relay.New(e.target()))(t)
	t.Cleanup(cut.Off)
	url := "--exporter.url=cluster=%s,http://%s/metrics"
	c := startCompanion(t, repositories("own", repository.URL), nil, "--exporter.interval=2s",
		fmt.Sprintf(url, "north", e.target()), fmt.Sprintf(url, "north", replica.target()), fmt.Sprintf(url, "south", cut.Address()))
	north, south := make(series), make(series)
	for cluster, want := range map[string]series{"north": north, "south": south} {
		want.add(1, "helm_release_chart_outdated", map[string]string{"cluster": cluster, "namespace": namespace, "name": "app"})
		want.add(1, "helm_release_chart_latest_info", map[string]string{
			"cluster": cluster, "namespace": namespace, "name": "app", "chart": "web", "chart_version": "1.0.0",
			"latest_version": "2.0.0", "level": "major", "repository": "own",
		})
	}
	both := maps.Clone(north)
	maps.Copy(both, south)
	up := func(address string) string {
		return seriesName("helm_chart_versions_exporter_up", map[string]string{"exporter": address})
	}
	c.awaitReady(t) // An exporter that was never there does not hold up the others.
	eventually(t, patience, c.shows(north, namespace))
	expect.NoError(t, c.has(series{up(e.target()): 1, up(replica.target()): 1, up(cut.Address()): 0})())
	expect.NoError(t, cut.On())
	eventually(t, patience, c.shows(both, namespace))
	expect.NoError(t, c.has(series{up(e.target()): 1, up(cut.Address()): 1})())
	cut.Off()
	eventually(t, patience, c.has(series{up(cut.Address()): 0}))
	expect.NoError(t, c.shows(both, namespace)())
	expect.NoError(t, c.answers("/", http.StatusOK, "north", "south", "Releases may be out of date")())
	eventually(t, patience, c.shows(north, namespace))
	expect.NoError(t, cut.On())
	eventually(t, patience, c.shows(both, namespace))
	if n := repository.Answers(0); n != 1 {
		t.Errorf("the repository got %d requests, want 1", n)
	}
}

// TestCompanionOfAGuardedExporter scrapes with TLS and a token.
func TestCompanionOfAGuardedExporter(t *testing.T) {
	t.Parallel()
	certPEM, keyPEM := selfSigned(t)
	ca := writeFile(t, "tls.crt", certPEM)
	web := writeFile(t, "web.yml", fmt.Sprintf("tls_server_config: {cert_file: %q, key_file: %q}\n", ca, writeFile(t, "tls.key", keyPEM)))
	g := startGuarded(t, serverRelay{}, "--web.config.file="+web)
	repository, _ := newRepository(t, "valid 1.0.1")
	metrics, token := strings.Replace(g.metrics, "http:", "https:", 1)+"/metrics", writeFile(t, "token", tokenOf(t, g.stranger))
	flags := []string{"--exporter.ca-file=" + ca, "--exporter.bearer-token-file=" + token, "--exporter.interval=1s"}
	all := startCompanion(t, repositories("own", repository.URL), nil, append(flags, "--exporter.url="+metrics)...)
	tenant := startCompanion(t, repositories("own", repository.URL), nil,
		"--exporter.ca-file="+ca, "--exporter.bearer-token-file="+writeFile(t, "token", tokenOf(t, g.tenant)), "--exporter.url="+metrics+"?namespace="+g.one)
	up := seriesName("helm_chart_versions_exporter_up", map[string]string{"exporter": strings.TrimPrefix(g.metrics, "http://")})
	all.awaitReady(t)
	expect.NoError(t, all.has(series{up: 0})())
	expect.NoError(t, all.says("level=WARN", "403")())
	secret := tokenOf(t, g.platform)
	expect.NoError(t, os.WriteFile(token, []byte(secret), 0o600)) // as kubelets rotate tokens
	want := compared(g.one, "app valid 1.0.0 1.0.1 patch own")
	for _, c := range []companion{all, tenant} {
		eventually(t, patience, c.shows(want, g.one))
	}
	expect.NoError(t, all.has(series{up: 1})())
	expect.NoError(t, all.shows(compared(g.two, "app valid 1.0.0 1.0.1 patch own"), g.two)())
	expect.NoError(t, tenant.shows(series{}, g.two)())
	if strings.Contains(all.Output(), secret) {
		t.Error("the log contains the token")
	}
}

// runOnce runs the companion with --once and returns what it writes.
func runOnce(t *testing.T, config string, flags ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), process.Path("helm-chart-versions"), append([]string{"--once", "--config=" + config}, flags...)...)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestChartVersionsOnce prints the table and the JSON.
func TestChartVersionsOnce(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "once")
	repository, dir := newRepository(t, "web 1.2.3 2.0.0", "ops 1.3.0", "same 1.0.0")
	runs(t, namespace, "app", "web", "1.2.3")
	runs(t, namespace, "tool", "ops", "1.2.3")
	runs(t, namespace, "new", "same", "1.0.0")
	runs(t, namespace, "nowhere", "unlisted", "1.0.0")
	e := startExporter(t, shared.admin(), "--namespaces="+namespace)
	e.awaitReady(t)
	url := "--exporter.url=" + e.metrics + "/metrics"
	config := writeFile(t, "repositories.yaml", repositories("own", repository.URL, "disk", "file://"+t.TempDir()))
	alone := writeFile(t, "repositories.yaml", "apiVersion: \"\"\ngenerated: \"2026-01-02T03:04:05Z\"\n"+repositories("disk", "file://"+dir+"/index.yaml"))

	stdout, stderr, status := runOnce(t, alone, url)
	var got [][]string
	for _, line := range lines(stdout) {
		fields := strings.Fields(line)
		got = append(got, fields[:min(len(fields), 5)])
	}
	expect.Equal(t, "the table differs", [][]string{
		{"RELEASE", "CHART", "RUNNING", "LATEST", "LEVEL"},
		{namespace + "/app", "web", "1.2.3", "2.0.0", "major"},
		{namespace + "/tool", "ops", "1.2.3", "1.3.0", "minor"},
		{namespace + "/nowhere", "unlisted", "1.0.0", "-", "no_repository"},
		{namespace + "/new", "same", "1.0.0", "1.0.0", "none"},
	}, got)
	if status != 0 || stderr != "" {
		t.Errorf("the exit status is %d, and stderr %q", status, stderr)
	}
	stdout, stderr, status = runOnce(t, alone, strings.Replace(url, "=", "=cluster=north,", 1), "--output=json")
	var answer struct{ Releases []map[string]string }
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil || status != 0 || len(answer.Releases) != 4 || stderr != "" {
		t.Fatalf("%v, exit status %d, %d releases, and stderr %q", err, status, len(answer.Releases), stderr)
	}
	expect.Equal(t, "the first release differs", map[string]string{
		"cluster": "north", "namespace": namespace, "name": "app", "chart": "web", "running": "1.2.3", "latest": "2.0.0", "level": "major", "repository": "disk",
	}, answer.Releases[0])
	expect.Equal(t, "the third release differs", "no_repository", answer.Releases[2]["reason"])

	// A repository that fails is a warning.
	stdout, stderr, status = runOnce(t, config, url)
	if status != 0 || !strings.Contains(stdout, "repository_failed") || !strings.Contains(stderr, "disk") {
		t.Errorf("without a repository the exit status is %d, with\n%s%s", status, stdout, stderr)
	}
	stdout, stderr, status = runOnce(t, alone, "--exporter.url=http://"+expect.Value(process.FreeAddress())(t)+"/metrics")
	if status != 1 || stdout != "" || !strings.Contains(stderr, "refused") {
		t.Errorf("without an exporter the exit status is %d, with\n%s%s", status, stdout, stderr)
	}
}

// TestWrongUseOfChartVersions expects one line on stderr that names the mistake, and in a file its line.
func TestWrongUseOfChartVersions(t *testing.T) {
	t.Parallel()
	const one = "repositories:\n- {name: one, url: 'https://charts.example.com'}\n"
	for name, test := range map[string]struct {
		config string
		flags  []string
		names  []string
	}{
		"an unknown key":            {config: one + "- name: two\n  uri: https://charts.example.com\n", names: []string{"line 4", "uri"}},
		"an unknown key at the top": {config: one + "repos: []\n", names: []string{"line 3", "repos"}},
		"a bad glob":                {config: one + "rules:\n- {chart: web}\n- {chart: 'a[', repository: one}\n", names: []string{"line 5", "a["}},
		"a bad constraint":          {config: one + "rules:\n- {chart: web, repository: one, constraint: newest}\n", names: []string{"line 4", "newest"}},
		"a bad version":             {config: one + "rules:\n- {chart: web, desiredVersion: latest}\n", names: []string{"line 4", "latest"}},
		"two of one name":           {config: one + "- {name: one, url: 'https://other.example.com'}\n", names: []string{"line 3", "one"}},
		"a repository not there":    {config: one + "rules:\n- {chart: web, repository: other}\n", names: []string{"line 4", "other"}},
		"an unknown scheme":         {config: "repositories:\n- {name: one, url: 's3://charts'}\n", names: []string{"line 2", "s3"}},
		"no YAML":                   {config: "repositories: [", names: []string{"line 1"}},
		"no config":                 {names: []string{"/nowhere/repositories.yaml"}},
		"an exporter without host":  {config: one, flags: []string{"--exporter.url=helm-state-metrics"}, names: []string{"--exporter.url", "http://"}},
		"an unknown output":         {config: one, flags: []string{"--output=xml"}, names: []string{"--output", "xml"}},
		"an interval of nothing":    {config: one, flags: []string{"--interval=0s"}, names: []string{"--interval=0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := append([]string{"--exporter.url=http://127.0.0.1:1/metrics"}, test.flags...)
			config := "/nowhere/repositories.yaml"
			if test.config != "" {
				config = writeFile(t, "repositories.yaml", test.config)
			}
			stdout, stderr, status := runOnce(t, config, flags...)
			if status != 1 || stdout != "" || len(lines(stderr)) != 1 {
				t.Errorf("the exit status is %d, with\n%s%s", status, stdout, stderr)
			}
			for _, part := range test.names {
				if !strings.Contains(stderr, part) {
					t.Errorf("it does not name %q: %s", part, stderr)
				}
			}
		})
	}
}
