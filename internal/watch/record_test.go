package watch

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

func TestParseRecord(t *testing.T) {
	for name, tc := range map[string]struct {
		object   string
		storage  release.Storage
		labels   map[string]string
		want     release.Key
		number   int
		status   release.Status
		deviates deviation
	}{
		"labels come first": {
			object: "sh.helm.release.v1.a.v1", labels: map[string]string{"name": "my.app", "version": "12", "status": "failed"},
			want: release.Key{Namespace: "ns", Name: "my.app"}, number: 12, status: release.Failed,
		},
		"a missing name is taken from the object, dots included": {
			object: "sh.helm.release.v1.my.v2.app.v12", labels: map[string]string{"version": "12", "status": "deployed"},
			want: release.Key{Namespace: "ns", Name: "my.v2.app"}, number: 12, status: release.Deployed,
			deviates: noNameLabel,
		},
		"a version that is not a number is taken from the object": {
			object: "sh.helm.release.v1.a.v3", labels: map[string]string{"name": "a", "version": "latest"},
			want: release.Key{Namespace: "ns", Name: "a"}, number: 3, status: release.Unknown,
			deviates: noVersionLabel,
		},
		"a version too large for any number is taken from the object": {
			object: "sh.helm.release.v1.a.v3", labels: map[string]string{"name": "a", "version": "99999999999999999999"},
			want: release.Key{Namespace: "ns", Name: "a"}, number: 3, status: release.Unknown,
			deviates: noVersionLabel,
		},
		"a status that Helm does not know is unknown": {
			object: "sh.helm.release.v1.a.v1", labels: map[string]string{"name": "a", "version": "1", "status": "fine"},
			want: release.Key{Namespace: "ns", Name: "a"}, number: 1, status: release.Unknown,
		},
		"neither label nor object has a number": {
			object: "mine", labels: map[string]string{"name": "a"},
			deviates: notARecord,
		},
		"an object name with nothing between prefix and number names no release": {
			object:   "sh.helm.release.v1..v1",
			deviates: notARecord,
		},
		"a ConfigMap that is not named like a record is not one": {
			object: "settings", storage: release.ConfigMaps, labels: map[string]string{"name": "a", "version": "1"},
			deviates: notARecord,
		},
	} {
		t.Run(name, func(t *testing.T) {
			storage := tc.storage
			if storage == "" {
				storage = release.Secrets
			}
			obj := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: tc.object, Labels: tc.labels}}
			got := parseRecord(storage, obj, nil)
			if got.deviation != tc.deviates {
				t.Errorf("deviation %v, want %v", got.deviation, tc.deviates)
			}
			if got.GetName() != tc.object || got.GetNamespace() != "ns" {
				t.Errorf("stored as %s/%s", got.GetNamespace(), got.GetName())
			}
			if !got.usable() {
				return
			}
			if got.key() != tc.want || got.revision.Number != tc.number || got.revision.Status != tc.status {
				t.Errorf("got %v %d %s, want %v %d %s", got.key(), got.revision.Number, got.revision.Status, tc.want, tc.number, tc.status)
			}
		})
	}
}

func TestARecordTellsWhatItsObjectDoes(t *testing.T) {
	at := func(seconds int64) *metav1.Time { t := metav1.Unix(seconds, 0); return &t }
	obj := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: "sh.helm.release.v1.a.v2", UID: "u", ResourceVersion: "7",
		CreationTimestamp: *at(100),
		Labels:            map[string]string{"name": "a", "version": "2", "status": "deployed", "owner": "helm", "team": "x", "modifiedAt": "1"},
		ManagedFields: []metav1.ManagedFieldsEntry{
			{Manager: "Helm", Time: at(300)}, {Manager: "kubectl", Time: at(200)}, {Manager: "other"},
		},
	}}
	transformed, err := toRecords(release.Secrets, []string{"team"}, everyRelease)(obj)
	if err != nil {
		t.Fatal(err)
	}
	want := release.Revision{
		UID: release.ParseUID("u"), Number: 2, Status: release.Deployed, Storage: release.Secrets, ResourceVersion: 7,
		Created: 100, Modified: 300, Labels: map[string]string{"team": "x"},
	}
	if diff := cmp.Diff(want, transformed.(*record).revision); diff != "" {
		t.Errorf("revision (-want +got):\n%s", diff)
	}
	stored, err := meta.Accessor(transformed) // as client-go's stores do
	if err != nil {
		t.Fatal(err)
	}
	if stored.GetNamespace() != "ns" || stored.GetName() != obj.Name || stored.GetResourceVersion() != "7" || stored.GetLabels() != nil {
		t.Errorf("stored as %s/%s %s %v", stored.GetNamespace(), stored.GetName(), stored.GetResourceVersion(), stored.GetLabels())
	}
}

func everyRelease(release.Key) bool { return true }

// FuzzRecord checks that whoever writes an object cannot do more than name a release of the same namespace, and that the
// object is found again.
func FuzzRecord(f *testing.F) {
	f.Add("sh.helm.release.v1.my.app.v12", "my.app", "12", "deployed", "5", "8c5c1f9e-8a8e-4f5e-9d5e-2f1c7a3b9d11")
	f.Add("sh.helm.release.v1..v", "", "-1", "", "x", "")
	f.Add("by-hand", "a/b", "99999999999999999999", "DEPLOYED", "18446744073709551616", "\xff")
	f.Fuzz(func(t *testing.T, object, name, version, status, resourceVersion, uid string) {
		if object == "" { // every object has a name
			return
		}
		obj := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: object, UID: types.UID(uid), ResourceVersion: resourceVersion,
			Labels: map[string]string{"name": name, "version": version, "status": status},
		}}
		for _, storage := range []release.Storage{release.Secrets, release.ConfigMaps} {
			r := parseRecord(storage, obj, []string{"name"})
			if r.GetNamespace() != "ns" {
				t.Errorf("namespace %q", r.GetNamespace())
			}
			if !r.usable() {
				continue
			}
			if r.GetName() != object {
				t.Errorf("the object is called %q, not %q", r.GetName(), object)
			}
			if key := r.key(); key.Name == "" || name != "" && key.Name != name {
				t.Errorf("release %q, want %q", key.Name, name)
			}
			if r.revision.Number < 1 || !slices.Contains(release.Statuses(), r.revision.Status) {
				t.Errorf("revision %d, status %q", r.revision.Number, r.revision.Status)
			}
		}
	})
}
