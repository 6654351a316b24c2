package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestWrongUse expects one line on stderr that names what is wrong, nothing on
// stdout, and a status other than 0.
func TestWrongUse(t *testing.T) {
	t.Parallel()
	admin := shared.kubeconfig(t, access{})
	malformed := writeFile(t, "malformed", "{")
	noContext := writeFile(t, "no-context", "apiVersion: v1\nkind: Config\ncurrent-context: elsewhere\n"+
		"clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n")
	noCA := writeFile(t, "no-ca", "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: c}}]\n"+
		"clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', certificate-authority: /nowhere/ca.crt}}]\n")
	badWeb := writeFile(t, "web.yml", "tls_server_config: {cert_file: /nowhere/tls.crt, key_file: /nowhere/tls.key}\n")
	unknownWeb := writeFile(t, "web.yml", "tls_sever_config: {}\n")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = busy.Close() }) // after the subtests, unlike what is deferred

	for name, test := range map[string]struct {
		flags []string
		env   string
		names []string
	}{
		"a kubeconfig that is not there":             {flags: []string{"--kubeconfig=/nowhere/kubeconfig"}, names: []string{"/nowhere/kubeconfig"}},
		"a kubeconfig that is not there, by setting": {env: "KUBECONFIG=/nowhere/kubeconfig", names: []string{"/nowhere/kubeconfig"}},
		"no kubeconfig at all":                       {names: []string{"--kubeconfig"}},
		"a malformed kubeconfig":                     {flags: []string{"--kubeconfig=" + malformed}, names: []string{malformed}},
		"a kubeconfig whose context is not there":    {flags: []string{"--kubeconfig=" + noContext}, names: []string{"elsewhere"}},
		"a kubeconfig whose authority is not there":  {flags: []string{"--kubeconfig=" + noCA}, names: []string{"/nowhere/ca.crt"}},
		"a busy port":                         {flags: []string{"--kubeconfig=" + admin, "--web.listen-address=" + busy.Addr().String()}, names: []string{busy.Addr().String(), "in use"}},
		"an address without a port":           {flags: []string{"--kubeconfig=" + admin, "--web.listen-address=127.0.0.1"}, names: []string{"127.0.0.1", "port"}},
		"a web config that is not there":      {flags: []string{"--kubeconfig=" + admin, "--web.config.file=/nowhere/web.yml"}, names: []string{"/nowhere/web.yml"}},
		"a web config whose key is not there": {flags: []string{"--kubeconfig=" + admin, "--web.config.file=" + badWeb}, names: []string{badWeb, "/nowhere/tls."}},
		"a web config with an unknown field":  {flags: []string{"--kubeconfig=" + admin, "--web.config.file=" + unknownWeb}, names: []string{unknownWeb, "tls_sever_config"}},
		"an unknown flag":                     {flags: []string{"--metrics.fast"}, names: []string{"--metrics.fast"}},
		"an argument":                         {flags: []string{"serve"}, names: []string{"serve"}},
		"an unknown storage":                  {flags: []string{"--storage=sql"}, names: []string{"--storage", "sql"}},
		"an empty storage":                    {flags: []string{"--storage="}, names: []string{"--storage"}},
		"an unknown way to read payloads":     {flags: []string{"--payload=often"}, names: []string{"--payload", "often"}},
		"a concurrency of zero":               {flags: []string{"--fetch.concurrency=0"}, names: []string{"--fetch.concurrency", "0"}},
		"a concurrency that is no number":     {flags: []string{"--fetch.concurrency=many"}, names: []string{"--fetch.concurrency", "many"}},
		"a namespace that cannot be one":      {flags: []string{"--namespaces=Default"}, names: []string{"--namespaces", "Default"}},
		"a namespace both named and left out": {flags: []string{"--namespaces=a", "--namespaces-denylist=a"}, names: []string{"--namespaces", "--namespaces-denylist"}},
		"a label key that cannot be one":      {flags: []string{"--release-labels=a b"}, names: []string{"--release-labels", "a b"}},
		"two label keys that become one name": {flags: []string{"--kubeconfig=" + admin, "--release-labels=a.b,a-b"}, names: []string{"a.b", "a-b"}},
		"an unknown log level":                {flags: []string{"--log.level=loud"}, names: []string{"--log.level", "loud"}},
		"an unknown log format":               {flags: []string{"--log.format=xml"}, names: []string{"--log.format", "xml"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, program("helm-state-metrics"), append([]string{"--web.listen-address=127.0.0.1:0"}, test.flags...)...)
			cmd.Env = []string{"HOME=" + t.TempDir(), test.env}
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() <= 0 {
				t.Errorf("it ended with %v, want a status other than 0", err)
			}
			if stdout.Len() > 0 {
				t.Errorf("it wrote to stdout: %s", &stdout)
			}
			if n := len(lines(stderr.String())); n != 1 || !strings.HasPrefix(stderr.String(), "helm-state-metrics: ") {
				t.Errorf("it wrote %d lines, want one that begins with its name:\n%s", n, &stderr)
			}
			for _, part := range test.names {
				if !strings.Contains(stderr.String(), part) {
					t.Errorf("it does not name %q: %s", part, &stderr)
				}
			}
		})
	}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestHelpAndVersion are answered without a cluster.
func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{"--help": "--kubeconfig=FILE", "--version": "helm-state-metrics, version"} {
		out, err := exec.CommandContext(t.Context(), program("helm-state-metrics"), flag).Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, and no %q in %s", flag, err, want, out)
		}
	}
}

// TestSignals end the exporter with status 0, whatever it is doing. SIGTERM is
// what every other test ends with.
func TestSignals(t *testing.T) {
	t.Parallel()
	t.Run("an interrupt", func(t *testing.T) {
		t.Parallel()
		e := startExporter(t, shared.kubeconfig(t, access{}))
		e.awaitReady(t)
		_ = e.cmd.Process.Signal(syscall.SIGINT)
		<-e.done
		if code := e.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("it ended with %s", e.cmd.ProcessState)
		}
	})
	t.Run("SIGTERM as soon as it listens", func(t *testing.T) {
		t.Parallel()
		kubeconfig := shared.kubeconfig(t, access{})
		for range 20 { // the moment is a short one
			if startExporter(t, kubeconfig).stop(t); t.Failed() {
				return
			}
		}
	})
	t.Run("SIGTERM while there is no API server", func(t *testing.T) {
		t.Parallel()
		e := startExporter(t, shared.kubeconfig(t, newRelay(t).access()))
		eventually(t, patience, e.says("connection refused"))
	})
}
