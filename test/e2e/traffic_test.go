package e2e_test

import (
	"testing"
)

// The requests that the exporter makes about the Secrets of a namespace.
const (
	followAll = "watch secrets labels=owner=helm fields=type=helm.sh/release.v1"
)

func getRevision(revision int) string { return "get secrets " + recordName("app", revision) }

// TestRequestsOfALife follows a release from its install to its uninstall, and
// counts what that costs the API server: one WATCH, which begins with the list,
// and one GET per revision, at whatever point of its life it was.
func TestRequestsOfALife(t *testing.T) {
	t.Parallel()
	inBoth(t, "life", "secret", func(t *testing.T, h helm) {
		lazy, never := "lazy-"+h.namespace, "never-"+h.namespace
		admins := []string{administrators}
		e := startExporter(t, shared.kubeconfig(t, access{user: lazy, groups: admins}), "--namespaces="+h.namespace)
		cheap := startExporter(t, shared.kubeconfig(t, access{user: never, groups: admins}), "--namespaces="+h.namespace, "--payload=never")
		e.awaitReady(t)
		cheap.awaitReady(t)

		want := []string{followAll}
		for _, turn := range []struct {
			step  step
			costs []string
		}{
			{does("install app chart:site-settings"), []string{getRevision(1)}},
			{rewrites("test app"), nil},
			{patchLabels("app", 1, `{"status":"failed"}`), nil},
			{patchLabels("app", 1, `{"status":"deployed","team":"shop"}`), nil},
			{does("upgrade app chart:web"), []string{getRevision(2)}},
			{fails("upgrade app chart:web --set broken=true", refusedPort), []string{getRevision(3)}},
			{does("rollback app 1"), []string{getRevision(4)}},
			{does("uninstall app --keep-history"), nil},
			{does("rollback app 4"), []string{getRevision(5)}},
			{does("uninstall app"), nil},
			{does("install app chart:web"), []string{getRevision(1)}},
		} {
			turn.step(t, h)
			want = append(want, turn.costs...)
			eventually(t, patience, e.shows(view{}.series(t, h.labelled(t, h.facts(t))), h.namespace, sizeWhenRead))
			eventually(t, patience, asked(t, lazy, want...))
		}
		eventually(t, patience, asked(t, never, followAll))
	})
}

// TestRequestsOfAStart starts with a history in place, of which only the
// newest revision may be read.
func TestRequestsOfAStart(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "start")
	user := "user-of-" + namespace
	h := newHelm(t, "helm4", namespace, "secret")
	for revision := 1; revision <= 3; revision++ {
		write(t, namespace, secretRecord("app", revision, "superseded", sound()))
	}
	below := write(t, namespace, secretRecord("app", 4, "deployed", sound()))
	newest := write(t, namespace, secretRecord("app", 5, "failed", sound()))
	e := startExporter(t, shared.kubeconfig(t, access{user: user, groups: []string{administrators}}), "--namespaces="+namespace)
	deployed := seriesName("helm_release_deployed_revision", map[string]string{"name": "app", "namespace": namespace})
	want := shown(newest, "sound", 5)
	want[deployed] = 4
	eventually(t, patience, e.shows(want, namespace))
	told := []string{followAll, getRevision(5)}
	eventually(t, patience, asked(t, user, told...))

	// The one below becomes the newest, and is read for that.
	deleteRecord("app", 5)(t, h)
	eventually(t, patience, e.shows(shown(below, "sound", 4), namespace))
	told = append(told, getRevision(4))
	eventually(t, patience, asked(t, user, told...))

	// Another record under a name that was read before is another revision.
	want = shown(write(t, namespace, secretRecord("app", 5, "failed", sound())), "sound", 5)
	want[deployed] = 4
	eventually(t, patience, e.shows(want, namespace))
	told = append(told, getRevision(5))
	eventually(t, patience, asked(t, user, told...))

	// What was read once is not read again: not the one below, when it is the
	// newest again, nor a superseded one that comes after.
	deleteRecord("app", 5)(t, h)
	eventually(t, patience, e.shows(shown(below, "sound", 4), namespace))
	write(t, namespace, secretRecord("app", 9, "superseded", sound()))
	deleteRecord("app", 4)(t, h)
	told = append(told, getRevision(9))
	eventually(t, patience, asked(t, user, told...))
}
