package e2e_test

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/charts"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

// anchors is YAML of less than a kilobyte that stands for a billion values.
func anchors() string {
	text := "apiVersion: v1\na0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		text += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), ", "))
	}
	return text + "entries: {valid: *a9}\n"
}

// brokenRepository is one that can be broken, and the result that it has then.
type brokenRepository struct {
	*charts.Server
	answer charts.Fault
	result string
}

// TestChartRepositoryFaults breaks repositories before their first answer, after it, and over a restart.
func TestChartRepositoryFaults(t *testing.T) {
	t.Parallel()
	namespace, registry := newNamespace(t, "faults"), charts.NewRegistry(10)
	t.Cleanup(registry.Close)
	pushed, h := t.TempDir(), charts.Helm{Program: "helm3", Home: t.TempDir()}
	expect.NoError(t, errors.Join(h.Package(t.Context(), pushed, "web", "1.1.0"), h.Push(t.Context(), pushed, "oci://"+registry.Address()+"/team")))
	config, rules := repositories("team", "oci://"+registry.Address()+"/team"), "rules:\n- {chart: web, repository: team}\n"
	runs(t, namespace, "team", "web", "1.0.0")
	faults := map[string]brokenRepository{
		"no-password":       {nil, charts.Status(http.StatusUnauthorized), "unauthorized"},
		"no-right":          {nil, charts.Status(http.StatusForbidden), "forbidden"},
		"nothing-there":     {nil, charts.Status(http.StatusNotFound), "not_found"},
		"too-many-requests": {nil, charts.Status(http.StatusTooManyRequests, "Retry-After", "1"), "rate_limited"},
		"an-error":          {nil, charts.Status(http.StatusInternalServerError), "error"},
		"half-an-answer":    {nil, charts.Half, "error"},
		"a-broken-index":    {nil, charts.Text("apiVersion: v1\nentries: {valid: [{name"), "invalid"},
		"a-page":            {nil, charts.Text("<!doctype html><title>Sign in</title>"), "invalid"},
		"no-end":            {nil, charts.Spaces("apiVersion: v1\nentries: {}\n", 300<<20), "too_large"},
		"anchors":           {nil, charts.Text(anchors()), "invalid"},
		"redirects":         {nil, charts.Redirect(""), "error"}, // in a circle
	}
	for name, f := range faults {
		f.Server, _ = newRepository(t, name+" 1.1.0")
		faults[name] = f
		config += strings.TrimPrefix(repositories(name, f.URL), repositories())
		rules += fmt.Sprintf("- {chart: %s, repository: %s}\n", name, name)
		runs(t, namespace, name, name, "1.0.0")
	}
	faults["team"] = brokenRepository{registry.Server, charts.Text(`{"tags": "none"}`), "invalid"}
	none, known := compared(namespace), compared(namespace)
	for name := range faults {
		chart := strings.Replace(name, "team", "web", 1)
		maps.Copy(none, compared(namespace, name+" "+chart+" repository_failed"))
		maps.Copy(known, compared(namespace, name+" "+chart+" 1.0.0 1.1.0 minor "+name))
	}
	inject := func(on bool) {
		for _, f := range faults {
			f.Break(nil)
			if on {
				f.Break(f.answer)
			}
		}
	}
	// grow waits until every repository has failed, or succeeded, once more.
	grow := func(c companion, failures bool) {
		t.Helper()
		before := expect.Value(c.scrape())(t)
		sum := func(all series, name string) float64 {
			if failures {
				return all[results(name, faults[name].result)]
			}
			return all[results(name, "ok")] + all[results(name, "not_modified")]
		}
		eventually(t, 2*patience, func() error {
			now, err := c.scrape()
			for name := range faults {
				if err == nil && sum(now, name) == sum(before, name) {
					err = fmt.Errorf("%s has not answered as expected again", name)
				}
			}
			return err
		})
	}
	last := func(name string) string {
		return seriesName("helm_chart_repository_last_success_timestamp_seconds", map[string]string{"repository": name})
	}
	e := startExporter(t, shared.admin(), "--namespaces="+namespace)
	state := filepath.Join(t.TempDir(), "state")
	flags := append([]string{"--state.file=" + state}, impatient...)

	inject(true)
	c := startCompanion(t, config+rules, e, flags...)
	eventually(t, 2*patience, c.shows(none, namespace))
	for name, f := range faults {
		expect.NoError(t, c.counted(results(name, f.result))())
		expect.NoError(t, c.says("level=WARN", "repository="+name, "result="+f.result)())
		if at, ok := expect.Value(c.scrape())(t)[last(name)]; ok {
			t.Errorf("%s has answered at %v", name, at)
		}
	}
	inject(false)
	eventually(t, patience, c.shows(known, namespace))
	inject(true)
	grow(c, true)
	expect.NoError(t, c.shows(known, namespace)())
	if rss := c.value(t, "process_resident_memory_bytes"); rss > 200e6 {
		t.Errorf("it takes %v bytes of memory", rss)
	}
	before := expect.Value(c.scrape())(t)
	c.stop(t)
	if info := expect.Value(os.Stat(state))(t); info.Mode() != 0o600 {
		t.Errorf("the state file has the mode %s", info.Mode())
	}

	c = startCompanion(t, config+rules, e, flags...)
	eventually(t, patience, c.shows(known, namespace))
	grow(c, true)
	expect.NoError(t, c.shows(known, namespace)())
	for name := range faults {
		if now := c.value(t, last(name)); now < before[last(name)] || now > before[last(name)]+0.01 {
			t.Errorf("after a restart the last answer of %s is of %v, and before it was of %v", name, now, before[last(name)])
		}
	}
	inject(false)
	grow(c, false)
	expect.NoError(t, c.shows(known, namespace)())
}

