package watch

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

func TestAListForgetsARecordThatIsOfNoUseAnyMore(t *testing.T) {
	object := func(version string) *record {
		return parseRecord(release.Secrets, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "by-hand", UID: "u", Labels: map[string]string{"name": "a", "version": version},
		}}, nil)
	}
	w := &Watcher{index: make(index)}
	was, is := object("1"), object("none")
	w.index.Insert(was.key(), &was.revision)
	w.index.Refresh(was.key())
	for _, key := range w.retain(&source{storage: release.Secrets}, []change{{is: is}}) {
		w.index.Refresh(key)
	}
	if got := w.index.Get(was.key()); got != nil {
		t.Errorf("still shows revision %d of a record whose number nobody knows", got.Newest.Number)
	}
}
