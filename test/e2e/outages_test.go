package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

var outages = flag.String("outages", "5s", "for how long TestOutages kills the API server, separated by commas")

const (
	manyNamespaces = 900
	// noticedWithin limits the time until the exporter knows that a connection is dead.
	noticedWithin = 15 * time.Second
	// attemptsPerSecond limits the connection attempts during an outage, whatever the number of watches. attemptsAround
	// limits those at its beginning, before it is known as an outage, and at its end, before the server is ready.
	attemptsPerSecond = 12
	attemptsAround    = 250
)

// TestOutages kills the API server for some time, and measures how long after its return the exposition is right: with
// one watch of all namespaces, and with hundreds of namespaces that are watched one by one. It is not parallel because
// it kills the API server of all tests.
func TestOutages(t *testing.T) {
	w := newWorld(t)
	for range 50 {
		w.operate(t)
	}
	all, each := newRelay(t), newRelay(t)
	all.on(t)
	each.on(t)
	one := startExporter(t, shared.kubeconfig(t, all.access()))
	one.awaitReady(t)
	namespaces := w.namespaces
	for n := len(namespaces); n < manyNamespaces; n++ {
		namespaces = append(namespaces, fmt.Sprintf("not-there-%d", n))
	}
	many := startExporter(t, shared.kubeconfig(t, each.access()), "--namespaces="+strings.Join(namespaces, ","))
	many.awaitReady(t)
	table := fmt.Sprintf("| API server away for | right after, one watch | right after, %d watches | connections that these tried |\n|---|---:|---:|---:|\n", manyNamespaces)
	for text := range strings.SplitSeq(*outages, ",") {
		away := expect.Value(time.ParseDuration(text))(t)
		before := each.Connections()
		began := time.Now()
		down := make(chan error, 2)
		for e, watches := range map[*exporter]int{one: 1, many: manyNamespaces} {
			go func() { down <- e.upBecomes(0, watches, away+healedWithin) }()
		}
		shared.restart(t, away)
		attempts, lasted := each.Connections()-before, time.Since(began)
		for range 2 {
			expect.NoError(t, <-down)
		}
		for range 5 { // They must also see what happens before they are connected again.
			w.operate(t)
		}
		table += fmt.Sprintf("| %s | %s | %s | %d |\n", away, short(w.agrees(t, one, healedWithin)), short(w.agrees(t, many, healedWithin)), attempts)
		if most := int64(lasted.Seconds()+1)*attemptsPerSecond + attemptsAround; attempts > most {
			t.Errorf("%d connections were tried within %s, want %d at the most", attempts, lasted, most)
		}
		for e, watches := range map[*exporter]int{one: 1, many: manyNamespaces} {
			expect.NoError(t, e.upBecomes(1, watches, healedWithin))
		}
	}
	// The connection to the API server is broken, and the API server is killed meanwhile.
	all.Off()
	for range 20 {
		w.operate(t)
	}
	shared.restart(t, 0)
	for range 20 {
		w.operate(t)
	}
	all.on(t)
	table += fmt.Sprintf("| restarted while the connection was cut | %s | | |\n", short(w.agrees(t, one, healedWithin)))
	reportAgreement(t, "outages", table)
}

// upBecomes waits until the given number of watches are up or down.
func (e *exporter) upBecomes(up float64, watches int, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return process.Until(ctx, 20*time.Millisecond, func() error {
		all, err := e.scrape()
		n := 0
		for name, value := range all {
			if strings.HasPrefix(name, "helm_state_metrics_watch_up{") && value == up {
				n++
			}
		}
		if n == watches {
			return nil
		}
		return errors.Join(err, fmt.Errorf("%d of %d watches have watch_up %v", n, watches, up))
	})
}