// TestSlowChartRepository waits for a repository that accepts requests and does not answer.
func TestSlowChartRepository(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "slow")
	runs(t, namespace, "app", "valid", "1.0.0")
	e := startExporter(t, shared.admin(), "--namespaces="+namespace)
	repository, _ := newRepository(t, "valid 1.1.0")
	moved, _ := newRepository(t)
	moved.Break(charts.Redirect(repository.URL))
	answer := make(chan struct{})
	repository.Break(charts.Slow(answer))
	config := repositories("own", moved.URL)
	for _, path := range []string{"/readyz", "/metrics"} {
		c := startCompanion(t, config, e)
		eventually(t, patience, c.answers(path, http.StatusServiceUnavailable, "repository own"))
		expect.NoError(t, c.answers("/", http.StatusOK, "repository own")())
		began := time.Now()
		if c.stop(t); time.Since(began) > 5*time.Second {
			t.Errorf("it took %s to end", time.Since(began))
		}
	}
	c := startCompanion(t, config, e)
	close(answer)
	c.awaitReady(t)
	eventually(t, patience, c.shows(compared(namespace, "app valid 1.0.0 1.1.0 minor own"), namespace))
}

// TestChartPasswords asks a repository and a registry that want a password, from the config or from Docker's.
func TestChartPasswords(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "passwords")
	runs(t, namespace, "app", "web", "1.0.0")
	e := startExporter(t, shared.admin(), "--namespaces="+namespace)
	pushed, h := t.TempDir(), charts.Helm{Program: "helm4", Home: t.TempDir()}
	expect.NoError(t, h.Package(t.Context(), pushed, "web", "1.0.0", "1.1.0", "1.2.0", "10.0.0", "9.0.0", "2.0.0"))
	const password = "correct horse"
	start := func(t *testing.T, tokens bool) *charts.Registry {
		t.Helper()
		r := charts.NewRegistry(4)
		t.Cleanup(r.Close)
		expect.NoError(t, h.Push(t.Context(), pushed, "oci://"+r.Address()+"/team"))
		r.Require("bot", password)
		r.Tokens.Store(tokens)
		return r
	}
	docker := func(t *testing.T, host string) string {
		t.Helper()
		return writeFile(t, "config.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("bot:"+password))))
	}
	passwordFile := writeFile(t, "password", password+"\n")
	of := func(url, more string) string {
		return fmt.Sprintf("repositories:\n- {name: own, url: %q%s}\nrules:\n- {chart: web, repository: own}\n", url, more)
	}
	const known, failed = "app web 1.0.0 10.0.0 major own", "app web repository_failed"
	for name, test := range map[string]struct {
		start  func(*testing.T) companion
		want   string
		result string
	}{
		"of a server": {func(t *testing.T) companion {
			s, _ := newRepository(t, "web 10.0.0")
			s.Require("bot", password)
			return startCompanion(t, of(s.URL, fmt.Sprintf(", username: bot, passwordFile: %q", passwordFile)), e)
		}, known, "ok"},
		"of a server, and a wrong one": {func(t *testing.T) companion {
			s, _ := newRepository(t, "web 10.0.0")
			s.Require("bot", "another")
			return startCompanion(t, of(s.URL, fmt.Sprintf(", username: bot, password: %q", password)), e)
		}, failed, "unauthorized"},
		"of a registry, in the config": {func(t *testing.T) companion {
			return startCompanion(t, of("oci://"+start(t, false).Address()+"/team", fmt.Sprintf(", username: bot, passwordFile: %q", passwordFile)), e)
		}, known, "ok"},
		"of a registry with tokens, in the config": {func(t *testing.T) companion {
			return startCompanion(t, of("oci://"+start(t, true).Address()+"/team", fmt.Sprintf(", username: bot, password: %q", password)), e)
		}, known, "ok"},
		"of a registry, in Docker's config": {func(t *testing.T) companion {
			r := start(t, false)
			return startCompanion(t, of("oci://"+r.Address()+"/team", ""), e, "--registry.config="+docker(t, r.Address()))
		}, known, "ok"},
		"of a registry with tokens, where Docker has its config": {func(t *testing.T) companion {
			r := start(t, true)
			config := writeFile(t, "repositories.yaml", of("oci://"+r.Address()+"/team", ""))
			return runCompanion(t, config, []string{"DOCKER_CONFIG=" + filepath.Dir(docker(t, r.Address()))}, "--exporter.url="+e.metrics+"/metrics")
		}, known, "ok"},
		"of a registry, and none is given": {func(t *testing.T) companion {
			return startCompanion(t, of("oci://"+start(t, true).Address()+"/team", ""), e)
		}, failed, "unauthorized"},
		"of a registry that does not list what it lets pull": {func(t *testing.T) companion {
			r := start(t, true)
			r.RefuseTags.Store(true)
			return startCompanion(t, of("oci://"+r.Address()+"/team", fmt.Sprintf(", username: bot, password: %q", password)), e)
		}, failed, "forbidden"},
		"of a registry without the chart": {func(t *testing.T) companion {
			return startCompanion(t, of("oci://"+start(t, true).Address()+"/others", fmt.Sprintf(", username: bot, password: %q", password)), e)
		}, "app web not_found", "not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := test.start(t)
			eventually(t, patience, c.shows(compared(namespace, test.want), namespace))
			want := make(series)
			for _, result := range strings.Fields("ok not_modified unauthorized forbidden not_found rate_limited too_large invalid error") {
				want[results("own", result)] = 0
			}
			want[results("own", test.result)] = 1
			expect.NoError(t, c.has(want)())
			_, page, err := c.get("/")
			expect.NoError(t, err)
			if strings.Contains(c.Output()+page, password) {
				t.Error("the log or the page contains the password")
			}
		})
	}
}

