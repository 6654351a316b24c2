package e2e_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// storiesByHand are what people do to records behind Helm's back.
var storiesByHand = map[string]story{
	"the way out of a failed upgrade: its record is deleted": {
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
	"labels of one's own come and go": {
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

// all joins steps into one, between which nobody looks.
func all(steps ...step) step {
	return func(t *testing.T, h helm) {
		t.Helper()
		for _, step := range steps {
			step(t, h)
		}
	}
}

// upgrades are so many upgrades of app.
func upgrades(n int) []step {
	var steps []step
	for i := range n {
		steps = append(steps, does(fmt.Sprintf("upgrade app chart:site-settings --set greeting=hello-%d", i)))
	}
	return steps
}

// killed is a Helm command that is killed while it waits for the Job that
// chart hook brings into being.
func killed(line string) step {
	return func(t *testing.T, h helm) {
		t.Helper()
		h.kill(t, line, func() error {
			_, err := shared.client.BatchV1().Jobs(h.namespace).Get(t.Context(), "app", metav1.GetOptions{})
			return err
		})
	}
}

// rewrites is a Helm command that writes the newest record of app again and
// makes no other.
func rewrites(line string) step {
	return func(t *testing.T, h helm) {
		t.Helper()
		before := h.records(t)
		h.run(t, line)
		after := h.records(t)
		const v1 = "sh.helm.release.v1.app.v1"
		if len(after) != 1 || before[v1].meta.ResourceVersion == after[v1].meta.ResourceVersion {
			t.Fatalf("%s did not write the record again", line)
		}
	}
}

func recordName(release string, revision int) string {
	return fmt.Sprintf("sh.helm.release.v1.%s.v%d", release, revision)
}

func deleteRecord(release string, revision int) step {
	return func(t *testing.T, h helm) {
		t.Helper()
		err := shared.client.CoreV1().Secrets(h.namespace).Delete(t.Context(), recordName(release, revision), metav1.DeleteOptions{})
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
		_, err := shared.client.CoreV1().Secrets(h.namespace).Patch(t.Context(), recordName(release, revision),
			types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// deleteNamespace returns when nothing is left of the namespace.
func deleteNamespace(t *testing.T, h helm) {
	t.Helper()
	namespaces := shared.client.CoreV1().Namespaces()
	if err := namespaces.Delete(t.Context(), h.namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
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
	payload := fmt.Sprintf(`{"name":"old","namespace":%q,"version":1,`+
		`"info":{"first_deployed":"2019-11-13T16:00:00.5Z","last_deployed":"2019-11-13T17:30:00.123456789+01:00","deleted":"",`+
		`"description":"Install complete","status":"deployed"},`+
		`"chart":{"metadata":{"name":"relic","version":"0.1.0","appVersion":"1.16.0","apiVersion":"v1"}}}`, h.namespace)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:   recordName("old", 1),
			Labels: map[string]string{"name": "old", "owner": "helm", "status": "deployed", "version": "1"},
		},
		Type: "helm.sh/release.v1",
		Data: map[string][]byte{"release": []byte(base64.StdEncoding.EncodeToString([]byte(payload)))},
	}
	if _, err := shared.client.CoreV1().Secrets(h.namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
