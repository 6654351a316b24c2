package e2e_test

// refusedPort and refusedKey are in the errors of the API server about charts with broken=true.
const (
	refusedPort = "70000"
	refusedKey  = "not a key"
)

// storiesByHelm are operations that succeed.
var storiesByHelm = map[string]story{
	"an install": {
		steps: []step{does("install app chart:web")},
		end:   map[string]string{"app": "v1 deployed"},
	},
	"two upgrades": {
		steps: []step{
			does("install app chart:web"),
			does("upgrade app chart:web --set greeting=hej"),
			does("upgrade app chart:site-settings"),
		},
		end: map[string]string{"app": "v3 deployed"},
	},
	"a rollback": {
		steps: []step{
			does("install app chart:site-settings"),
			does("upgrade app chart:deprecated"),
			does("rollback app 1"),
		},
		end: map[string]string{"app": "v3 deployed"},
	},
	"an uninstall": {
		steps: []step{
			does("install app chart:site-settings"),
			does("upgrade app chart:site-settings --set greeting=hej"),
			does("uninstall app"),
		},
		end: none,
	},
	"an uninstall that keeps the history, and an install in its place": {
		steps: []step{
			does("install app chart:site-settings"),
			does("upgrade app chart:site-settings --set greeting=hej"),
			does("uninstall app --keep-history"),
			does("install app chart:web --replace"),
		},
		end: map[string]string{"app": "v3 deployed"},
	},
	"an uninstall that keeps the history, and a rollback out of it": {
		steps: []step{
			does("install app chart:site-settings"),
			does("uninstall app --keep-history"),
			does("rollback app 1"),
			does("uninstall app --keep-history"),
		},
		end: map[string]string{"app": "v2 uninstalled"},
	},
	"a history that is limited to two revisions": {
		steps: []step{
			does("install app chart:site-settings"),
			does("upgrade app chart:site-settings --set greeting=a --history-max=2"),
			does("upgrade app chart:site-settings --set greeting=b --history-max=2"),
			does("upgrade app chart:site-settings --set greeting=c --history-max=2"),
		},
		end: map[string]string{"app": "v4 deployed"},
	},
	"another chart under the same name, from revision 1 again": {
		steps: []step{
			does("install app chart:web"),
			does("uninstall app"),
			does("install app chart:deprecated"),
		},
		end: map[string]string{"app": "v1 deployed"},
	},
	"the namespace is deleted": {
		steps: []step{
			does("install app chart:site-settings"),
			does("install other chart:deprecated"),
			deleteNamespace,
		},
		end: none,
	},
	"labels of the user, changed by an upgrade": {
		steps: []step{
			does("install app chart:site-settings --labels=team=payments,unasked=for"),
			does("install other chart:site-settings --labels=unasked=for"),
			does("upgrade app chart:site-settings --labels=team=shop,example.com/tier=gold"),
		},
		end: map[string]string{"app": "v2 deployed", "other": "v1 deployed"},
	},
	"names with dots, one of which looks like another's revision": {
		steps: []step{
			does("install my.app chart:web"),
			does("install my.app.v7 chart:site-settings"),
			does("upgrade my.app.v7 chart:deprecated"),
			does("uninstall my.app"),
		},
		end: map[string]string{"my.app.v7": "v2 deployed"},
	},
	"the longest name that Helm accepts": {
		steps: []step{
			does("install a23456789.123456789.123456789.123456789.123456789.abc chart:site-settings"),
		},
		end: map[string]string{"a23456789.123456789.123456789.123456789.123456789.abc": "v1 deployed"},
	},
	"more than nine revisions, whose order as text is another": {
		steps: []step{
			does("install app chart:site-settings"),
			all(upgrades(9)...),
			does("rollback app 9"),
		},
		end: map[string]string{"app": "v11 deployed"},
	},
	"a test of the release": {
		steps: []step{
			does("install app chart:site-settings"),
			rewrites("test app"),
		},
		end: map[string]string{"app": "v1 deployed"},
	},
}

// storiesOfFailure are operations that fail, or that never end.
var storiesOfFailure = map[string]story{
	"a failed install": {
		steps: []step{
			fails("install app chart:web --set broken=true", refusedPort),
		},
		end: map[string]string{"app": "v1 failed"},
	},
	"a failed install, and an upgrade that succeeds": {
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
	"a failed upgrade, and the next one succeeds": {
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

// storiesByHand are changes to records by people, which Helm does not know of.
var storiesByHand = map[string]story{
	"the record of a failed upgrade is deleted": {
		steps: []step{
			does("install app chart:web"),
			fails("upgrade app chart:web --set broken=true", refusedPort),
			deleteRecord("app", 2),
		},
		end: map[string]string{"app": "v1 deployed"},
	},
	"the deployed revision below a failed one is deleted": {
		steps: []step{
			does("install app chart:web"),
			fails("upgrade app chart:web --set broken=true", refusedPort),
			deleteRecord("app", 1),
		},
		end: map[string]string{"app": "v2 failed"},
	},
	"only a superseded revision is left, and then it is upgraded": {
		steps: []step{
			does("install app chart:deprecated"),
			does("upgrade app chart:site-settings"),
			does("upgrade app chart:web"),
			deleteRecord("app", 3),
			does("upgrade app chart:web"),
			deleteRecord("app", 2),
		},
		end: map[string]string{"app": "v3 deployed"},
	},
	"only a superseded revision is left, and then it is uninstalled": {
		steps: []step{
			does("install app chart:deprecated"),
			does("upgrade app chart:site-settings"),
			deleteRecord("app", 2),
			does("uninstall app"),
		},
		end: none,
	},
	"every record is deleted at once": {
		steps: []step{
			all(
				does("install app chart:site-settings"),
				does("upgrade app chart:site-settings"),
				deleteRecord("app", 1),
				deleteRecord("app", 2),
			),
		},
		end: none,
	},
	"a status label is edited, and written by Helm again": {
		steps: []step{
			does("install app chart:hook --set event=pre-upgrade"),
			killed("upgrade app chart:hook --set event=pre-upgrade"),
			patchLabels("app", 2, `{"status":"failed"}`),
			patchLabels("app", 1, `{"status":"superseded"}`),
			patchLabels("app", 1, `{"status":"uninstalled"}`),
			patchLabels("app", 2, `{"status":"deployed"}`),
			patchLabels("app", 1, `{"status":"deployed"}`),
			patchLabels("app", 2, `{"status":"failed"}`),
		},
		end:      map[string]string{"app": "v2 failed, v1 deployed"},
		labelled: true,
	},
	"labels of the user come and go": {
		steps: []step{
			does("install app chart:site-settings"),
			patchLabels("app", 1, `{"team":"payments"}`),
			patchLabels("app", 1, `{"team":null,"example.com/tier":""}`),
		},
		end: map[string]string{"app": "v1 deployed"},
	},
	"a record as old as Helm's first: its payload is not compressed": {
		steps: []step{createUncompressed},
		end:   map[string]string{"old": "v1 deployed"},
	},
}