// hostileNames are names that records and indexes may have.
var hostileNames = []string{
	`<script>document.title = "injected"</script>`, `"><img src=x onerror="document.title = 'injected'">`, `quotes " ' \ {x="y"} 1`,
	"two\nlines 1\nhelm_release_chart_outdated 1", "\u202eright to left", strings.Repeat("long", 60), "{{ .Name }}", "not \xff UTF-8",
}

// TestHostileChartRepository serves names that try to break the exposition and the page.
func TestHostileChartRepository(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "hostile")
	index := "apiVersion: v1\nentries:\n"
	for i, name := range hostileNames {
		runs(t, namespace, fmt.Sprintf("app-%d", i), name, "1.0.0")
		runs(t, namespace, fmt.Sprintf("odd-%d", i), "web", name)
		runs(t, namespace, fmt.Sprintf("nowhere-%d", i), name+"?", "1.0.0")
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(name)
		index += fmt.Sprintf("  \"%s\":\n  - {apiVersion: v2, name: \"%s\", version: 2.0.0, urls: [\"%s\"]}\n  - {name: \"%s\", version: \"%s\"}\n", quoted, quoted, quoted, quoted, quoted)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "index.yaml")
	expect.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(index, "\xff", "")), 0o600))
	repository := charts.NewRepository(dir)
	t.Cleanup(repository.Close)
	e := startExporter(t, shared.admin(), "--namespaces="+namespace)
	e.awaitReady(t)
	c := startCompanion(t, repositories("own", repository.URL), e, impatient...)
	check := func(t *testing.T) {
		eventually(t, patience, c.answers("/metrics", http.StatusOK, "app-0", "odd-0", "nowhere-0"))
		_, body, err := c.get("/metrics")
		expect.NoError(t, err)
		expect.Value(parse(body))(t)
		lint(t, body)
		for _, line := range lines(c.Output()) {
			if !regexp.MustCompile(`^time=\S+ level=`).MatchString(line) {
				t.Errorf("a name has broken the log: %q", line)
			}
		}
	}
	check(t)
	eventually(t, patience, c.counted(results("own", "ok")))
	expect.NoError(t, c.has(series{seriesName("helm_release_chart_outdated", map[string]string{"namespace": namespace, "name": "app-0"}): 1})())
	t.Run("in a browser", func(t *testing.T) {
		b := startBrowser(t)
		b.open(c.metrics + "/")
		b.is("document.title", "Chart versions")
		b.is(`document.querySelectorAll("tbody")[0].rows.length + ""`, fmt.Sprint(3*len(hostileNames)))
		b.is(`document.querySelectorAll("table img, table script, table a").length + ""`, "0")
		b.is(`[...document.querySelectorAll("tbody .c-chart")].some(cell => cell.textContent.includes("<script>document")) + ""`, "true")
		b.open(c.metrics + "/?q=" + `%22%3E%3Cimg%20src%3Dx%20onerror%3D%22document.title%3D1%22%3E&level=%3Cscript%3E`)
		b.is(`document.querySelectorAll("main img, main script").length + ""`, "0")
		b.is("document.title", "Chart versions")
		looks(t, b, map[string]string{"versions": c.metrics + "/", "versions-behind": c.metrics + "/?level=major"})
		b.silent(c.metrics)
	})
	// Bytes that are no UTF-8 make the index invalid, and what it said before stays.
	expect.NoError(t, os.WriteFile(file, []byte(index), 0o600))
	eventually(t, patience, func() error {
		all, err := c.scrape()
		if err == nil && all[results("own", "invalid")]+all[results("own", "ok")] < 2 {
			err = errors.New("the new index has not been read")
		}
		return err
	})
	check(t)
	stdout, _, status := runOnce(t, c.config, "--exporter.url="+e.metrics+"/metrics")
	if status != 0 || len(lines(stdout)) != 1+3*len(hostileNames) {
		t.Errorf("the exit status is %d, and the table\n%s", status, stdout)
	}
}

