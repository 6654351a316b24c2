package watch

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// encode writes an object as the API server does.
func encode(t testing.TB, obj runtime.Object) []byte {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	gvks, _, err := scheme.ObjectKinds(obj)
	if err != nil {
		t.Fatal(err)
	}
	obj.GetObjectKind().SetGroupVersionKind(gvks[0])
	var b bytes.Buffer
	if err := protobuf.NewSerializer(scheme, scheme).Encode(obj, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func secret(data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: "sh.helm.release.v1.a.v1", Namespace: "ns", UID: "uid-1", ResourceVersion: "9",
			Labels:        map[string]string{"owner": "helm"},
			Annotations:   map[string]string{"large": strings.Repeat("x", 20_000)},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "Helm", FieldsV1: metav1.NewFieldsV1("{}")}},
		},
		Type: secretType,
		Data: data,
	}
}

func TestSeekPayload(t *testing.T) {
	payload := bytes.Repeat([]byte("payload "), 10_000)
	text := string(payload)
	configMap := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "sh.helm.release.v1.a.v1", UID: "uid-1", ResourceVersion: "9"},
		Data:       map[string]string{"another": "value", "release": text},
	}
	for name, tc := range map[string]struct {
		answer []byte
		uid    string
		want   string
		err    error
	}{
		"a Secret": {
			answer: encode(t, secret(map[string][]byte{"release": payload})), uid: "uid-1", want: text,
		},
		"a Secret with other keys before and behind": {
			answer: encode(t, secret(map[string][]byte{"a": []byte("x"), "release": payload, "releases": []byte("y")})), uid: "uid-1", want: text,
		},
		"a ConfigMap": {answer: encode(t, configMap), uid: "uid-1", want: text},
		"an empty payload": {
			answer: encode(t, secret(map[string][]byte{"release": {}})), uid: "uid-1",
		},
		"no payload key": {
			answer: encode(t, secret(map[string][]byte{"other": payload})), uid: "uid-1", err: errNoPayload,
		},
		"no data at all": {answer: encode(t, secret(nil)), uid: "uid-1", err: errNoPayload},
		"another record of the same name": {
			answer: encode(t, secret(map[string][]byte{"release": payload})), uid: "uid-2", err: errReplaced,
		},
		"JSON, which was not asked for": {answer: []byte(`{"kind":"Secret"}`), uid: "uid-1", err: errProtobuf},
		"an answer cut off in the metadata": {
			answer: encode(t, secret(nil))[:200], uid: "uid-1", err: io.ErrUnexpectedEOF,
		},
		"nothing": {uid: "uid-1", err: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			r := bufio.NewReaderSize(bytes.NewReader(tc.answer), 64)
			version, size, err := seekPayload(r, release.ParseUID(tc.uid))
			if !errors.Is(unexpectedEnd(err), tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				return
			}
			if size != len(tc.want) || version != 9 {
				t.Fatalf("size %d and version %d, want %d and 9", size, version, len(tc.want))
			}
			got := make([]byte, size)
			if _, err := io.ReadFull(r, got); err != nil || string(got) != tc.want {
				t.Fatalf("the payload does not follow (err %v)", err)
			}
		})
	}
}

// TestSeekPayloadOfDamagedAnswers flips bytes: whatever comes, it is an error or a size, and never a wait or a
// panic.
func TestSeekPayloadOfDamagedAnswers(t *testing.T) {
	answer := encode(t, secret(map[string][]byte{"release": []byte("payload")}))
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		damaged := bytes.Clone(answer)
		damaged[random.IntN(len(damaged))] ^= byte(1 << random.IntN(8))
		if _, size, err := seekPayload(bufio.NewReader(bytes.NewReader(damaged)), release.ParseUID("uid-1")); err == nil && size < 0 {
			t.Fatalf("size %d", size)
		}
	}
}

// FuzzSeekPayload reads answers to a GET: whatever comes is an error or a size that is possible. What the API's own
// decoder makes of the same bytes, written again as the API server does, has this very payload.
func FuzzSeekPayload(f *testing.F) {
	s := secret(map[string][]byte{"a": []byte("x"), "release": []byte("payload"), "z": {}})
	s.Annotations = nil
	f.Add(encode(f, s))
	s.Data = nil
	f.Add(encode(f, s))
	f.Add(encode(f, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{UID: "uid-1", ResourceVersion: "9"}, Data: map[string]string{"release": "payload"}}))
	f.Add([]byte("k8s\x00"))
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		f.Fatal(err)
	}
	serializer := protobuf.NewSerializer(scheme, scheme)
	f.Fuzz(func(t *testing.T, answer []byte) {
		if _, size, err := seekPayload(bufio.NewReader(bytes.NewReader(answer)), release.ParseUID("uid-1")); err == nil && size < 0 {
			t.Fatalf("size %d", size)
		}
		decoded, _, err := serializer.Decode(answer, nil, nil)
		if err != nil {
			return
		}
		var meta metav1.ObjectMeta
		want := make(map[string][]byte)
		switch obj := decoded.(type) {
		case *corev1.Secret:
			meta, want = obj.ObjectMeta, obj.Data
		case *corev1.ConfigMap:
			meta = obj.ObjectMeta
			for key, value := range obj.Data {
				want[key] = []byte(value)
			}
		default:
			return
		}
		if len(meta.UID) > 1<<10 || len(meta.ResourceVersion) > 1<<10 || slices.ContainsFunc(slices.Collect(maps.Keys(want)), func(key string) bool { return len(key) > 1<<10 }) {
			return // the API server allows none of these
		}
		var again bytes.Buffer
		if err := serializer.Encode(decoded, &again); err != nil {
			return
		}
		r := bufio.NewReader(&again)
		version, size, err := seekPayload(r, release.ParseUID(string(meta.UID)))
		payload, has := want["release"]
		if !has {
			if !errors.Is(err, errNoPayload) {
				t.Fatalf("error %v without a payload", err)
			}
			return
		}
		if err != nil || size != len(payload) || version != parseResourceVersion(meta.ResourceVersion) {
			t.Fatalf("size %d and version %d, error %v; want %d and %q", size, version, err, len(payload), meta.ResourceVersion)
		}
		got := make([]byte, size)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("got %q, %v; want %q", got, err, payload)
		}
	})
}
