package e2e_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/docs"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

var (
	operations = flag.Int("operations", 300, "how many random operations TestAgreement does")
	randomSeed = flag.Uint64("seed", 1, "seed of the random operations")
	// agreementReport is written by TestAgreement and TestOutages.
	agreementReport = flag.String("agreement-report", "", "the file into which they write their tables")
)

const (
	// rightWithin limits the time from the last write until the exposition is right, and healedWithin the time from the
	// end of an outage.
	rightWithin  = time.Second
	healedWithin = 5 * time.Second
	// usuallyWithin is the limit for 99 of 100 writes, of so many that a busy moment does not decide.
	usuallyWithin = 100 * time.Millisecond
)

// TestAgreement compares what is exposed with the records after each of a number of random operations, by hand and by
// both Helms, in both storages, with the faults of TestFaults in between. It is not parallel because it kills the API
// server of all tests, and the first of all, so that all records are its own.
func TestAgreement(t *testing.T) {
	began := time.Now()
	w := newWorld(t, secretStorage, mapStorage)
	w.view.labels = map[string]string{"team": "label_team"}
	w.flags = []string{"--storage=secrets,configmaps", "--release-labels=team"}
	w.countsToo = true
	s := newStage(t, w)
	faults := slices.DeleteFunc(slices.Concat(serverFaults, []fault{exporterKilled}), func(f fault) bool { return !f.quick && *operations < 1000 })
	w.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	took := make(map[string][]time.Duration)
	var late []string
	between := max(*operations/60, 80) // operations between two faults
	for suffered := 0; w.did < *operations; {
		kind := "write"
		switch {
		case w.did/between > suffered:
			fault := faults[suffered%len(faults)]
			t.Logf("after %d operations: %s", w.did, fault.what)
			_, healed := s.suffer(t, fault.andOperations(w.IntN(30)), 0)
			took["fault"] = append(took["fault"], healed)
			s.leadTo(t, shared.config.Host)
			eventually(t, healedWithin, func() error { return watchUp(s, 1) })
			suffered++
			continue
		case w.chance(1):
			kind = "Helm command"
			w.helm(t)
		case w.chance(10):
			kind = "burst of writes"
			for range 2 + w.IntN(4) {
				w.operate(t)
			}
		default:
			w.operate(t)
		}
		after := w.agrees(t, s.exporter, healedWithin)
		if took[kind] = append(took[kind], after); after > rightWithin {
			late = append(late, fmt.Sprintf("right only %s after a %s, %d operations from the start", short(after), kind, w.did))
		}
	}
	var table strings.Builder
	fmt.Fprintf(&table, "| %d operations, seed %d, in %s | compared | median | 99th percentile | maximum |\n|---|---:|---:|---:|---:|\n",
		w.did, *randomSeed, time.Since(began).Round(time.Second))
	for _, kind := range slices.Sorted(maps.Keys(took)) {
		all := took[kind]
		slices.Sort(all)
		fmt.Fprintf(&table, "| %s | %d | %s | %s | %s |\n", kind, len(all), short(all[len(all)/2]), short(all[len(all)*99/100]), short(all[len(all)-1]))
	}
	for _, h := range w.helms {
		if *operations >= 1000 && w.helmed[h] == 0 {
			t.Errorf("no command of %s with %ss succeeded", h.version, h.driver)
		}
	}
	reportAgreement(t, "agreement", table.String()) // also if it was slow, which is no difference
	for _, what := range late {
		t.Error(what)
	}
	if writes := took["write"]; len(writes) > 1000 && writes[len(writes)*99/100] > usuallyWithin {
		t.Errorf("1 write of 100 is shown later than %s", usuallyWithin)
	}
}

// andOperations is the same fault with more operations while it lasts.
func (f fault) andOperations(n int) fault {
	begin := f.begin
	f.begin = func(t *testing.T, s *stage) func() {
		end := begin(t, s)
		for !f.still && n > 0 {
			s.operate(t)
			n--
		}
		return end
	}
	return f
}

