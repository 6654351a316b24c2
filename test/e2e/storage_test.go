package e2e_test

import "testing"

// TestTruthInConfigMaps does what TestTruth does for a Helm that keeps its
// records in ConfigMaps.
func TestTruthInConfigMaps(t *testing.T) {
	t.Parallel()
	admin := shared.kubeconfig(t, access{})
	observers := []observer{
		{startExporter(t, admin, "--storage=configmaps"), view{}},
		{startExporter(t, admin, "--storage=configmaps,secrets"), view{}},
	}
	for name, story := range map[string]story{
		"an install, a failed upgrade, a rollback and an uninstall": {
			steps: []step{
				does("install app chart:site-settings"),
				fails("upgrade app chart:site-settings --set broken=true", refusedKey),
				does("rollback app 1"),
				does("install my.app chart:deprecated"),
				does("uninstall app"),
			},
			end: map[string]string{"my.app": "v1 deployed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, "maps", "configmap", func(t *testing.T, h helm) { story.tell(t, h, observers) })
		})
	}
}

// TestReleaseInBothStorages installs one release twice. Helm knows only the
// one in the storage that it is told of; the exporter shows that of the
// Secrets, counts it, and shows the other one once the first is gone.
func TestReleaseInBothStorages(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "both")
	inMaps := newHelm(t, "helm4", namespace, "configmap")
	inSecrets := newHelm(t, "helm4", namespace, "secret")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+namespace, "--storage=secrets,configmaps")
	inBothStorages := func(n float64) series { return series{"helm_state_metrics_releases_in_both_storages": n} }

	inMaps.run(t, "install app chart:site-settings")
	inMaps.run(t, "upgrade app chart:site-settings --set greeting=hej")
	eventually(t, patience, e.shows(view{}.series(t, inMaps.facts(t)), namespace, sizeWhenRead))
	eventually(t, patience, e.has(inBothStorages(0)))

	inSecrets.run(t, "install app chart:deprecated --take-ownership")
	eventually(t, patience, e.shows(view{}.series(t, inSecrets.facts(t)), namespace, sizeWhenRead))
	eventually(t, patience, e.has(inBothStorages(1)))

	inSecrets.run(t, "uninstall app")
	eventually(t, patience, e.shows(view{}.series(t, inMaps.facts(t)), namespace, sizeWhenRead))
	eventually(t, patience, e.has(inBothStorages(0)))
}
