package e2e_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// story is a sequence of operations on the releases of one namespace.
type story struct {
	steps []step
	// end is the summary of what Helm says of the releases in the end. It proves that the story had its intended
	// effect.
	end string
	// labelled says that labels, which the exporter reads, were edited, so they differ from payloads, which Helm reads.
	labelled bool
}

// TestTruth compares everything that is exposed with what Helm and the API server say, after each operation.
func TestTruth(t *testing.T) {
	t.Parallel()
	admin := shared.kubeconfig(t, access{})
	observers := []observer{
		{startExporter(t, admin), view{}},
		{
			startExporter(t, admin, "--metrics.all-statuses", "--release-labels=team,example.com/tier",
				"--storage=secrets,configmaps"),
			view{allStatuses: true, labels: map[string]string{"team": "label_team", "example.com/tier": "label_example_com_tier"}},
		},
	}
	for _, stories := range []map[string]story{storiesByHelm, storiesOfFailure, storiesByHand} {
		for name, story := range stories {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				inBoth(t, "truth", "secret", func(t *testing.T, h helm) { story.tell(t, h, observers) })
			})
		}
	}
}

// observer is an exporter with its view.
type observer struct {
	*exporter
	view
}

// tell does the steps. All observers must agree with the facts after each of them, and in the end also a new exporter.
func (s story) tell(t *testing.T, h helm, observers []observer) {
	t.Helper()
	var facts []fact
	for _, step := range s.steps {
		step(t, h)
		facts = h.facts(t)
		if s.labelled {
			facts = h.labelled(t, facts)
		}
		for _, o := range observers {
			eventually(t, patience, o.shows(o.series(t, facts), h.namespace, sizeWhenRead))
		}
	}
	expect.Equal(t, "the story did not end as intended", s.end, summary(facts))
	storage := "--storage=" + h.driver + "s"
	late := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+h.namespace, storage)
	late.awaitReady(t)
	if err := late.shows(view{}.series(t, facts), h.namespace)(); err != nil {
		t.Errorf("an exporter that started late: %v", err)
	}
}

// sizeWhenRead accepts the size of a payload that is about that of the record. A payload is read once, usually while
// the operation still runs; later Helm writes the record again with another description.
var sizeWhenRead = cmp.FilterPath(
	func(p cmp.Path) bool {
		at, ok := p.Last().(cmp.MapIndex)
		return ok && strings.HasPrefix(at.Key().String(), "helm_release_payload_bytes{")
	},
	cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 512 }),
)

// summary returns the newest revision of each release, such as "app: v2 failed", and the deployed one if that is
// another, such as "app: v2 failed, v1 deployed". Semicolons separate the releases.
func summary(facts []fact) string {
	var releases []string
	for _, f := range facts {
		text := fmt.Sprintf("%s: v%d %s", f.Name, f.Revision, f.Status)
		if f.deployed > 0 && f.deployed != f.Revision {
			text += fmt.Sprintf(", v%d deployed", f.deployed)
		}
		releases = append(releases, text)
	}
	slices.Sort(releases)
	return strings.Join(releases, "; ")
}

// step is one operation of a story.
type step func(*testing.T, helm)

func does(line string) step {
	return func(t *testing.T, h helm) { t.Helper(); h.run(t, line) }
}

// fails is a Helm command that fails for a reason that its output contains.
func fails(line, reason string) step {
	return func(t *testing.T, h helm) { t.Helper(); h.fail(t, line, reason) }
}

// all joins steps into one, so that nothing is compared in between.
func all(steps ...step) step {
	return func(t *testing.T, h helm) {
		t.Helper()
		for _, step := range steps {
			step(t, h)
		}
	}
}

func upgrades(n int) []step {
	var steps []step
	for i := range n {
		steps = append(steps, does(fmt.Sprintf("upgrade app chart:site-settings --set greeting=hello-%d", i)))
	}
	return steps
}

// killed is a Helm command that is killed while it waits for the Job of the chart "hook".
func killed(line string) step {
	return func(t *testing.T, h helm) {
		t.Helper()
		h.kill(t, line, func() error {
			_, err := shared.client.BatchV1().Jobs(h.namespace).Get(t.Context(), "app", metav1.GetOptions{})
			return err
		})
	}
}

// rewrites is a Helm command that writes the only record of app again and creates no other.
func rewrites(line string) step {
	return func(t *testing.T, h helm) {
		t.Helper()
		before := h.records(t)
		h.run(t, line)
		after := h.records(t)
		v1 := cluster.RecordName("app", 1)
		if len(after) != 1 || before[v1].meta.ResourceVersion == after[v1].meta.ResourceVersion {
			t.Fatalf("%s did not write the record again", line)
		}
	}
}

func deleteRecord(release string, revision int) step {
	return func(t *testing.T, h helm) {
		t.Helper()
		err := shared.client.CoreV1().Secrets(h.namespace).Delete(t.Context(), cluster.RecordName(release, revision), metav1.DeleteOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// patchLabels merges labels, in JSON, into a record.
func patchLabels(release string, revision int, labels string) step {
	return func(t *testing.T, h helm) {
		t.Helper()
		patch := `{"metadata":{"labels":` + labels + `}}`
		expect.Value(shared.client.CoreV1().Secrets(h.namespace).Patch(t.Context(), cluster.RecordName(release, revision),
			types.MergePatchType, []byte(patch), metav1.PatchOptions{}))(t)
	}
}

// deleteNamespace returns when nothing is left of the namespace.
func deleteNamespace(t *testing.T, h helm) {
	t.Helper()
	namespaces := shared.client.CoreV1().Namespaces()
	expect.NoError(t, namespaces.Delete(t.Context(), h.namespace, metav1.DeleteOptions{}))
	eventually(t, 2*patience, func() error {
		_, err := namespaces.Get(t.Context(), h.namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("the namespace is still there"), err)
	})
}

// createUncompressed writes a record as the first versions of Helm did.
func createUncompressed(t *testing.T, h helm) {
	t.Helper()
	document := fmt.Sprintf(`{"name":"old","namespace":%q,"version":1,`+
		`"info":{"first_deployed":"2019-11-13T16:00:00.5Z","last_deployed":"2019-11-13T17:30:00.123456789+01:00","deleted":"",`+
		`"description":"Install complete","status":"deployed"},`+
		`"chart":{"metadata":{"name":"relic","version":"0.1.0","appVersion":"1.16.0","apiVersion":"v1"}}}`, h.namespace)
	write(t, h.namespace, cluster.Secret("old", 1, "deployed", payload.Base64([]byte(document))))
}

// TestTruthInConfigMaps does the same as TestTruth for a Helm that keeps its records in ConfigMaps.
func TestTruthInConfigMaps(t *testing.T) {
	t.Parallel()
	admin := shared.kubeconfig(t, access{})
	observers := []observer{
		{startExporter(t, admin, "--storage=configmaps"), view{}},
		{startExporter(t, admin, "--storage=configmaps,secrets"), view{}},
	}
	s := story{
		steps: []step{
			does("install app chart:site-settings"),
			fails("upgrade app chart:site-settings --set broken=true", refusedKey),
			does("rollback app 1"),
			does("install my.app chart:deprecated"),
			does("uninstall app"),
		},
		end: "my.app: v1 deployed",
	}
	inBoth(t, "maps", "configmap", func(t *testing.T, h helm) { s.tell(t, h, observers) })
}

// TestReleaseInBothStorages installs a release of the same name in both storages. Helm knows only the one in the
// storage that it uses. The exporter has to expose the one in Secrets and to count the conflict, and to expose the
// other one when the first has gone.
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