var exporterKilled = fault{
	what: "exporter killed, and started again", quick: true,
	begin: func(_ *testing.T, s *stage) func() {
		s.exporter.Kill()
		return s.start
	},
}

// reportAgreement writes a table, into the file too if one is given.
func reportAgreement(t *testing.T, name, table string) {
	t.Helper()
	t.Log("\n" + table)
	if *agreementReport != "" && !t.Failed() {
		docs.Check(t, true, docs.Part{File: *agreementReport, Name: name, Text: table})
	}
}

// world is a set of namespaces whose records are changed at random.
type world struct {
	*rand.Rand
	namespaces []string
	storages   []string
	view       view
	helms      []helm
	charts     int                  // how many there have been
	next       []func(t *testing.T) // the writes that are left of a Helm command that is done by hand
	did        int                  // how many operations have been done
	helmed     map[helm]int         // how many commands of each Helm have succeeded
	known      map[string]series    // what each namespace calls for, of those that have not changed since
	flags      []string             // of exporters
	countsToo  bool                 // whether the counts over all releases are compared
}

// newWorld creates the namespaces, in which records are kept in the given storages, or in Secrets.
func newWorld(t *testing.T, storages ...string) *world {
	t.Helper()
	t.Logf("the seed of the random operations is -seed=%d", *randomSeed)
	w := &world{Rand: rand.New(rand.NewPCG(*randomSeed, 0)), storages: storages, known: make(map[string]series), helmed: make(map[helm]int)}
	if len(storages) == 0 {
		w.storages = []string{secretStorage}
	}
	for range 4 {
		w.namespaces = append(w.namespaces, newNamespace(t, "agree"))
	}
	for _, storage := range w.storages {
		for _, version := range []string{"helm3", "helm4"} {
			h := newHelm(t, version, newNamespace(t, version), strings.TrimSuffix(storage, "s"))
			w.helms = append(w.helms, h)
			w.namespaces = append(w.namespaces, h.namespace)
		}
	}
	return w
}

// pick returns one of some values.
func pick[T any](w *world, from ...T) T { return from[w.IntN(len(from))] }

// chance is true in so many of a hundred cases.
func (w *world) chance(percent int) bool { return w.IntN(100) < percent }

// operate does one operation by hand in one of the namespaces, also in those of Helm.
func (w *world) operate(t *testing.T) {
	t.Helper()
	w.did++
	if len(w.next) > 0 {
		w.next[0](t)
		w.next = w.next[1:]
		return
	}
	namespace, storage := pick(w, w.namespaces...), pick(w, w.storages...)
	defer delete(w.known, namespace)
	records := storedIn(t, namespace, storage)
	name := pick(w, "app", "my.app", "my.app.v2", "other")
	do := w.IntN(100)
	if len(records) == 0 {
		do = w.IntN(45)
	}
	switch {
	case do < 25: // the next revision of a release, one in between, or one that replaces another of the same name
		w.create(t, namespace, storage, name, max(newest(records, name)+1-w.IntN(2), 1+w.IntN(3)), w.status())
	case do < 43:
		w.next = w.byHand(namespace, storage, name, records)
	case do < 45:
		w.stranger(t, namespace, storage, name)
	case do < 75:
		w.edit(t, pick(w, records...))
	case do < 92:
		pick(w, records...).remove(t)
	case do < 96: // all of a release
		removeAll(t, namespace, storage, cluster.Owner+",name="+name)
	default: // all of the namespace, and one again
		removeAll(t, namespace, storage, cluster.Owner)
		w.create(t, namespace, storage, "app", 1, w.status())
	}
}

func (w *world) status() string {
	return pick(w, append(allStatuses, "deployed", "superseded")...)
}

