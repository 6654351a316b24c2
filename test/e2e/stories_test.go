package e2e_test

// storiesByHelm are operations that end well.
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
	"an end of the namespace with all that is in it": {
		steps: []step{
			does("install app chart:site-settings"),
			does("install other chart:deprecated"),
			deleteNamespace,
		},
		end: none,
	},
	"labels of one's own, changed by an upgrade": {
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
	"a name as long as Helm takes it": {
		steps: []step{
			does("install a23456789.123456789.123456789.123456789.123456789.abc chart:site-settings"),
		},
		end: map[string]string{"a23456789.123456789.123456789.123456789.123456789.abc": "v1 deployed"},
	},
	"more than nine revisions, which sort otherwise as words": {
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
