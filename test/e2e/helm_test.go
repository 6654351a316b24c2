package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// helm is a Helm command line that works in one namespace.
type helm struct {
	version   string // the name of its program: helm3 or helm4
	namespace string
	driver    string // where it keeps its records: "secret" or "configmap"
	home      string // for its files
}

func newHelm(t *testing.T, version, namespace, driver string) helm {
	t.Helper()
	return helm{version, namespace, driver, t.TempDir()}
}

// inBoth runs a test with each Helm, in a namespace of its own.
func inBoth(t *testing.T, prefix, driver string, test func(*testing.T, helm)) {
	t.Helper()
	for _, version := range []string{"helm3", "helm4"} {
		t.Run("by "+version, func(t *testing.T) {
			t.Parallel()
			test(t, newHelm(t, version, newNamespace(t, prefix), driver))
		})
	}
}

// command returns a command in the namespace. In its line chart:NAME stands for a chart of test/charts.
func (h helm) command(line string) *exec.Cmd {
	args := strings.Fields(line)
	for i, arg := range args {
		if chart, ok := strings.CutPrefix(arg, "chart:"); ok {
			args[i] = process.Chart(chart)
		}
		if arg == "--roll-back" { // the one flag that changed its name
			args[i] = map[string]string{"helm3": "--atomic", "helm4": "--rollback-on-failure"}[h.version]
		}
	}
	cmd := process.Client(context.Background(), h.version, h.home, shared.admin(), append(args, "--namespace="+h.namespace)...)
	// Helm writes its local time. An offset of half an hour reveals who cannot read that.
	cmd.Env = append(cmd.Env, "HELM_DRIVER="+h.driver, "TZ=Asia/Kolkata")
	return cmd
}

func (h helm) run(t *testing.T, line string) string {
	t.Helper()
	cmd := h.command(line)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", h.version, line, err, &stderr)
	}
	return string(out)
}

// fail runs a command that must fail, for a reason that its output contains.
func (h helm) fail(t *testing.T, line, reason string) {
	t.Helper()
	out, err := h.command(line).CombinedOutput()
	if err == nil {
		t.Fatalf("%s %s should have failed", h.version, line)
	}
	if !strings.Contains(string(out), reason) {
		t.Fatalf("%s %s failed, but not because of %q:\n%s", h.version, line, reason, out)
	}
}

// kill kills a command when the check succeeds. Helm would catch any other signal and mark the release as failed.
func (h helm) kill(t *testing.T, line string, check func() error) {
	t.Helper()
	p := expect.Value(process.Start(h.command(line)))(t)
	defer p.Kill()
	eventually(t, patience, check)
}

type listed struct {
	Name       string
	Namespace  string
	Revision   int `json:",string"`
	Updated    helmTime
	Status     string
	Chart      string
	AppVersion string `json:"app_version"`
}

func (h helm) list(t *testing.T) []listed {
	t.Helper()
	line := "list --output=json"
	if h.version == "helm3" { // Helm 4 lists all by default.
		line += " --all"
	}
	var releases []listed
	expect.NoError(t, json.Unmarshal([]byte(h.run(t, line)), &releases))
	return releases
}

type historic struct {
	Revision    int
	Status      string
	Description string
}

func (h helm) history(t *testing.T, name string) []historic {
	t.Helper()
	var revisions []historic
	expect.NoError(t, json.Unmarshal([]byte(h.run(t, "history "+name+" --output=json")), &revisions))
	return revisions
}

// helmTime is a time as helm list writes it: like Go does, with the name of the zone after its offset.
type helmTime string

func (t helmTime) unix(tb testing.TB) int64 {
	tb.Helper()
	fields := strings.Fields(string(t))
	parsed, err := time.Parse("2006-01-02 15:04:05.999999999 -0700", strings.Join(fields[:min(3, len(fields))], " "))
	if err != nil {
		tb.Fatal(err)
	}
	return parsed.Unix()
}