// create writes a record with a chart that no other record has, or a payload that cannot be decoded. It replaces a
// record of the same name.
func (w *world) create(t *testing.T, namespace, storage, name string, number int, status string) {
	t.Helper()
	s := cluster.Secret(name, number, status, w.payload())
	if w.chance(20) {
		s.Labels["team"] = pick(w, "red", "blue")
	}
	s.Namespace = namespace
	r := storedRecord{record{s.ObjectMeta, s.Data[cluster.PayloadKey]}, storage}
	r.remove(t) // Usually there is none.
	expect.NoError(t, api().Post().Namespace(namespace).Resource(storage).Body(r.object()).Do(t.Context()).Error())
}

// payload returns one of another size than most others.
func (w *world) payload() []byte {
	if w.chance(10) {
		return []byte(pick(w, slices.Sorted(maps.Keys(undecodables()))...))
	}
	w.charts++
	document := strings.Replace(validHead, `"name":"valid"`, fmt.Sprintf(`"name":"chart-%d"`, w.charts), 1)
	return stored(document + string(payload.Base64(garbage(1+w.IntN(4000)))) + `"}`)
}

// undecodables returns the small payloads that cannot be decoded, with the reasons.
func undecodables() map[string]string {
	reasons := make(map[string]string)
	for _, bad := range badPayloads {
		if bad.reason != "" && len(bad.payload) < 1000 {
			reasons[string(bad.payload)] = bad.reason
		}
	}
	return reasons
}

// edit changes a label of a record, or takes back an earlier change, or writes the record again.
func (w *world) edit(t *testing.T, r storedRecord) {
	t.Helper()
	set := func(label string, values ...string) {
		r.meta.Labels[label] = pick(w, values...)
		if r.meta.Labels[label] == "" {
			delete(r.meta.Labels, label)
		}
	}
	name, number := r.inName()
	switch w.IntN(7) {
	case 0, 1:
		set("status", w.status(), w.status(), "", "Deployed")
	case 2: // The record moves to another release.
		set("name", name, name, "moved", "other", "")
	case 3: // There may be two revisions with this number.
		set("version", number, number, "1", "2", "7", "x", "0", "")
	case 4:
		set("owner", "helm", "helm", "somebody", "")
	case 5:
		set("team", "red", "blue", "")
	case 6: // Nothing else ever changes a payload that can be decoded.
		if _, undecodable := undecodables()[string(r.payload)]; undecodable {
			r.payload = w.payload()
		}
	}
	r.update(t)
}

// stranger creates something that is no record: it has another type or name.
func (w *world) stranger(t *testing.T, namespace, storage, name string) {
	t.Helper()
	s := cluster.Secret(name, 9, "deployed", validPayload())
	s.Namespace, s.Name = namespace, "stranger"
	r := storedRecord{record{s.ObjectMeta, nil}, storage}
	r.remove(t)
	object := r.object()
	if secret, ok := object.(*corev1.Secret); ok {
		secret.Type = "operatorframework.io/bundle-chunk"
	}
	expect.NoError(t, api().Post().Namespace(namespace).Resource(storage).Body(object).Do(t.Context()).Error())
}

// byHand returns the writes of a Helm command in Helm's order, or the first of them: Helm may be killed.
func (w *world) byHand(namespace, storage, name string, records []storedRecord) []func(*testing.T) {
	var writes []func(*testing.T)
	last := newest(records, name)
	create := func(number int, status string) {
		writes = append(writes, func(t *testing.T) { w.create(t, namespace, storage, name, number, status); delete(w.known, namespace) })
	}
	// become updates the records of the release that have a status, any if it is empty, from a number on.
	become := func(was, is string, from int) {
		writes = append(writes, func(t *testing.T) {
			delete(w.known, namespace)
			for _, r := range storedIn(t, namespace, storage) {
				if n, _ := strconv.Atoi(r.meta.Labels["version"]); r.meta.Labels["name"] == name && n >= from && (was == "" || r.meta.Labels["status"] == was) {
					r.meta.Labels["status"] = is
					r.update(t)
				}
			}
		})
	}
	switch do := w.IntN(10); {
	case last == 0:
		create(1, "pending-install")
		become("", pick(w, "deployed", "deployed", "failed"), 1)
	case do < 4: // upgrade
		create(last+1, "pending-upgrade")
		become("deployed", "superseded", 1)
		become("pending-upgrade", "deployed", last+1)
	case do < 6: // an upgrade that fails and is rolled back
		create(last+1, "pending-upgrade")
		become("deployed", "deployed", 1)
		become("pending-upgrade", "failed", last+1)
		create(last+2, "pending-rollback")
		become("deployed", "superseded", 1)
		become("pending-rollback", "deployed", last+2)
	default: // uninstall, and at times keep the history
		become("", "uninstalling", last)
		if w.chance(30) {
			become("deployed", "superseded", 1)
			become("", "uninstalled", last)
			break
		}
		for _, r := range records {
			if r.meta.Labels["name"] == name {
				writes = append(writes, func(t *testing.T) { r.remove(t); delete(w.known, namespace) })
			}
		}
	}
	if w.chance(20) {
		writes = writes[:1+w.IntN(len(writes))]
	}
	return writes
}

