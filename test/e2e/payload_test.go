package e2e_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// marker stands for what is secret in a payload: it must not turn up anywhere.
const marker = "hunter2-ee7f19c3"

// described is Helm's description, which only pages for people show.
const described = "Upgrade complete, says Helm"

// badPayloads are payloads of records that are otherwise in order.
var badPayloads = map[string]struct {
	payload []byte
	reason  string // of helm_state_metrics_decode_errors_total, empty if there is none
	info    string // the chart's name in helm_release_info, empty if there is none
}{
	"it is not base64":                   {[]byte("{" + marker + "}"), "base64", ""},
	"it is not gzip":                     {stored([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00\xff" + marker)), "gzip", ""},
	"it is cut off inside the head":      {cutOff(150), "truncated", ""},
	"it is cut off inside the base64":    {cutOff(151), "truncated", ""},
	"it is empty":                        {[]byte{}, "empty", ""},
	"it is not JSON":                     {stored(zipped([]byte("# " + marker))), "json", ""},
	"it is plain text":                   {stored([]byte(marker)), "json", ""},
	"it is JSON, but no release":         {stored(zipped([]byte(`["` + marker + `"]`))), "json", ""},
	"a mebibyte of base64 of garbage":    {stored(garbage(700 << 10)), "json", ""},
	"a mebibyte of garbage":              {garbage(1000 << 10), "base64", ""},
	"a gzip bomb in what is left out":    {bomb(`{"manifest":"`, "a"), "limit", ""},
	"a gzip bomb in what is kept":        {bomb(`{"info":{"description":"`, marker), "limit", ""},
	"its chart is null":                  {stored(zipped([]byte(`{"info":{"last_deployed":"2026-01-02T03:04:05Z"},"chart":null}`))), "", "MISSING"},
	"the chart's metadata is null":       {stored(zipped([]byte(`{"chart":{"metadata":null},"info":{"last_deployed":"2026-01-02T03:04:05Z"}}`))), "", "MISSING"},
	"it is damaged behind the head":      {damaged(), "", "sound"},
	"it is sound, and larger than most":  {large(), "", "sound"},
	"it is sound, with fields reordered": {stored(zipped([]byte(`{"manifest":"` + marker + `","chart":{"values":{"a":["` + marker + `"]},"metadata":{"version":"1.0.0","name":"sound","appVersion":"2"}},"info":{"last_deployed":"2026-01-02T03:04:05Z"}}`))), "", "sound"},
}

// soundHead is how Helm begins a payload; a string is still open at its end.
const soundHead = `{"name":"app","info":{"first_deployed":"2026-01-02T03:04:05Z","last_deployed":"2026-01-02T03:04:05Z","deleted":"",` +
	`"description":"` + described + `","status":"deployed"},"chart":{"metadata":{"name":"sound","version":"1.0.0","appVersion":"2"},` +
	`"templates":[]},"config":{"password":"` + marker + `"},"manifest":"`

func sound() []byte { return stored(zipped([]byte(soundHead + `"}`))) }

// large is sound, of hundreds of kilobytes that gzip cannot make smaller.
func large() []byte {
	return stored(zipped([]byte(soundHead + base64.StdEncoding.EncodeToString(garbage(500<<10)) + `"}`)))
}

// damaged is sound up to what is read of it.
func damaged() []byte {
	payload := large()
	copy(payload[len(payload)/2:], "!!!!"+marker)
	return payload
}

// cutOff is the first bytes of something sound.
func cutOff(size int) []byte { return sound()[:size] }

func stored(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }

func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// garbage is random, and always the same.
func garbage(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	copy(b[size/2:], marker)
	return b
}

// bomb is a payload of about half a mebibyte that inflates to half a gibibyte.
func bomb(start, more string) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	_, _ = w.Write([]byte(start))
	chunk := []byte(strings.Repeat(more, 1<<20/len(more)))
	for out.Len() < 384<<10 {
		_, _ = w.Write(chunk)
	}
	_ = w.Close()
	return stored(out.Bytes())
}

// secretRecord is a record as Helm's Secret driver writes it.
func secretRecord(release string, revision int, status string, payload []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: recordName(release, revision),
			Labels: map[string]string{
				"name": release, "owner": "helm", "status": status, "version": fmt.Sprint(revision),
			},
		},
		Type: "helm.sh/release.v1",
		Data: map[string][]byte{"release": payload},
	}
}

// write creates a Secret, or replaces the one of the same name.
func write(t *testing.T, namespace string, s *corev1.Secret) *corev1.Secret {
	t.Helper()
	secrets := shared.client.CoreV1().Secrets(namespace)
	written, err := secrets.Create(t.Context(), s, metav1.CreateOptions{})
	if err != nil {
		written, err = secrets.Update(t.Context(), s, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return written
}
