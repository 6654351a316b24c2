package e2e_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// story is a sequence of operations on the releases of one namespace.
type story struct {
	steps []step
	// end is how Helm sees the releases in the end, by their names. It makes
	// sure that the story went as it was meant to.
	end map[string]string
	// labelled says that labels were edited by hand, so that they, which the
	// exporter reads, differ from the payloads, which Helm reads.
	labelled bool
}

// TestTruth compares, after each operation, everything that is exposed with
// what Helm and the API server say.
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

// observer is an exporter, and how its flags change what it shows.
type observer struct {
	*exporter
	view
}

// tell does the steps. After each of them all observers must agree with the
// facts, and in the end an exporter that has seen nothing of it, too.
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
	if diff := cmp.Diff(s.end, summary(facts)); diff != "" {
		t.Errorf("the story did not end as it was meant to (-want +got):\n%s", diff)
	}
	storage := "--storage=" + h.driver + "s"
	late := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+h.namespace, storage)
	late.awaitReady(t)
	if err := late.shows(view{}.series(t, facts), h.namespace)(); err != nil {
		t.Errorf("an exporter that started late: %v", err)
	}
}

// sizeWhenRead takes a payload's size for right if it is about that of the
// record. A payload is read once, most often while the operation is still under
// way; then Helm writes the record again, with another description.
var sizeWhenRead = cmp.FilterPath(
	func(p cmp.Path) bool {
		at, ok := p.Last().(cmp.MapIndex)
		return ok && strings.HasPrefix(at.Key().String(), "helm_release_payload_bytes{")
	},
	cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 512 }),
)

// summary tells the newest revision of each release, and the deployed one
// where that is another.
func summary(facts []fact) map[string]string {
	told := make(map[string]string)
	for _, f := range facts {
		text := fmt.Sprintf("v%d %s", f.Revision, f.Status)
		if f.deployed > 0 && f.deployed != f.Revision {
			text += fmt.Sprintf(", v%d deployed", f.deployed)
		}
		told[f.Name] = text
	}
	return told
}

// step is one operation of a story.
type step func(*testing.T, helm)

// does is a Helm command that succeeds.
func does(line string) step {
	return func(t *testing.T, h helm) { t.Helper(); h.run(t, line) }
}

// fails is a Helm command that fails for a reason that its output tells.
func fails(line, reason string) step {
	return func(t *testing.T, h helm) { t.Helper(); h.fail(t, line, reason) }
}

// none is how a story ends that leaves no release behind.
var none = map[string]string{}