// TestOneBadNamespace forbids one of two namespaces. The exporter has to serve the other, and to report the error.
func TestOneBadNamespace(t *testing.T) {
	t.Parallel()
	good, bad := newNamespace(t, "good"), newNamespace(t, "bad")
	user := "user-of-" + good
	allow(t, good, user, "secrets", "list", "watch", "get")
	inGood := shown(write(t, good, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	inBad := shown(write(t, bad, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	e := startExporter(t, shared.kubeconfig(t, access{user: user}), "--namespaces="+good+","+bad)
	eventually(t, patience, e.shows(inGood, good))
	up := func(namespace string) string {
		return fmt.Sprintf(`helm_state_metrics_watch_up{namespace=%q,storage="secrets"}`, namespace)
	}
	eventually(t, patience, e.has(series{up(good): 1, up(bad): 0}))
	eventually(t, patience, e.answers("/readyz", http.StatusOK, "releases are missing", `secrets in namespace "`+bad+`"`, "forbidden"))
	eventually(t, patience, e.answers("/", http.StatusOK, "releases are missing", bad))
	expect.NoError(t, e.shows(series{}, bad)())
	allow(t, bad, user, "secrets", "list", "watch", "get")
	eventually(t, patience, e.shows(inBad, bad))
	eventually(t, patience, e.has(series{up(good): 1, up(bad): 1}))
}

// TestWhyItFailed has an upgrade fail long after its record was created and read, and has ten people look at it at
// once. They must see Helm's description of the failure, for the price of one request.
func TestWhyItFailed(t *testing.T) {
	t.Parallel()
	inBoth(t, "why", "secret", func(t *testing.T, h helm) {
		lazy, never := "lazy-"+h.namespace, "never-"+h.namespace
		admins := []string{administrators}
		e := startExporter(t, shared.kubeconfig(t, access{user: lazy, groups: admins}), "--namespaces="+h.namespace)
		blind := startExporter(t, shared.kubeconfig(t, access{user: never, groups: admins}), "--namespaces="+h.namespace, "--payload=never")
		blind.awaitReady(t)
		h.run(t, "install app chart:web")
		// There is no kubelet, so nothing ever becomes ready.
		h.fail(t, "upgrade app chart:web --set greeting=hej --wait --timeout=3s", "FAILED")
		var described string
		for _, r := range h.history(t, "app") {
			if r.Revision == 2 {
				described = r.Description
			}
		}
		if !strings.Contains(described, "failed") {
			t.Fatalf("Helm describes the upgrade as %q", described)
		}
		eventually(t, patience, e.has(series{seriesName("helm_release_status", map[string]string{"name": "app", "namespace": h.namespace, "status": "failed"}): 1}))
		eventually(t, patience, asked(t, lazy, followAll, getRevision(1), getRevision(2)))
		var looking sync.WaitGroup
		for range 10 {
			looking.Go(func() {
				_, body, err := e.get("/api/v1/releases/" + h.namespace + "/app")
				var detail struct{ Description string }
				if err := errors.Join(err, json.Unmarshal([]byte(body), &detail)); err != nil || detail.Description != described {
					t.Errorf("the JSON describes it as %q, and Helm as %q (%v)", detail.Description, described, err)
				}
			})
		}
		looking.Wait()
		expect.NoError(t, e.answers("/releases/"+h.namespace+"/app", http.StatusOK, html.EscapeString(described))())
		eventually(t, patience, asked(t, lazy, followAll, getRevision(1), getRevision(2), getRevision(2)))
		if _, _, err := blind.get("/releases/" + h.namespace + "/app"); err != nil {
			t.Error(err)
		}
		eventually(t, patience, asked(t, never, followAll))
	})
}

// TestAPIServerAwayAtStart starts the exporter before the API server is reachable.
func TestAPIServerAwayAtStart(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "early")
	want := shown(write(t, namespace, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	r := newRelay(t)
	e := startExporter(t, shared.kubeconfig(t, r.access()), "--namespaces="+namespace)

	eventually(t, patience, e.answers("/readyz", http.StatusServiceUnavailable, "secrets", namespace, "connection refused"))
	eventually(t, patience, e.answers("/livez", http.StatusOK))
	eventually(t, patience, e.answers("/metrics", http.StatusServiceUnavailable, "initial list"))
	eventually(t, patience, e.says("level=ERROR", "The API server does not answer", "connection refused"))

	r.on(t)
	eventually(t, 2*patience, e.answers("/readyz", http.StatusOK))
	eventually(t, patience, e.shows(want, namespace))
}

// TestAPIServerAwayMeanwhile breaks all connections of a running exporter. It has to go on serving what it knows, and
// afterwards to catch up with an upgrade, an uninstall, and a release that was replaced by another.
func TestAPIServerAwayMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHelm(t, "helm4", newNamespace(t, "away"), "secret")
	h.run(t, "install kept chart:site-settings")
	h.run(t, "install gone chart:site-settings")
	h.run(t, "install other chart:web")
	r := newRelay(t)
	r.on(t)
	e := startExporter(t, shared.kubeconfig(t, r.access()), "--namespaces="+h.namespace)
	e.awaitReady(t)
	before := view{}.series(t, h.facts(t))
	eventually(t, patience, e.shows(before, h.namespace))
	up := fmt.Sprintf(`helm_state_metrics_watch_up{namespace=%q,storage="secrets"}`, h.namespace)
	eventually(t, patience, e.has(series{up: 1}))

	r.Off()
	eventually(t, patience, e.has(series{up: 0}))
	if e.value(t, `helm_state_metrics_watch_errors_total{reason="unavailable",storage="secrets"}`) == 0 {
		t.Error("the failure is not counted")
	}
	h.run(t, "upgrade kept chart:web")
	h.run(t, "uninstall gone")
	h.run(t, "uninstall other")
	h.run(t, "install other chart:deprecated")
	eventually(t, patience, e.shows(before, h.namespace))
	eventually(t, patience, e.answers("/readyz", http.StatusOK))
	eventually(t, patience, e.says("level=ERROR", "The API server does not answer", "connection refused"))

	r.on(t)
	eventually(t, 2*patience, e.shows(view{}.series(t, h.facts(t)), h.namespace))
	eventually(t, patience, e.has(series{up: 1}))
	eventually(t, patience, e.says("The API server answers again"))
}