// TestChartVersionsWithTLS serves metrics and the page with a certificate and a password, and probes without.
func TestChartVersionsWithTLS(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "tls")
	runs(t, namespace, "app", "web", "1.0.0")
	repository, _ := newRepository(t, "web 1.0.0")
	certPEM, keyPEM := selfSigned(t)
	web := writeFile(t, "web.yml", fmt.Sprintf("tls_server_config: {cert_file: %q, key_file: %q}\nbasic_auth_users: {prometheus: %s}\n",
		writeFile(t, "tls.crt", certPEM), writeFile(t, "tls.key", keyPEM), passwordHash))
	c := startCompanion(t, repositories("own", repository.URL), startExporter(t, shared.admin(), "--namespaces="+namespace), "--web.config.file="+web)
	for _, page := range []string{"/livez", "/readyz"} {
		eventually(t, patience, c.answers(page, http.StatusOK))
	}
	if status, _, err := c.get("/metrics"); err == nil && status == http.StatusOK {
		t.Error("plain HTTP is served, too")
	}
	c.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	plain := c.metrics
	for password, status := range map[string]int{"wrong": http.StatusUnauthorized, "correct%20horse": http.StatusOK} {
		c.metrics = strings.Replace(plain, "http://", "https://prometheus:"+password+"@", 1)
		c.pages = c.metrics
		for _, path := range []string{"/", "/metrics"} {
			expect.NoError(t, c.answers(path, status)())
		}
	}
	c.metrics, c.pages = strings.Replace(plain, "http://", "https://prometheus:correct%20horse@", 1), ""
	expect.NoError(t, c.shows(compared(namespace, "app web 1.0.0 1.0.0 none own"), namespace)())
}
