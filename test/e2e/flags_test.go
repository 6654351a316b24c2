package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDeniedNamespaces leaves a namespace out of a watch of all.
func TestDeniedNamespaces(t *testing.T) {
	t.Parallel()
	kept, denied, alike := newNamespace(t, "kept"), newNamespace(t, "denied"), newNamespace(t, "denied")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces-denylist="+denied+",not-there", "--storage=configmaps,secrets")
	e.awaitReady(t)
	write(t, denied, secretRecord("app", 1, "deployed", sound()))
	inAlike := shown(write(t, alike, secretRecord("app", 1, "deployed", sound())), "sound")
	inKept := shown(write(t, kept, secretRecord("app", 1, "deployed", sound())), "sound")
	eventually(t, patience, e.shows(inKept, kept))
	eventually(t, patience, e.shows(inAlike, alike))
	if err := e.shows(series{}, denied)(); err != nil {
		t.Error(err)
	}
}

// passwordHash is bcrypt of "correct horse", at the lowest cost.
const passwordHash = "$2a$04$O7IkeRHWs.JgmHBRvNq9mevxzYNXRZV.UWm1JVbxDeXnWUuEecdr."

// TestTLSAndBasicAuth serves behind a certificate and a password.
func TestTLSAndBasicAuth(t *testing.T) {
	t.Parallel()
	certPEM, keyPEM := selfSigned(t)
	cert, key := writeFile(t, "tls.crt", certPEM), writeFile(t, "tls.key", keyPEM)
	config := writeFile(t, "web.yml", fmt.Sprintf("tls_server_config: {cert_file: %q, key_file: %q}\nbasic_auth_users: {prometheus: %q}\n",
		filepath.ToSlash(cert), filepath.ToSlash(key), passwordHash))
	namespace := newNamespace(t, "tls")
	want := shown(write(t, namespace, secretRecord("app", 1, "deployed", sound())), "sound")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+namespace, "--web.config.file="+config)

	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM([]byte(certPEM))
	plain := e.url
	e.url = strings.Replace(plain, "http:", "https:", 1)
	e.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}}
	for _, page := range []string{"/metrics", "/", "/readyz"} {
		eventually(t, patience, e.answers(page, http.StatusUnauthorized))
	}
	e.url = strings.Replace(plain, "http://", "https://prometheus:wrong@", 1)
	eventually(t, patience, e.answers("/metrics", http.StatusUnauthorized))
	e.url = strings.Replace(plain, "http://", "https://prometheus:correct%20horse@", 1)
	eventually(t, patience, e.shows(want, namespace))
	e.url, e.client.Transport = plain, nil
	if status, body, err := e.get("/metrics"); err == nil && status == http.StatusOK {
		t.Errorf("plain HTTP is served, too: %s", body)
	}
}

func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}))
}

// TestPages looks at all pages of an exporter that is ready.
func TestPages(t *testing.T) {
	t.Parallel()
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+newNamespace(t, "pages"))
	e.awaitReady(t)
	statuses := make(map[string]int)
	for _, page := range []string{"/", "/livez", "/readyz", "/metrics", "/debug/pprof/", "/nothing"} {
		status, _, err := e.get(page)
		if err != nil {
			t.Fatal(err)
		}
		statuses[page] = status
	}
	want := map[string]int{"/": 200, "/livez": 200, "/readyz": 200, "/metrics": 200, "/debug/pprof/": 404, "/nothing": 404}
	if diff := cmp.Diff(want, statuses); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
