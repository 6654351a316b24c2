package e2e_test

// refusedPort and refusedKey are why the API server refuses what the charts
// render with broken=true.
const (
	refusedPort = "70000"
	refusedKey  = "not a key"
)

// storiesOfFailure are operations that fail, or that never end.
var storiesOfFailure = map[string]story{
	"a failed install": {
		steps: []step{
			fails("install app chart:web --set broken=true", refusedPort),
		},
		end: map[string]string{"app": "v1 failed"},
	},
	"a failed install that an upgrade mends": {
		steps: []step{
			fails("install app chart:site-settings --set broken=true", refusedKey),
			does("upgrade --install app chart:site-settings --set broken=false"),
		},
		end: map[string]string{"app": "v2 deployed"},
	},
	"a failed install that is rolled back to nothing": {
		steps: []step{
			fails("install app chart:site-settings --set broken=true --roll-back --timeout=20s", refusedKey),
		},
		end: none,
	},
	"failed upgrades, behind which an older revision stays deployed": {
		steps: []step{
			does("install app chart:web"),
			fails("upgrade app chart:web --set broken=true", refusedPort),
			fails("upgrade app chart:web --set broken=true --set greeting=hej", refusedPort),
		},
		end: map[string]string{"app": "v3 failed, v1 deployed"},
	},
	"a failed upgrade that the next one mends": {
		steps: []step{
			does("install app chart:site-settings"),
			fails("upgrade app chart:site-settings --set broken=true", refusedKey),
			does("upgrade app chart:site-settings --set broken=false"),
		},
		end: map[string]string{"app": "v3 deployed"},
	},
	"a failed upgrade that is rolled back by itself": {
		steps: []step{
			does("install app chart:site-settings"),
			fails("upgrade app chart:site-settings --set broken=true --roll-back --timeout=20s", refusedKey),
		},
		end: map[string]string{"app": "v3 deployed"},
	},
	"a failed rollback": {
		steps: []step{
			fails("install app chart:site-settings --set broken=true", refusedKey),
			does("upgrade app chart:site-settings --set broken=false"),
			fails("rollback app 1", refusedKey),
		},
		end: map[string]string{"app": "v3 failed"},
	},
	"an install whose Helm was killed during a hook": {
		steps: []step{
			killed("install app chart:hook"),
		},
		end: map[string]string{"app": "v1 pending-install"},
	},
	"an upgrade whose Helm was killed during a hook": {
		steps: []step{
			does("install app chart:hook --set event=pre-upgrade"),
			killed("upgrade app chart:hook --set event=pre-upgrade"),
			fails("upgrade app chart:hook --set event=pre-upgrade", "another operation"),
		},
		end: map[string]string{"app": "v2 pending-upgrade, v1 deployed"},
	},
	"a rollback whose Helm was killed during a hook": {
		steps: []step{
			does("install app chart:hook --set event=pre-rollback"),
			does("upgrade app chart:site-settings"),
			killed("rollback app 1"),
		},
		end: map[string]string{"app": "v3 pending-rollback, v2 deployed"},
	},
	"an uninstall whose Helm was killed during a hook": {
		steps: []step{
			does("install app chart:hook --set event=pre-delete"),
			killed("uninstall app"),
		},
		end: map[string]string{"app": "v1 uninstalling"},
	},
}
