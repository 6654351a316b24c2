package e2e_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fact is what Helm says of one release, and what the API server says of the
// record of its newest revision.
type fact struct {
	listed
	deployed int // the newest revision that Helm calls deployed, 0 if none
	stored   int // how many revisions Helm has
	record   record
}

// record is one stored revision as the API server keeps it.
type record struct {
	meta    metav1.ObjectMeta
	payload []byte
}

// facts asks Helm and the API server about all releases of a namespace.
func (h helm) facts(t *testing.T) []fact {
	t.Helper()
	records := h.records(t)
	var facts []fact
	for _, l := range h.list(t) {
		object := fmt.Sprintf("sh.helm.release.v1.%s.v%d", l.Name, l.Revision)
		r, ok := records[object]
		if !ok {
			t.Fatalf("Helm lists revision %d of %s, but there is no %s", l.Revision, l.Name, object)
		}
		f := fact{listed: l, record: r}
		for _, revision := range h.history(t, l.Name) {
			f.stored++
			if revision.Status == "deployed" {
				f.deployed = max(f.deployed, revision.Revision)
			}
		}
		facts = append(facts, f)
	}
	return facts
}

// labelled replaces what Helm reads in the payloads by what the records' labels
// say. The two differ only after somebody edited labels by hand.
func (h helm) labelled(t *testing.T, facts []fact) []fact {
	t.Helper()
	for i := range facts {
		f := &facts[i]
		f.Status = f.record.meta.Labels["status"]
		f.deployed = 0
		for _, r := range h.records(t) {
			if r.meta.Labels["name"] != f.Name || r.meta.Labels["status"] != "deployed" {
				continue
			}
			number, err := strconv.Atoi(r.meta.Labels["version"])
			if err != nil {
				t.Fatal(err)
			}
			f.deployed = max(f.deployed, number)
		}
	}
	return facts
}

// records returns Helm's records in a namespace by the names of their objects.
func (h helm) records(t *testing.T) map[string]record {
	t.Helper()
	records := make(map[string]record)
	options := metav1.ListOptions{LabelSelector: "owner=helm"}
	if h.driver == "configmap" {
		list, err := shared.client.CoreV1().ConfigMaps(h.namespace).List(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list.Items {
			records[c.Name] = record{c.ObjectMeta, []byte(c.Data["release"])}
		}
		return records
	}
	list, err := shared.client.CoreV1().Secrets(h.namespace).List(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Items {
		records[s.Name] = record{s.ObjectMeta, s.Data["release"]}
	}
	return records
}

// modified is the last write to the record by anyone.
func (r record) modified() time.Time {
	var last time.Time
	for _, field := range r.meta.ManagedFields {
		if field.Time.After(last) {
			last = field.Time.Time
		}
	}
	return last
}
