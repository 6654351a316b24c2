package e2e_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

var (
	operations = flag.Int("operations", 200, "how many random operations TestAgreement does")
	randomSeed = flag.Uint64("seed", 1, "seed of the random operations")
)

const (
	// rightWithin limits the time from the last write until the exposition is right, and healedWithin the time from the
	// end of an outage.
	rightWithin  = time.Second
	healedWithin = 5 * time.Second
	// usuallyWithin is the limit for 99 of 100 writes.
	usuallyWithin = 100 * time.Millisecond
)

// TestAgreement compares what is exposed with the records after each of a number of random operations, by hand and by
// both Helms. From time to time the exporter or the API server is killed, or the connection between the two is broken
// while operations go on. It is not parallel because it kills the API server of all tests.
func TestAgreement(t *testing.T) {
	w := newWorld(t)
	r := newRelay(t)
	r.on(t)
	kubeconfig := shared.kubeconfig(t, r.access())
	e := startExporter(t, kubeconfig)
	e.awaitReady(t)
	took := make(map[string][]time.Duration)
	between := max(*operations/20, 25) // operations between two outages
	for n := range *operations {
		kind, within := "a write", rightWithin
		switch do := w.IntN(100); {
		case n%between == between-1:
			kind, within = "an outage", healedWithin
			switch n / between % 3 {
			case 0:
				e.Kill()
				w.operate(t)
				e = startExporter(t, kubeconfig)
			case 1:
				shared.restart(t, 0)
			case 2:
				r.Off()
				for range 5 {
					w.operate(t)
				}
				r.on(t)
			}
		case do < 3:
			kind = "a Helm command"
			w.helm(t)
		default:
			w.operate(t)
		}
		took[kind] = append(took[kind], w.agrees(t, e, within))
	}
	for _, kind := range slices.Sorted(maps.Keys(took)) {
		all := took[kind]
		slices.Sort(all)
		t.Logf("right after %s: %d times, median %s, 99th percentile %s, longest %s", kind, len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
	}
	if writes := took["a write"]; writes[len(writes)*99/100] > usuallyWithin {
		t.Errorf("1 write of 100 is shown later than %s", usuallyWithin)
	}
}

// world is a set of namespaces whose records are changed at random.
type world struct {
	*rand.Rand
	*controlPlane
	namespaces []string
	helms      []helm
	charts     int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := newWorldOf(t, shared)
	for _, version := range []string{"helm3", "helm4"} {
		w.helms = append(w.helms, newHelm(t, version, newNamespace(t, version), "secret"))
		w.namespaces = append(w.namespaces, w.helms[len(w.helms)-1].namespace)
	}
	return w
}

// newWorldOf returns one without Helm.
func newWorldOf(t *testing.T, c *controlPlane) *world {
	t.Helper()
	t.Logf("the seed of the random operations is -seed=%d", *randomSeed)
	w := &world{Rand: rand.New(rand.NewPCG(*randomSeed, 0)), controlPlane: c}
	for range 4 {
		w.namespaces = append(w.namespaces, c.newNamespace(t, "agree"))
	}
	return w
}

func (w *world) records(t *testing.T, namespace string) []corev1.Secret {
	t.Helper()
	list := expect.Value(w.client.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{
		LabelSelector: cluster.Owner, FieldSelector: "type=" + cluster.RecordType,
	}))(t)
	return list.Items
}

// operate does one operation by hand in one of the namespaces, also in those of Helm.
func (w *world) operate(t *testing.T) {
	t.Helper()
	namespace := w.namespaces[w.IntN(len(w.namespaces))]
	records := w.records(t, namespace)
	secrets := w.client.CoreV1().Secrets(namespace)
	do := w.IntN(20)
	if len(records) == 0 {
		do = 0
	}
	var err error
	switch one := records[min(w.IntN(len(records)+1), max(len(records)-1, 0)):]; {
	case do < 10: // the next revision of a release, or one in between
		name := []string{"app", "my.app", "my.app.v2", "other"}[w.IntN(4)]
		number := 1 + w.IntN(3)
		for _, r := range records {
			if r.Labels["name"] == name {
				version, _ := strconv.Atoi(r.Labels["version"])
				number = max(number, version+1-w.IntN(2))
			}
		}
		w.create(t, namespace, name, number)
	case do < 14:
		one[0].Labels["status"] = w.status()
		_, err = secrets.Update(t.Context(), &one[0], metav1.UpdateOptions{})
	case do < 15: // the label "name" is edited: the record moves to another release
		one[0].Labels["name"] = "moved"
		_, err = secrets.Update(t.Context(), &one[0], metav1.UpdateOptions{})
	case do < 18:
		err = secrets.Delete(t.Context(), one[0].Name, metav1.DeleteOptions{})
	case do < 19: // all of a release
		err = secrets.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: cluster.Owner + ",name=" + one[0].Labels["name"]})
	default: // all of the namespace, and one again
		err = secrets.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: cluster.Owner})
		w.create(t, namespace, "app", 1)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) status() string {
	return strings.Fields("deployed deployed failed superseded superseded uninstalled uninstalling pending-install pending-upgrade pending-rollback unknown")[w.IntN(11)]
}