// newest returns the highest number of a release's records, 0 if it has none.
func newest(records []storedRecord, name string) int {
	highest := 0
	for _, r := range records {
		if r.meta.Labels["name"] == name {
			number, _ := strconv.Atoi(r.meta.Labels["version"])
			highest = max(highest, number)
		}
	}
	return highest
}

// helm runs a command that may fail, for example after the records that it needs were deleted by hand.
func (w *world) helm(t *testing.T) {
	t.Helper()
	w.did++
	h, app := pick(w, w.helms...), pick(w, "app", "my.app")
	delete(w.known, h.namespace)
	if h.command(pick(w,
		"upgrade --install "+app+" chart:site-settings --labels=team=green", "upgrade --install "+app+" chart:web --history-max=3",
		"upgrade "+app+" chart:site-settings --set broken=true", "upgrade "+app+" chart:site-settings --set broken=true --roll-back",
		"rollback "+app, "uninstall "+app, "uninstall "+app+" --keep-history", "test "+app,
	)).Run() == nil {
		w.helmed[h]++
	}
}

// agrees returns how long it took until /metrics and the JSON were what the records say, which must not be too long.
func (w *world) agrees(t *testing.T, e *exporter, within time.Duration) time.Duration {
	t.Helper()
	written := time.Now()
	want := w.truth(t)
	inJSON := want.inJSON()
	for {
		got, err := e.plain(func(name string) bool { _, wanted := want[name]; return wanted || w.has(name) })
		var listed series
		if err == nil && want.about(got) {
			if listed, err = e.listed(); err == nil && inJSON.about(listed.inNamespaces(w.namespaces...)) {
				return time.Since(written)
			}
		}
		if time.Since(written) > within {
			t.Fatalf("not right after %s: %v", within, errors.Join(err, expect.Same("/metrics differs", want, got, sizeWhenRead),
				expect.Same("the JSON differs", inJSON, listed, sizeWhenRead)))
		}
	}
}

// has reports whether a series is about a release in one of the namespaces.
func (w *world) has(series string) bool {
	_, from, _ := strings.Cut(series, `namespace="`)
	namespace, _, _ := strings.Cut(from, `"`)
	return strings.HasPrefix(series, "helm_release_") && slices.Contains(w.namespaces, namespace)
}

// about reports whether series are the same, like cmp.Equal with sizeWhenRead, but quickly.
func (s series) about(other series) bool {
	for name, value := range s {
		got, ok := other[name]
		if !ok || value != got && !(strings.HasPrefix(name, "helm_release_payload_bytes{") && math.Abs(value-got) < 512) {
			return false
		}
	}
	return len(s) == len(other)
}

