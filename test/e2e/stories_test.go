package e2e_test

// refusedPort and refusedKey are in the errors of the API server about charts with broken=true.
const (
	refusedPort = "70000"
	refusedKey  = "not a key"
)

// storiesByHelm are operations that succeed.
var storiesByHelm = map[string]story{
	"an install": {end: "app: v1 deployed", steps: []step{does("install app chart:web")}},
	"two upgrades": {end: "app: v3 deployed", steps: []step{
		does("install app chart:web"),
		does("upgrade app chart:web --set greeting=hej"),
		does("upgrade app chart:site-settings"),
	}},
	"a rollback": {end: "app: v3 deployed", steps: []step{
		does("install app chart:site-settings"),
		does("upgrade app chart:deprecated"),
		does("rollback app 1"),
	}},
	"an uninstall": {end: "", steps: []step{
		does("install app chart:site-settings"),
		does("upgrade app chart:site-settings --set greeting=hej"),
		does("uninstall app"),
	}},
	"an uninstall that keeps the history, and an install in its place": {end: "app: v3 deployed", steps: []step{
		does("install app chart:site-settings"),
		does("upgrade app chart:site-settings --set greeting=hej"),
		does("uninstall app --keep-history"),
		does("install app chart:web --replace"),
	}},
	"an uninstall that keeps the history, and a rollback out of it": {end: "app: v2 uninstalled", steps: []step{
		does("install app chart:site-settings"),
		does("uninstall app --keep-history"),
		does("rollback app 1"),
		does("uninstall app --keep-history"),
	}},
	"a history that is limited to two revisions": {end: "app: v4 deployed", steps: []step{
		does("install app chart:site-settings"),
		does("upgrade app chart:site-settings --set greeting=a --history-max=2"),
		does("upgrade app chart:site-settings --set greeting=b --history-max=2"),
		does("upgrade app chart:site-settings --set greeting=c --history-max=2"),
	}},
	"another chart under the same name, from revision 1 again": {end: "app: v1 deployed", steps: []step{
		does("install app chart:web"),
		does("uninstall app"),
		does("install app chart:deprecated"),
	}},
	"the namespace is deleted": {end: "", steps: []step{
		does("install app chart:site-settings"),
		does("install other chart:deprecated"),
		deleteNamespace,
	}},
	"labels of the user, changed by an upgrade": {end: "app: v2 deployed; other: v1 deployed", steps: []step{
		does("install app chart:site-settings --labels=team=payments,unasked=for"),
		does("install other chart:site-settings --labels=unasked=for"),
		does("upgrade app chart:site-settings --labels=team=shop,example.com/tier=gold"),
	}},
	"names with dots, one of which looks like another's revision": {end: "my.app.v7: v2 deployed", steps: []step{
		does("install my.app chart:web"),
		does("install my.app.v7 chart:site-settings"),
		does("upgrade my.app.v7 chart:deprecated"),
		does("uninstall my.app"),
	}},
	"the longest name that Helm accepts": {end: "a23456789.123456789.123456789.123456789.123456789.abc: v1 deployed", steps: []step{
		does("install a23456789.123456789.123456789.123456789.123456789.abc chart:site-settings"),
	}},
	"more than nine revisions, whose order as text is another": {end: "app: v11 deployed", steps: []step{
		does("install app chart:site-settings"),
		all(upgrades(9)...),
		does("rollback app 9"),
	}},
	"a test of the release": {end: "app: v1 deployed", steps: []step{
		does("install app chart:site-settings"),
		rewrites("test app"),
	}},
}

