package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// TestWrongUse expects one line on stderr that names the mistake, nothing on stdout, and an exit status other than 0.
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
	basicAuth := writeFile(t, "web.yml", "basic_auth_users: {prometheus: "+passwordHash+"}\n")
	busy := expect.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { _ = busy.Close() }) // A deferred Close would come before the parallel subtests.

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
		"a password and tokens":               {flags: []string{"--kubeconfig=" + admin, "--auth-filter", "--web.config.file=" + basicAuth}, names: []string{basicAuth, "basic_auth_users", "--auth-filter"}},
		"a busy port for probes":              {flags: []string{"--kubeconfig=" + admin, "--health.listen-address=" + busy.Addr().String()}, names: []string{"--health.listen-address", "in use"}},
		"a busy port for pages":               {flags: []string{"--kubeconfig=" + admin, "--pages.listen-address=" + busy.Addr().String()}, names: []string{"--pages.listen-address", "in use"}},
		"a shard that is not there":           {flags: []string{"--shard=4", "--total-shards=4"}, names: []string{"--shard=4", "--total-shards=4"}},
		"a limit below zero":                  {flags: []string{"--metrics.max-releases-per-namespace=-1"}, names: []string{"--metrics.max-releases-per-namespace=-1"}},
		"audiences without the filter":        {flags: []string{"--auth-token-audiences=a"}, names: []string{"--auth-token-audiences", "--auth-filter"}},
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
			cmd := exec.CommandContext(ctx, process.Path("helm-state-metrics"), append(anyPorts(test.flags...), test.flags...)...)
			cmd.Env = []string{"HOME=" + t.TempDir(), test.env}
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() <= 0 {
				t.Errorf("it ended with %v, want an exit status other than 0", err)
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

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{"--help": "--kubeconfig=FILE", "--version": "helm-state-metrics, version"} {
		out, err := exec.CommandContext(t.Context(), process.Path("helm-state-metrics"), flag).Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, and no %q in %s", flag, err, want, out)
		}
	}
}