// plain returns some series as they are written in a scrape. It is much quicker than scrape.
func (e *exporter) plain(keep func(name string) bool) (series, error) {
	status, body, err := e.get("/metrics")
	if err != nil || status != http.StatusOK {
		return nil, errors.Join(err, fmt.Errorf("/metrics answers %d", status))
	}
	all := make(series)
	for line := range strings.Lines(body) {
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 || !keep(line[:at]) {
			continue
		}
		if _, twice := all[line[:at]]; twice {
			return nil, fmt.Errorf("%s occurs twice", line[:at])
		}
		if all[line[:at]], err = strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// inJSON returns those series whose values the JSON has, too.
func (s series) inJSON() series {
	s = maps.Clone(s)
	maps.DeleteFunc(s, func(name string, _ float64) bool {
		return strings.HasPrefix(name, "helm_state_metrics_") || strings.HasPrefix(name, "helm_release_stored_revisions{") ||
			strings.HasPrefix(name, "helm_release_labels{")
	})
	return s
}

// listed returns what the JSON says of all releases, as the series that it calls for.
func (e *exporter) listed() (series, error) {
	_, body, err := e.get("/api/v1/releases")
	var answer struct {
		Releases []struct {
			Namespace, Name, Status, Chart, ChartVersion, AppVersion string
			Revision, DeployedRevision, PayloadBytes                 int
			Created, Modified, LastDeployed                          time.Time
			Head, HeadProblem                                        string
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
		if r.HeadProblem != "" {
			maps.Copy(all, undecodable(r.Namespace, r.Name, r.HeadProblem))
		}
	}
	return all.inJSON(), nil
}

// truth returns the series that the exporter should have for all namespaces. Only those that may have changed are read.
func (w *world) truth(t *testing.T) series {
	t.Helper()
	want := make(series)
	for _, namespace := range w.namespaces {
		if w.known[namespace] == nil {
			w.known[namespace] = w.calledFor(t, namespace)
		}
		for name, value := range w.known[namespace] {
			switch {
			case strings.HasPrefix(name, "helm_release_"):
				want[name] = value
			case w.countsToo:
				want[name] += value
			}
		}
	}
	return want
}

// calledFor returns the series that the records of a namespace call for, and the counts.
func (w *world) calledFor(t *testing.T, namespace string) series {
	t.Helper()
	releases := make(map[string]map[string][]storedRecord) // by name and storage
	for _, storage := range w.storages {
		for _, r := range storedIn(t, namespace, storage) {
			name, number := r.named()
			if name == "" || number == 0 || r.meta.Labels["owner"] != "helm" {
				continue
			}
			if releases[name] == nil {
				releases[name] = make(map[string][]storedRecord)
			}
			releases[name][storage] = append(releases[name][storage], r)
		}
	}
	want := series{"helm_state_metrics_payloads_pending": 0, "helm_state_metrics_releases_in_both_storages": 0, "helm_state_metrics_revisions_tracked": 0}
	counted := func(status string) string {
		return seriesName("helm_state_metrics_releases", map[string]string{"status": status})
	}
	for _, status := range allStatuses {
		want[counted(status)] = 0
	}
	for name, in := range releases {
		shown := in[secretStorage]
		if shown == nil {
			shown = in[mapStorage]
		}
		x := w.expect(name, shown)
		w.view.add(want, x)
		if reason, bad := undecodables()[string(x.record.payload)]; bad {
			maps.Copy(want, undecodable(namespace, name, reason))
		}
		if _, known := want[counted(x.status)]; known {
			want[counted(x.status)]++
		} else {
			want[counted("unknown")]++
		}
		want["helm_state_metrics_revisions_tracked"] += float64(len(in[secretStorage]) + len(in[mapStorage]))
		if len(in) == 2 {
			want["helm_state_metrics_releases_in_both_storages"]++
		}
	}
	return want
}

// expect describes a release by the records of one storage, in the simplest way.
func (w *world) expect(name string, records []storedRecord) expected {
	newest := slices.MaxFunc(records, func(a, b storedRecord) int {
		_, first := a.named()
		_, second := b.named()
		// Two records have the same number after a label was edited. The one that was created later counts.
		return cmp.Or(first-second, a.meta.CreationTimestamp.Compare(b.meta.CreationTimestamp.Time), strings.Compare(string(a.meta.UID), string(b.meta.UID)))
	})
	_, number := newest.named()
	x := expected{name: name, status: newest.meta.Labels["status"], revision: number, stored: len(records), record: newest.record}
	for _, r := range records {
		if _, number := r.named(); r.meta.Labels["status"] == "deployed" {
			x.deployed = max(x.deployed, number)
		}
	}
	if full, err := payload.Decode(newest.payload); err == nil {
		x.chart, x.updated = full.Chart.Metadata, full.Info.LastDeployed.Unix()
	}
	return x
}

var allStatuses = strings.Fields("deployed failed pending-install pending-rollback pending-upgrade superseded uninstalled uninstalling unknown")

const (
	secretStorage = "secrets"
	mapStorage    = "configmaps"
)

// storedRecord is a record in its storage.
type storedRecord struct {
	record
	storage string
}

// storedIn returns the objects of a namespace that are named like records, whoever their owner is, and are of the type
// of Helm's Secrets.
func storedIn(t *testing.T, namespace, storage string) []storedRecord {
	t.Helper()
	var records []storedRecord
	add := func(meta metav1.ObjectMeta, payload []byte) {
		if recordName.MatchString(meta.Name) {
			records = append(records, storedRecord{record{meta, payload}, storage})
		}
	}
	if storage == mapStorage {
		list := expect.Value(shared.client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{}))(t)
		for _, c := range list.Items {
			add(c.ObjectMeta, []byte(c.Data[cluster.PayloadKey]))
		}
		return records
	}
	list := expect.Value(shared.client.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "type=" + cluster.RecordType}))(t)
	for _, s := range list.Items {
		add(s.ObjectMeta, s.Data[cluster.PayloadKey])
	}
	return records
}

