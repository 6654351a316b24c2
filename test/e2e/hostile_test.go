package e2e_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/hostile"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// attack is a record by somebody who wants to hurt others, with valid metadata.
type attack struct {
	document string            // the payload, without gzip and base64
	chart    *payload.Metadata // that is exposed, nil if the payload cannot be decoded
	updated  int64             // 0 if it is not exposed
	reason   string            // why it cannot be decoded
}

// attacks returns documents that TestBadPayloads does not have. One of them names the namespace of a victim.
func attacks(victim string) map[string]attack {
	const (
		info  = `"info":{"last_deployed":"2026-01-02T03:04:05Z"}`
		valid = `"chart":{"metadata":{"name":"valid","version":"1.0.0","appVersion":"2"}}`
	)
	chart := &payload.Metadata{Name: "valid", Version: "1.0.0", AppVersion: "2"}
	missing := &payload.Metadata{Name: "MISSING", Version: "MISSING", AppVersion: "MISSING"}
	const updated = 1767323045
	all := map[string]attack{
		"of the neighbor":              {`{"name":"neighbor","namespace":"` + victim + `",` + info + `,` + valid + `,"version":9}`, chart, updated, ""},
		"numbers beyond all types":     {`{"version":` + strings.Repeat("9", 400) + `,"a":-1e999999,` + info + `,` + valid + `}`, chart, updated, ""},
		"a time before all time":       {`{"info":{"last_deployed":"0001-01-01T00:00:00Z"},` + valid + `}`, chart, 0, ""},
		"a time after all time":        {`{"info":{"last_deployed":"9999-12-31T23:59:59+00:00"},` + valid + `}`, chart, 253402300799, ""},
		"a year of five digits":        {`{"info":{"last_deployed":"10000-01-01T00:00:00Z"},` + valid + `}`, nil, 0, "json"},
		"surrogates without a partner": {`{` + info + `,"chart":{"metadata":{"name":"\ud800","version":"\udc00\ud800","appVersion":"\ud83d\ude80"}}}`, &payload.Metadata{Name: "\ufffd", Version: "\ufffd\ufffd", AppVersion: "\U0001f680"}, updated, ""},
		"a chart of another type":      {`{` + info + `,"chart":["` + marker + `"]}`, nil, 0, "json"},
		"a version of another type":    {`{` + info + `,"chart":{"metadata":{"version":{"a":1}}}}`, nil, 0, "json"},
		"deprecated in words":          {`{` + info + `,"chart":{"metadata":{"deprecated":"yes"}}}`, nil, 0, "json"},
		"metadata of nothing":          {`{` + info + `,"chart":{"metadata":{}}}`, missing, updated, ""},
		"two charts":                   {`{` + valid + `,` + valid + `,` + info + `}`, nil, 0, "json"},
		"a chart in upper case":        {`{"Chart":{"metadata":{"name":"` + marker + `"}},` + info + `,` + valid + `}`, nil, 0, "json"},
		"a version in both cases":      {`{` + info + `,"chart":{"metadata":{"version":"1","VERSION":"2"}}}`, nil, 0, "json"},
		"the head behind 11,000 names": {`{"` + strings.Repeat(`a":0,"`, 11_000) + `":0,` + info + `,` + valid + `}`, chart, updated, ""},
		"a version that is too long":   {`{` + info + `,"chart":{"metadata":{"version":"` + strings.Repeat(marker, 100) + `"}}}`, nil, 0, "limit"},
		"nested too deep":              {`{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `,` + info + `,` + valid + `}`, nil, 0, "limit"},
	}
	for name, text := range hostile.Texts() {
		s, plain := hostile.JSON(text), hostile.Plain(text)
		all["texts "+name] = attack{
			fmt.Sprintf(`{"info":{"last_deployed":"2026-01-02T03:04:05Z","description":%s,"notes":%q},"chart":{"metadata":{"name":%s,"version":%s,"appVersion":%s}}}`, s, marker, s, s, s),
			&payload.Metadata{Name: plain, Version: plain, AppVersion: plain}, updated, "",
		}
	}
	return all
}

// TestHostileRecords lets one tenant write records that are made to hurt, while an exporter shows them and the release of
// another tenant. Each is exposed for what it is, with these very texts, and nothing else changes.
func TestHostileRecords(t *testing.T) {
	t.Parallel()
	victim, attacker := newNamespace(t, "victim"), newNamespace(t, "attacker")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+victim+","+attacker, "--release-labels=team", "--log.level=debug")
	neighbor := shown(write(t, victim, cluster.Secret("neighbor", 1, "deployed", validPayload())), "valid")
	eventually(t, patience, e.shows(neighbor, victim))
	want := maps.Clone(neighbor)
	shows := e.compares(want, isAbout(victim, attacker), nil)
	all := attacks(victim)
	var texts []string // releases whose chart is called by a hostile text
	for i, name := range slices.Sorted(maps.Keys(all)) {
		test, release := all[name], fmt.Sprintf("r%02d", i)
		add(want, test, write(t, attacker, cluster.Secret(release, 1, "deployed", stored(test.document))))
		t.Run(name, func(t *testing.T) { eventually(t, patience, shows) })
		if strings.HasPrefix(name, "texts ") {
			texts = append(texts, release)
		}
	}
	writeOdd(t, attacker, want)
	eventually(t, patience, shows)

	e.alive(t)
	if rss := e.value(t, "process_resident_memory_bytes"); rss > largestRSS {
		t.Errorf("the exporter holds %.0f MB", rss/(1<<20))
	}
	e.keepsSecrets(t, victim, "neighbor")
	_, body, err := e.get("/metrics")
	expect.NoError(t, err)
	lint(t, body)
	p := startPrometheus(t, e, "")
	eventually(t, patience, answer{series: want}.to(p, `{__name__=~"helm_release_.+"}`))
	eventually(t, patience, answer{series: series{"up": 1}}.to(p, "up"))
	t.Run("in a browser", func(t *testing.T) { harmless(t, e, attacker, len(all), texts) })
}

// add adds what is to be exposed of a record.
func add(want series, a attack, written *corev1.Secret) {
	x := describe(written, 1)
	x.chart, x.updated = a.chart, a.updated
	view{labels: map[string]string{"team": "label_team"}}.add(want, x)
	if a.updated == 0 {
		delete(want, seriesName("helm_release_updated", map[string]string{"namespace": written.Namespace, "name": x.name}))
	}
	if a.reason != "" {
		maps.Copy(want, undecodable(written.Namespace, x.name, a.reason))
	}
}

// writeOdd writes records whose labels are made to hurt, as far as an API server takes them.
func writeOdd(t *testing.T, namespace string, want series) {
	valid := attack{chart: &payload.Metadata{Name: "valid", Version: "1.0.0", AppVersion: "2"}, updated: 1767323045}
	odd := func(object string, labels map[string]string) *corev1.Secret {
		s := cluster.Secret("odd", 1, "deployed", validPayload())
		s.Name = object
		maps.Copy(s.Labels, labels)
		return s
	}
	long := strings.Repeat("a.B_c-9", 9)
	add(want, valid, write(t, namespace, odd("by-hand", map[string]string{"name": long, "version": "1000000000000000000", "team": long})))
	add(want, valid, write(t, namespace, odd("sh.helm.release.v1.neighbor.v9", map[string]string{"name": "largest", "version": "9223372036854775807"})))
	// Two records of one release with the same number: there is one release, of two revisions.
	twins := []*corev1.Secret{odd("twin-a", map[string]string{"name": "twins"}), odd("twin-b", map[string]string{"name": "twins"})}
	for i, s := range twins {
		twins[i] = write(t, namespace, s)
	}
	add(want, valid, slices.MaxFunc(twins, func(a, b *corev1.Secret) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(string(a.UID), string(b.UID)))
	}))
	want.add(2, "helm_release_stored_revisions", map[string]string{"name": "twins", "namespace": namespace})
	// Neither label nor object has a number that Helm could have written.
	for i, version := range []string{"0", "9223372036854775808", "1e3", "0x10", "", "1.5"} {
		write(t, namespace, odd(fmt.Sprintf("sh.helm.release.v1.none.v%d.v-1", i), map[string]string{"name": "none", "version": version}))
	}
}

// TestBombsDelayNobody lets one tenant write records that take as long to decode as any can, before another one writes a
// release. That one is complete within five seconds.
func TestBombsDelayNobody(t *testing.T) {
	t.Parallel()
	victim, attacker := newNamespace(t, "victim"), newNamespace(t, "attacker")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+victim+","+attacker)
	e.awaitReady(t)
	const bombs = 24
	documents := []string{`{"":0` + strings.Repeat(`,"":0`, 4<<20), `{"info":{"description":"` + strings.Repeat("a", 20<<20)} // the slowest, the largest
	for i := range bombs {
		zipped := payload.Gzip([]byte(documents[i%2]))
		bomb := payload.Base64(append(zipped, make([]byte, 768<<10-len(zipped))...)) // the largest that is stored
		write(t, attacker, cluster.Secret(fmt.Sprint("bomb-", i), 1, "deployed", bomb))
	}
	want := shown(write(t, victim, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	start := time.Now()
	eventually(t, 5*time.Second, e.shows(want, victim))
	took := time.Since(start)
	const decoded = `helm_state_metrics_decode_errors_total{reason="limit"}`
	if e.value(t, decoded) >= bombs {
		t.Error("all bombs were decoded before: nothing had to wait")
	}
	eventually(t, patience, func() error {
		all, err := e.scrape()
		if err == nil && all[decoded] < 4 {
			err = fmt.Errorf("%v bombs were decoded", all[decoded])
		}
		return err
	})
	var most int64 // KiB
	_, peak, _ := strings.Cut(string(expect.Value(os.ReadFile(fmt.Sprintf("/proc/%d/status", e.PID())))(t)), "VmHWM:")
	_ = expect.Value(fmt.Sscan(peak, &most))(t)
	t.Logf("complete after %s; the exporter held up to %d MB", took.Round(time.Millisecond), most>>10)
	if most<<10 > 2*largestRSS {
		t.Error("that is too much")
	}
}

// harmless opens the pages about hostile records. No script runs, nothing is loaded from elsewhere, and all releases are
// in the table.
func harmless(t *testing.T, e *exporter, namespace string, releases int, texts []string) {
	b := startBrowser(t)
	b.open(e.pages + "/?namespace=" + namespace)
	const oddOnes = 3
	b.is(`document.querySelectorAll("tbody tr").length + ""`, fmt.Sprint(releases+oddOnes))
	for _, release := range texts {
		b.open(e.pages + "/releases/" + namespace + "/" + release)
		b.is("document.title", release+" in "+namespace+" · Helm releases")
		b.is(foreign, "0")
	}
	b.silent(e.pages)
}

// foreign counts the elements and attributes that the pages do not have.
const foreign = `document.querySelectorAll("img, iframe, style, main script, main link, [onerror], [onfocus], [onmouseover]").length + ""`
