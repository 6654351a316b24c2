package e2e_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// confidential are the files of a chart that has the marker wherever a chart can have something.
var confidential = map[string]string{
	"Chart.yaml":              "apiVersion: v2\nname: confidential\nversion: 1.0.0\ndescription: of MARKER\nannotations: {a: MARKER}\nkeywords: [MARKER]\n",
	"values.yaml":             "default: MARKER\n",
	"values.schema.json":      `{"type": "object", "description": "MARKER"}`,
	"files/private.key":       "MARKER",
	"README.md":               "MARKER",
	"templates/NOTES.txt":     "The password is {{ .Values.given }}. MARKER",
	"templates/_partial.tpl":  `{{ define "a" }}MARKER{{ end }}`,
	"templates/settings.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: settings-{{ .Release.Revision }}}\nstringData: {a: MARKER, b: {{ .Values.given }}, c: {{ .Files.Get \"files/private.key\" }}}\n",
	"templates/hook.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hook, annotations: {helm.sh/hook: \"pre-install,pre-upgrade\"}}\n" +
		"data: {a: MARKER, b: {{ .Values.given }}, c: {{ include \"a\" . }}}\n",
}

// TestTheMarkerStays installs a chart that is full of a secret, with a real Helm, and looks for the secret in all that the
// exporter says in any way, and in its memory.
func TestTheMarkerStays(t *testing.T) {
	t.Parallel()
	chart := t.TempDir()
	for name, text := range confidential {
		path := filepath.Join(chart, name)
		expect.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		expect.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "MARKER", marker)), 0o600))
	}
	inBoth(t, "marker", "secret", func(t *testing.T, h helm) {
		given := chart + " --set given=" + marker
		h.run(t, "install app "+given)
		cmd := exec.Command(process.Path("helm-state-metrics"), append(anyPorts(), "--kubeconfig="+shared.kubeconfig(t, access{}),
			"--namespaces="+h.namespace, "--log.level=debug", "--pages.enable-pprof")...)
		// With clobberfree the runtime overwrites what it frees, so that what is in memory then is in use.
		cmd.Env = append(os.Environ(), "GODEBUG=clobberfree=1", "GOTRACEBACK=all")
		e := runExporter(t, cmd)
		t.Cleanup(e.Kill)
		e.awaitReady(t)
		h.run(t, "upgrade app "+given)
		h.run(t, "install other "+given)
		h.run(t, "rollback app 1")
		eventually(t, patience, e.shows(view{}.series(t, h.facts(t)), h.namespace, sizeWhenRead))
		payloads := make(map[string][]byte)
		for object, r := range h.records(t) {
			payloads[object] = r.payload
			if text := fmt.Sprint(*decoded(t, r.payload)); strings.Count(text, marker) < 5 {
				t.Fatalf("%s has the marker too rarely", object)
			}
		}
		e.doors(t, h.namespace, "app")
		t.Run("in memory", func(t *testing.T) { e.memory(t, payloads) })
		e.Signal(syscall.SIGQUIT)
		<-e.Done()
		if dump := e.Output(); !strings.Contains(dump, "SIGQUIT: quit") || !strings.Contains(dump, "goroutine 1 ") {
			t.Error("the runtime has written no stacks")
		}
		hides(t, "the log, with the stacks of all goroutines", e.Output())
	})
}

// leaks reports whether a text has the marker, as it is or in base64, wherever it begins in what was encoded.
func leaks(text string) bool {
	if strings.Contains(text, marker) {
		return true
	}
	for before := range 3 { // bytes that are encoded with what comes before
		whole := marker[(3-before)%3:]
		if strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(whole[:len(whole)/3*3]))) {
			return true
		}
	}
	return false
}

// hides fails the test if a text has the marker, compressed or not.
func hides(t *testing.T, what, text string) {
	t.Helper()
	if strings.HasPrefix(text, "\x1f\x8b") {
		text = string(expect.Value(io.ReadAll(expect.Value(gzip.NewReader(strings.NewReader(text)))(t)))(t))
	}
	if text == "" || leaks(text) {
		t.Errorf("%s is empty, or has a part of a payload", what)
	}
}

// doors looks for the marker in every answer of the exporter.
func (e *exporter) doors(t *testing.T, namespace, release string) {
	t.Helper()
	for _, format := range []string{textFormat, openMetricsFormat} {
		hides(t, format, e.ask(t, strings.TrimSuffix(format, "; escaping=underscores"), "", format, false))
		hides(t, format+" in gzip", e.ask(t, strings.TrimSuffix(format, "; escaping=underscores"), "gzip", format, true))
	}
	one := "/releases/" + namespace + "/" + release
	urls := []string{e.metrics + "/", e.health + "/livez", e.health + "/readyz"}
	for _, page := range strings.Fields("/ " + one + " /releases/a/b /api/v1/releases /api/v1" + one + " /api/v1/releases/a/b /api/ /?sort=no" +
		" /debug/pprof/ /debug/pprof/cmdline /debug/pprof/symbol /debug/pprof/profile?seconds=1 /debug/pprof/trace?seconds=1" +
		" /debug/pprof/heap /debug/pprof/heap?debug=2 /debug/pprof/allocs?debug=1 /debug/pprof/goroutine /debug/pprof/goroutine?debug=1" +
		" /debug/pprof/goroutine?debug=2 /debug/pprof/block?debug=1 /debug/pprof/mutex?debug=1 /debug/pprof/threadcreate?debug=1") {
		urls = append(urls, e.pages+page)
	}
	for _, url := range urls {
		_, body, err := e.getAt(url)
		expect.NoError(t, err)
		hides(t, url, body)
	}
	hides(t, "the log", e.Output())
}

// memory looks for the marker in the memory of the exporter after garbage collections. The texts of payloads, which are
// compressed, may be in the buffers of idle connections.
func (e *exporter) memory(t *testing.T, payloads map[string][]byte) {
	for range 3 { // What is in a pool outlives one of them.
		expect.NoError(t, e.answers("/debug/pprof/heap?gc=1", http.StatusOK)())
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", e.PID()))
	if err == nil {
		_, err = memory.ReadAt(make([]byte, 1), 0)
		if errors.Is(err, syscall.EIO) {
			err = nil // nothing is mapped there
		}
	}
	require(t, "procmem", err)
	defer memory.Close()
	found := make(map[string]int)
	count := func(what string, in []byte, part string) { found[what] += bytes.Count(in, []byte(part)) }
	for _, region := range regexp.MustCompile(`(?m)^([0-9a-f]+)-([0-9a-f]+) rw`).FindAllStringSubmatch(string(expect.Value(os.ReadFile(fmt.Sprintf("/proc/%d/maps", e.PID())))(t)), -1) {
		start, end := expect.Value(strconv.ParseUint(region[1], 16, 64))(t), expect.Value(strconv.ParseUint(region[2], 16, 64))(t)
		content := make([]byte, end-start)
		n, _ := memory.ReadAt(content, int64(start)) // what is not there any more
		count("chart", content[:n], "confidential")
		count("marker", content[:n], marker)
		for _, text := range payloads {
			count("beginning of a payload", content[:n], string(text[:64]))
			count("middle of a payload", content[:n], string(text[len(text)/2:][:64]))
			count("end of a payload", content[:n], string(text[len(text)-64:]))
		}
	}
	t.Logf("in memory: %v", found)
	if found["chart"] == 0 || found["marker"] > 0 {
		t.Errorf("the marker is in memory %d times, and the name of the chart %d times", found["marker"], found["chart"])
	}
}