var recordName = regexp.MustCompile(`^sh\.helm\.release\.v1\.(.+)\.v([1-9][0-9]*)$`)

// inName returns the release and the number that the name of the object says.
func (r storedRecord) inName() (name, number string) {
	match := recordName.FindStringSubmatch(r.meta.Name)
	return match[1], match[2]
}

// named returns the release and the number of a record: its labels say them, or else the name of its object.
func (r storedRecord) named() (name string, number int) {
	name, inName := r.inName()
	if label := r.meta.Labels["name"]; label != "" {
		name = label
	}
	if number, err := strconv.Atoi(r.meta.Labels["version"]); err == nil && number > 0 {
		return name, number
	}
	number, _ = strconv.Atoi(inName)
	return name, number
}

func (r storedRecord) object() runtime.Object {
	if r.storage == mapStorage {
		return &corev1.ConfigMap{ObjectMeta: r.meta, Data: map[string]string{cluster.PayloadKey: string(r.payload)}}
	}
	return &corev1.Secret{ObjectMeta: r.meta, Type: cluster.RecordType, Data: map[string][]byte{cluster.PayloadKey: r.payload}}
}

func api() rest.Interface { return shared.client.CoreV1().RESTClient() }

func (r storedRecord) update(t *testing.T) {
	t.Helper()
	r.meta.ResourceVersion = ""
	expect.NoError(t, api().Put().Namespace(r.meta.Namespace).Resource(r.storage).Name(r.meta.Name).Body(r.object()).Do(t.Context()).Error())
}

// remove deletes the record, if there is one.
func (r storedRecord) remove(t *testing.T) {
	t.Helper()
	err := api().Delete().Namespace(r.meta.Namespace).Resource(r.storage).Name(r.meta.Name).Do(t.Context()).Error()
	if !apierrors.IsNotFound(err) {
		expect.NoError(t, err)
	}
}

// removeAll deletes what a selector selects in a namespace.
func removeAll(t *testing.T, namespace, storage, selector string) {
	t.Helper()
	options := metav1.ListOptions{LabelSelector: selector}
	expect.NoError(t, api().Delete().Namespace(namespace).Resource(storage).VersionedParams(&options, scheme.ParameterCodec).Do(t.Context()).Error())
}
