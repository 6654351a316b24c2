package e2e_test

import (
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
)

var outages = flag.String("outages", "5s", "for how long TestOutages kills the API server, separated by commas")

const (
	manyNamespaces = 900
	// noticedWithin bounds the time until a connection is known to be dead.
	noticedWithin = 15 * time.Second
	// attemptsPerSecond bounds the connections that are tried during an outage,
	// whatever the number of watches, and attemptsAround those at its beginning,
	// before it is known as one, and at its end, before the server is ready.
	attemptsPerSecond = 12
	attemptsAround    = 250
)

// TestOutages kills the API server for some time, and looks how long after its
// end what is shown is right, by one watch of all namespaces and by hundreds of
// namespaces that are watched one by one. It is not parallel: the API server is
// that of all tests.
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
	for text := range strings.SplitSeq(*outages, ",") {
		away, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		before := each.connections()
		began := time.Now()
		down := make(chan error, 2)
		for e, watches := range map[*exporter]int{one: 1, many: manyNamespaces} {
			go func() { down <- e.upBecomes(0, watches, away+healedWithin) }()
		}
		shared.restart(t, away)
		attempts, lasted := each.connections()-before, time.Since(began)
		for range 2 {
			if err := <-down; err != nil {
				t.Error(err)
			}
		}
		for range 5 { // what happens before they are back is seen too
			w.operate(t)
		}
		t.Logf("away for %s: right after %s, and with %d namespaces after %s; these tried %d connections meanwhile", away,
			w.agrees(t, one, healedWithin), manyNamespaces, w.agrees(t, many, healedWithin), attempts)
		if most := int(lasted.Seconds()+1)*attemptsPerSecond + attemptsAround; attempts > most {
			t.Errorf("%d connections were tried within %s, want %d at the most", attempts, lasted, most)
		}
		for e, watches := range map[*exporter]int{one: 1, many: manyNamespaces} {
			if err := e.upBecomes(1, watches, healedWithin); err != nil {
				t.Error(err)
			}
		}
	}
	// What happens while only the way to the API server is broken, and it is
	// killed besides.
	all.off()
	for range 20 {
		w.operate(t)
	}
	shared.restart(t, 0)
	for range 20 {
		w.operate(t)
	}
	all.on(t)
	t.Logf("right %s after the way was open again", w.agrees(t, one, healedWithin))
}

// upBecomes waits until so many watches are up or down.
func (e *exporter) upBecomes(up float64, watches int, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
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
		if time.Now().After(deadline) {
			return errors.Join(err, fmt.Errorf("%d of %d watches have watch_up %v after %s", n, watches, up, within))
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestSilentConnections has the network between exporter and API server drop
// everything, without a word to either.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "silent")
	r := newRelay(t)
	r.on(t)
	e := startExporter(t, shared.kubeconfig(t, r.access()), "--namespaces="+namespace)
	e.awaitReady(t)
	write(t, namespace, secretRecord("app", 1, "deployed", sound()))
	labels := fmt.Sprintf(`{namespace=%q,storage="secrets"}`, namespace)
	eventually(t, patience, e.has(series{"helm_state_metrics_watch_up" + labels: 1}))
	r.stall()
	stalled := time.Now()
	want := shown(write(t, namespace, secretRecord("app", 2, "failed", sound())), "sound", 2)
	want[seriesName("helm_release_deployed_revision", map[string]string{"name": "app", "namespace": namespace})] = 1
	eventually(t, noticedWithin, e.has(series{"helm_state_metrics_watch_up" + labels: 0}))
	if heard := e.value(t, "helm_state_metrics_watch_last_event_timestamp_seconds"+labels); heard > float64(stalled.Unix()+1) {
		t.Errorf("the watch was last heard of %v s after it fell silent", heard-float64(stalled.Unix()))
	}
	r.resume()
	eventually(t, healedWithin, e.shows(want, namespace))
	eventually(t, healedWithin, e.has(series{"helm_state_metrics_watch_up" + labels: 1}))
}

// TestOneBadNamespace serves what it may see, and says what it may not.
func TestOneBadNamespace(t *testing.T) {
	t.Parallel()
	good, bad := newNamespace(t, "good"), newNamespace(t, "bad")
	user := "user-of-" + good
	allow(t, good, user, "secrets", "list", "watch", "get")
	inGood := shown(write(t, good, secretRecord("app", 1, "deployed", sound())), "sound")
	inBad := shown(write(t, bad, secretRecord("app", 1, "deployed", sound())), "sound")
	e := startExporter(t, shared.kubeconfig(t, access{user: user}), "--namespaces="+good+","+bad)
	eventually(t, patience, e.shows(inGood, good))
	up := func(namespace string) string {
		return fmt.Sprintf(`helm_state_metrics_watch_up{namespace=%q,storage="secrets"}`, namespace)
	}
	eventually(t, patience, e.has(series{up(good): 1, up(bad): 0}))
	eventually(t, patience, e.answers("/readyz", http.StatusOK, "releases are missing", `secrets in namespace "`+bad+`"`, "forbidden"))
	eventually(t, patience, e.answers("/", http.StatusOK, "releases are missing", bad))
	if err := e.shows(series{}, bad)(); err != nil {
		t.Error(err)
	}
	allow(t, bad, user, "secrets", "list", "watch", "get")
	eventually(t, patience, e.shows(inBad, bad))
	eventually(t, patience, e.has(series{up(good): 1, up(bad): 1}))
}

// TestWhyItFailed has an upgrade fail at its end, long after its record was
// created and read, and ten people look at it.
func TestWhyItFailed(t *testing.T) {
	t.Parallel()
	inBoth(t, "why", "secret", func(t *testing.T, h helm) {
		lazy, never := "lazy-"+h.namespace, "never-"+h.namespace
		admins := []string{administrators}
		e := startExporter(t, shared.kubeconfig(t, access{user: lazy, groups: admins}), "--namespaces="+h.namespace)
		blind := startExporter(t, shared.kubeconfig(t, access{user: never, groups: admins}), "--namespaces="+h.namespace, "--payload=never")
		blind.awaitReady(t)
		h.run(t, "install app chart:web")
		// Nothing runs here, so nothing ever becomes ready.
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
				var told struct{ Description string }
				if err := errors.Join(err, json.Unmarshal([]byte(body), &told)); err != nil || told.Description != described {
					t.Errorf("the JSON describes it as %q, and Helm as %q (%v)", told.Description, described, err)
				}
			})
		}
		looking.Wait()
		if err := e.answers("/releases/"+h.namespace+"/app", http.StatusOK, html.EscapeString(described))(); err != nil {
			t.Error(err)
		}
		eventually(t, patience, asked(t, lazy, followAll, getRevision(1), getRevision(2), getRevision(2)))
		if _, _, err := blind.get("/releases/" + h.namespace + "/app"); err != nil {
			t.Error(err)
		}
		eventually(t, patience, asked(t, never, followAll))
	})
}