// storiesOfFailure are operations that fail, or that never end.
var storiesOfFailure = map[string]story{
	"a failed install": {end: "app: v1 failed", steps: []step{
		fails("install app chart:web --set broken=true", refusedPort),
	}},
	"a failed install, and an upgrade that succeeds": {end: "app: v2 deployed", steps: []step{
		fails("install app chart:site-settings --set broken=true", refusedKey),
		does("upgrade --install app chart:site-settings --set broken=false"),
	}},
	"a failed install that is rolled back to nothing": {end: "", steps: []step{
		fails("install app chart:site-settings --set broken=true --roll-back --timeout=20s", refusedKey),
	}},
	"failed upgrades, behind which an older revision stays deployed": {end: "app: v3 failed, v1 deployed", steps: []step{
		does("install app chart:web"),
		fails("upgrade app chart:web --set broken=true", refusedPort),
		fails("upgrade app chart:web --set broken=true --set greeting=hej", refusedPort),
	}},
	"a failed upgrade, and the next one succeeds": {end: "app: v3 deployed", steps: []step{
		does("install app chart:site-settings"),
		fails("upgrade app chart:site-settings --set broken=true", refusedKey),
		does("upgrade app chart:site-settings --set broken=false"),
	}},
	"a failed upgrade that is rolled back by itself": {end: "app: v3 deployed", steps: []step{
		does("install app chart:site-settings"),
		fails("upgrade app chart:site-settings --set broken=true --roll-back --timeout=20s", refusedKey),
	}},
	"a failed rollback": {end: "app: v3 failed", steps: []step{
		fails("install app chart:site-settings --set broken=true", refusedKey),
		does("upgrade app chart:site-settings --set broken=false"),
		fails("rollback app 1", refusedKey),
	}},
	"an install whose Helm was killed during a hook": {end: "app: v1 pending-install", steps: []step{
		killed("install app chart:hook"),
	}},
	"an upgrade whose Helm was killed during a hook": {end: "app: v2 pending-upgrade, v1 deployed", steps: []step{
		does("install app chart:hook --set event=pre-upgrade"),
		killed("upgrade app chart:hook --set event=pre-upgrade"),
		fails("upgrade app chart:hook --set event=pre-upgrade", "another operation"),
	}},
	"a rollback whose Helm was killed during a hook": {end: "app: v3 pending-rollback, v2 deployed", steps: []step{
		does("install app chart:hook --set event=pre-rollback"),
		does("upgrade app chart:site-settings"),
		killed("rollback app 1"),
	}},
	"an uninstall whose Helm was killed during a hook": {end: "app: v1 uninstalling", steps: []step{
		does("install app chart:hook --set event=pre-delete"),
		killed("uninstall app"),
	}},
}

// storiesByHand are changes to records by people, which Helm does not know of.
var storiesByHand = map[string]story{
	"the record of a failed upgrade is deleted": {end: "app: v1 deployed", steps: []step{
		does("install app chart:web"),
		fails("upgrade app chart:web --set broken=true", refusedPort),
		deleteRecord("app", 2),
	}},
	"the deployed revision below a failed one is deleted": {end: "app: v2 failed", steps: []step{
		does("install app chart:web"),
		fails("upgrade app chart:web --set broken=true", refusedPort),
		deleteRecord("app", 1),
	}},
	"only a superseded revision is left, and then it is upgraded": {end: "app: v3 deployed", steps: []step{
		does("install app chart:deprecated"),
		does("upgrade app chart:site-settings"),
		does("upgrade app chart:web"),
		deleteRecord("app", 3),
		does("upgrade app chart:web"),
		deleteRecord("app", 2),
	}},
	"only a superseded revision is left, and then it is uninstalled": {end: "", steps: []step{
		does("install app chart:deprecated"),
		does("upgrade app chart:site-settings"),
		deleteRecord("app", 2),
		does("uninstall app"),
	}},
	"every record is deleted at once": {end: "", steps: []step{
		all(
			does("install app chart:site-settings"),
			does("upgrade app chart:site-settings"),
			deleteRecord("app", 1),
			deleteRecord("app", 2),
		),
	}},
	"a status label is edited, and written by Helm again": {end: "app: v2 failed, v1 deployed", labelled: true, steps: []step{
		does("install app chart:hook --set event=pre-upgrade"),
		killed("upgrade app chart:hook --set event=pre-upgrade"),
		patchLabels("app", 2, `{"status":"failed"}`),
		patchLabels("app", 1, `{"status":"superseded"}`),
		patchLabels("app", 1, `{"status":"uninstalled"}`),
		patchLabels("app", 2, `{"status":"deployed"}`),
		patchLabels("app", 1, `{"status":"deployed"}`),
		patchLabels("app", 2, `{"status":"failed"}`),
	}},
	"labels of the user come and go": {end: "app: v1 deployed", steps: []step{
		does("install app chart:site-settings"),
		patchLabels("app", 1, `{"team":"payments"}`),
		patchLabels("app", 1, `{"team":null,"example.com/tier":""}`),
	}},
	"a record as old as Helm's first: its payload is not compressed": {end: "old: v1 deployed", steps: []step{
		createUncompressed,
	}},
}