// create writes a record with a chart that no other record has. It replaces a record of the same name.
func (w *world) create(t *testing.T, namespace, name string, number int) {
	t.Helper()
	w.charts++
	document := strings.Replace(validHead, `"name":"valid"`, fmt.Sprintf(`"name":"chart-%d"`, w.charts), 1) + `"}`
	secrets := w.client.CoreV1().Secrets(namespace)
	_ = secrets.Delete(t.Context(), cluster.RecordName(name, number), metav1.DeleteOptions{}) // Usually there is none.
	expect.Value(secrets.Create(t.Context(), cluster.Secret(name, number, w.status(), stored(document)), metav1.CreateOptions{}))(t)
}

// helm runs a command that may fail, for example after the records that it needs were deleted by hand.
func (w *world) helm(t *testing.T) {
	t.Helper()
	h := w.helms[w.IntN(len(w.helms))]
	app := []string{"app", "my.app"}[w.IntN(2)]
	command := []string{
		"upgrade --install " + app + " chart:site-settings", "upgrade --install " + app + " chart:web --history-max=3",
		"upgrade " + app + " chart:site-settings --set broken=true", "rollback " + app,
		"uninstall " + app, "uninstall " + app + " --keep-history",
	}[w.IntN(6)]
	_ = h.command(command).Run()
}

// agrees returns how long it took until /metrics and the JSON were what the records say, which must not be too long.
func (w *world) agrees(t *testing.T, e *exporter, within time.Duration) time.Duration {
	t.Helper()
	written := time.Now()
	want := w.truth(t)
	inJSON := maps.Clone(want)
	maps.DeleteFunc(inJSON, func(name string, _ float64) bool { return strings.HasPrefix(name, "helm_release_stored_revisions{") })
	for {
		shown := e.compares(want, func(all series) { all.inNamespaces(w.namespaces...) }, sizeWhenRead)()
		listed, err := e.listed()
		if err == nil {
			err = expect.Same("the JSON differs", inJSON, listed.inNamespaces(w.namespaces...), sizeWhenRead)
		}
		if err = errors.Join(shown, err); err == nil {
			return time.Since(written)
		}
		if time.Since(written) > within {
			t.Fatalf("not right after %s: %v", within, err)
		}
	}
}

// listed returns what the JSON says of all releases, as the series that it calls for. It does not say how many revisions
// are stored.
func (e *exporter) listed() (series, error) {
	_, body, err := e.get("/api/v1/releases")
	var answer struct {
		Releases []struct {
			Namespace, Name, Status, Chart, ChartVersion, AppVersion string
			Revision, DeployedRevision, PayloadBytes                 int
			Created, Modified, LastDeployed                          time.Time
			Head                                                     string
			Deprecated                                               bool
		}
	}
	if err := errors.Join(err, json.Unmarshal([]byte(body), &answer)); err != nil {
		return nil, fmt.Errorf("%w: %s", err, body)
	}
	all := make(series)
	for _, r := range answer.Releases {
		x := expected{name: r.Name, status: r.Status, revision: r.Revision, deployed: r.DeployedRevision, updated: r.LastDeployed.Unix()}
		x.record.meta.Namespace, x.record.meta.CreationTimestamp = r.Namespace, metav1.Time{Time: r.Created}
		x.record.meta.ManagedFields = []metav1.ManagedFieldsEntry{{Time: &metav1.Time{Time: r.Modified}}}
		x.record.payload = make([]byte, r.PayloadBytes)
		if r.Head == "decoded" {
			x.chart = &payload.Metadata{Name: r.Chart, Version: r.ChartVersion, AppVersion: r.AppVersion, Deprecated: r.Deprecated}
		}
		view{}.add(all, x)
	}
	maps.DeleteFunc(all, func(name string, _ float64) bool { return strings.HasPrefix(name, "helm_release_stored_revisions{") })
	return all, nil
}

// truth returns the series that the exporter should have for all namespaces.
func (w *world) truth(t *testing.T) series {
	t.Helper()
	want := make(series)
	for _, namespace := range w.namespaces {
		releases := make(map[string][]corev1.Secret)
		for _, r := range w.records(t, namespace) {
			releases[r.Labels["name"]] = append(releases[r.Labels["name"]], r)
		}
		for _, records := range releases {
			maps.Copy(want, shownByRecords(t, records))
		}
	}
	return want
}