// TestSignals expects exit status 0 whenever a signal comes. All other tests end the exporter with SIGTERM, too.
func TestSignals(t *testing.T) {
	t.Parallel()
	t.Run("an interrupt", func(t *testing.T) {
		t.Parallel()
		e := startExporter(t, shared.kubeconfig(t, access{}))
		e.awaitReady(t)
		e.Signal(syscall.SIGINT)
		if code := e.ExitCode(); code != 0 {
			t.Errorf("the exit status is %d, want 0", code)
		}
	})
	t.Run("SIGTERM as soon as it listens", func(t *testing.T) {
		t.Parallel()
		kubeconfig := shared.kubeconfig(t, access{})
		for range 20 { // It has to hit a short moment.
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

// TestSystemdSocket passes an open socket to the exporter as systemd does.
func TestSystemdSocket(t *testing.T) {
	t.Parallel()
	listener := expect.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer listener.Close()
	socket := expect.Value(listener.(*net.TCPListener).File())(t)
	defer socket.Close()
	cmd := exec.Command("sh", "-c", `export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"`, "sh",
		process.Path("helm-state-metrics"), "--kubeconfig="+shared.kubeconfig(t, access{}), "--web.systemd-socket",
		"--health.listen-address=127.0.0.1:0", "--pages.listen-address=127.0.0.1:0")
	cmd.ExtraFiles = []*os.File{socket}
	e := runExporter(t, cmd)
	defer e.stop(t)
	expect.Equal(t, "the address differs", "http://"+listener.Addr().String(), e.metrics)
	eventually(t, patience, e.answers("/metrics", http.StatusOK))
}

// TestDeniedNamespaces excludes a namespace from a watch of all.
func TestDeniedNamespaces(t *testing.T) {
	t.Parallel()
	kept, denied, similar := newNamespace(t, "kept"), newNamespace(t, "denied"), newNamespace(t, "denied")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces-denylist="+denied+",not-there", "--storage=configmaps,secrets")
	e.awaitReady(t)
	write(t, denied, cluster.Secret("app", 1, "deployed", validPayload()))
	inSimilar := shown(write(t, similar, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	inKept := shown(write(t, kept, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	eventually(t, patience, e.shows(inKept, kept))
	eventually(t, patience, e.shows(inSimilar, similar))
	expect.NoError(t, e.shows(series{}, denied)())
}

// passwordHash is bcrypt of "correct horse", at the lowest cost.
const passwordHash = "$2a$04$O7IkeRHWs.JgmHBRvNq9mevxzYNXRZV.UWm1JVbxDeXnWUuEecdr."

// TestTLSAndBasicAuth serves with a certificate and asks for a password.
func TestTLSAndBasicAuth(t *testing.T) {
	t.Parallel()
	certPEM, keyPEM := selfSigned(t)
	cert, key := writeFile(t, "tls.crt", certPEM), writeFile(t, "tls.key", keyPEM)
	config := writeFile(t, "web.yml", fmt.Sprintf("tls_server_config: {cert_file: %q, key_file: %q}\nbasic_auth_users: {prometheus: %q}\n",
		filepath.ToSlash(cert), filepath.ToSlash(key), passwordHash))
	namespace := newNamespace(t, "tls")
	want := shown(write(t, namespace, cluster.Secret("app", 1, "deployed", validPayload())), "valid")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+namespace, "--web.config.file="+config)

	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM([]byte(certPEM))
	plain := e.metrics
	e.metrics = strings.Replace(plain, "http:", "https:", 1)
	e.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}}
	eventually(t, patience, e.answers("/metrics", http.StatusUnauthorized))
	for _, page := range []string{"/livez", "/readyz", "/"} { // the file is for the metrics alone
		eventually(t, patience, e.answers(page, http.StatusOK))
	}
	e.metrics = strings.Replace(plain, "http://", "https://prometheus:wrong@", 1)
	eventually(t, patience, e.answers("/metrics", http.StatusUnauthorized))
	e.metrics = strings.Replace(plain, "http://", "https://prometheus:correct%20horse@", 1)
	eventually(t, patience, e.shows(want, namespace))
	e.metrics, e.client.Transport = plain, nil
	if status, body, err := e.get("/metrics"); err == nil && status == http.StatusOK {
		t.Errorf("plain HTTP is served, too: %s", body)
	}
}

// selfSigned returns a certificate for 127.0.0.1 and its key, in PEM.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	private := expect.Value(x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey))(t)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// TestDoors asks for every path at every address, and for the pages from other addresses of this machine, as another
// pod would: there is nobody.
func TestDoors(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "doors")
	write(t, namespace, cluster.Secret("app", 1, "deployed", validPayload()))
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+namespace)
	e.awaitReady(t)
	statuses := make(map[string]int)
	for door, address := range map[string]string{"metrics": e.metrics, "health": e.health, "pages": e.pages} {
		for _, path := range []string{"/", "/metrics", "/livez", "/readyz", "/api/v1/releases", "/debug/pprof/", "/nothing"} {
			status, body, err := e.getAt(address + path)
			expect.NoError(t, err)
			if status != http.StatusNotFound {
				statuses[door+" "+path] = status
			}
			if door != "pages" && path != "/metrics" && strings.Contains(body, namespace) {
				t.Errorf("%s%s names a namespace: %s", door, path, body)
			}
		}
	}
	expect.Equal(t, "the answers differ", map[string]int{
		"metrics /": 200, "metrics /metrics": 200, "health /livez": 200, "health /readyz": 200, "pages /": 200, "pages /api/v1/releases": 200,
	}, statuses)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(e.pages, "http://"))
	expect.NoError(t, err)
	for _, host := range otherAddresses(t) {
		if status, _, err := e.getAt("http://" + net.JoinHostPort(host, port) + "/"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the pages answer at %s, too: %d, %v", host, status, err)
		}
	}
}

// otherAddresses returns the addresses of this machine but 127.0.0.1.
func otherAddresses(t *testing.T) []string {
	t.Helper()
	others := []string{"127.0.0.2"}
	for _, address := range expect.Value(net.InterfaceAddrs())(t) {
		if network, ok := address.(*net.IPNet); ok && !network.IP.IsLoopback() && network.IP.To4() != nil {
			others = append(others, network.IP.String())
		}
	}
	return others
}
