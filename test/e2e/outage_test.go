package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
)

// TestAPIServerAwayAtStart starts the exporter first.
func TestAPIServerAwayAtStart(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "early")
	want := shown(write(t, namespace, secretRecord("app", 1, "deployed", sound())), "sound")
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

// TestAPIServerAwayMeanwhile breaks all connections of a running exporter. It
// goes on serving what it knows, and catches up with what happened behind its
// back: an upgrade, an uninstall, and an install in another's place.
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

	r.off()
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

	r.on(t)
	eventually(t, 2*patience, e.shows(view{}.series(t, h.facts(t)), h.namespace))
	eventually(t, patience, e.has(series{up: 1}))
	eventually(t, patience, e.says("The API server answers again"))
}

// TestConnectionsBreakOften checks that nothing is lost where nothing is away
// for long.
func TestConnectionsBreakOften(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "shaky")
	r := newRelay(t)
	r.on(t)
	e := startExporter(t, shared.kubeconfig(t, r.access()), "--namespaces="+namespace)
	e.awaitReady(t)
	for revision := 1; revision <= 3; revision++ {
		r.off()
		want := shown(write(t, namespace, secretRecord("app", revision, "failed", sound())), "sound", revision)
		r.on(t)
		eventually(t, 2*patience, e.shows(want, namespace))
	}
}
