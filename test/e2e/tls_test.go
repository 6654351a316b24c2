package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

// selfSignedUntil returns a new certificate for 127.0.0.1 and its key, in PEM. It is an authority for itself, and good for
// servers and clients.
func selfSignedUntil(t *testing.T, end time.Time) (cert, key string) {
	t.Helper()
	private := expect.Value(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(end.UnixNano()), NotBefore: end.Add(-24 * time.Hour), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der := expect.Value(x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private))(t)
	pkcs8 := expect.Value(x509.MarshalPKCS8PrivateKey(private))(t)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// secured is an exporter whose metrics have a web config file, and a certificate.
type secured struct {
	*exporter
	dir string
}

func startSecured(t *testing.T) secured {
	t.Helper()
	s := secured{dir: t.TempDir()}
	s.certify(t, time.Now().Add(time.Hour))
	s.configure(t, "")
	s.exporter = startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+newNamespace(t, "tls"), "--web.config.file="+filepath.Join(s.dir, "web.yml"))
	s.awaitReady(t)
	return s
}

func (s secured) write(t *testing.T, name, text string) {
	t.Helper()
	expect.NoError(t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
}

// configure writes the file, with more fields of tls_server_config, or other lines after it.
func (s secured) configure(t *testing.T, more string) {
	t.Helper()
	s.write(t, "web.yml", "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n"+more)
}

// certify replaces the certificate, and returns it.
func (s secured) certify(t *testing.T, end time.Time) string {
	t.Helper()
	cert, key := selfSignedUntil(t, end)
	s.write(t, "tls.crt", cert)
	s.write(t, "tls.key", key)
	return cert
}

// client trusts a certificate.
func client(trusted string, change func(*tls.Config)) *http.Client {
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM([]byte(trusted))
	if change != nil {
		change(config)
	}
	return &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: config.NextProtos == nil, DisableKeepAlives: true}}
}

// gets is the status of a request for the metrics, and the version of HTTP.
func (s secured) gets(c *http.Client) (string, error) {
	resp, err := c.Get(strings.Replace(s.metrics, "http:", "https:", 1) + "/metrics")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", resp.Proto), err
}

// answers fails the test if the metrics are not answered so, or, if part is not empty, without an error that contains it.
func (s secured) answers(t *testing.T, what, want, part string, c *http.Client) {
	t.Helper()
	got, err := s.gets(c)
	if got != want || (err != nil) != (part != "") || err != nil && !strings.Contains(err.Error(), part) {
		t.Errorf("%s: got %q, %v; want %q, and an error with %q", what, got, err, want, part)
	}
}

// TestCertificates replaces certificates and their policy while the exporter runs.
func TestCertificates(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	first := s.certify(t, time.Now().Add(time.Hour))
	s.answers(t, "HTTP/2", "200 HTTP/2.0", "", client(first, nil))
	s.answers(t, "HTTP/1.1", "200 HTTP/1.1", "", client(first, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }))
	for name, version := range map[string]uint16{"TLS 1.0": tls.VersionTLS10, "TLS 1.1": tls.VersionTLS11} {
		s.answers(t, name, "", "protocol version not supported", client(first, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }))
	}
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		s.answers(t, name, "200 HTTP/2.0", "", client(first, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }))
	}
	s.answers(t, "a weak cipher", "", "handshake failure", client(first, func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA}
	}))

	second := s.certify(t, time.Now().Add(2*time.Hour))
	s.answers(t, "the new certificate", "200 HTTP/2.0", "", client(second, nil))
	s.answers(t, "the old certificate", "", "unknown authority", client(first, nil))
	s.write(t, "tls.key", "half of a ke")
	s.answers(t, "a key that is half written", "", "internal error", client(second, nil))
	expired := s.certify(t, time.Now().Add(-time.Minute))
	s.answers(t, "an expired certificate", "", "certificate has expired", client(expired, nil))

	server, other := s.certify(t, time.Now().Add(time.Hour)), expect.Value(tls.X509KeyPair(pair(selfSignedUntil(t, time.Now().Add(time.Hour)))))(t)
	certPEM, keyPEM := selfSignedUntil(t, time.Now().Add(time.Hour))
	own := expect.Value(tls.X509KeyPair([]byte(certPEM), []byte(keyPEM)))(t)
	late := expect.Value(tls.X509KeyPair(pair(selfSignedUntil(t, time.Now().Add(-time.Minute)))))(t)
	s.write(t, "ca.crt", certPEM)
	s.configure(t, "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n")
	with := func(certs ...tls.Certificate) *http.Client {
		return client(server, func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12 // a client of TLS 1.3 may send its request before it hears why it is refused
			// A client sends no certificate of another authority than the server names, unless it is made to.
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &append(certs, tls.Certificate{})[0], nil
			}
		})
	}
	s.answers(t, "a client certificate", "200 HTTP/2.0", "", with(own))
	s.answers(t, "no client certificate", "", "handshake failure", with())
	s.answers(t, "one of another authority", "", "unknown certificate authority", with(other))
	s.answers(t, "one that has expired", "", "expired certificate", with(late))
	expect.NoError(t, s.exporter.answers("/readyz", http.StatusOK)())

	s.configure(t, "nonsense: true\n")
	s.answers(t, "a broken file", "", "internal error", client(server, nil))
	expect.NoError(t, s.exporter.answers("/readyz", http.StatusOK)())
}

func pair(cert, key string) ([]byte, []byte) { return []byte(cert), []byte(key) }

// TestWrongPasswords makes the toolkit forget the right password, and then has it check the passwords of an unknown user,
// which takes 50 ms of CPU and more each. Who has the right one is served all the same.
func TestWrongPasswords(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	cert := s.certify(t, time.Now().Add(time.Hour))
	s.configure(t, "basic_auth_users: {prometheus: "+passwordHash+"}\n")
	ask := func(c *http.Client, user, password string) int {
		req := expect.Value(http.NewRequest(http.MethodGet, strings.Replace(s.metrics, "http:", "https:", 1)+"/metrics", http.NoBody))(t)
		req.SetBasicAuth(user, password)
		resp, err := c.Do(req)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	kept := func() *http.Client {
		c := client(cert, nil)
		c.Transport.(*http.Transport).DisableKeepAlives = false
		return c
	}
	own := kept()
	defer own.CloseIdleConnections()
	expect.Equal(t, "the status differs", http.StatusOK, ask(own, "prometheus", "correct horse"))
	for i := range 300 { // it remembers 100
		expect.Equal(t, "the status differs", http.StatusUnauthorized, ask(own, "prometheus", fmt.Sprint("wrong ", i)))
	}
	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	var mu sync.Mutex
	statuses := make(map[int]int)
	for i := range 100 {
		flood.Go(func() {
			c := kept()
			defer c.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				status := ask(c, "nobody", fmt.Sprint(i, " ", n))
				mu.Lock()
				statuses[status]++
				mu.Unlock()
				pause(ctx, 200*time.Millisecond)
			}
		})
	}
	eventually(t, patience, func() error {
		mu.Lock()
		defer mu.Unlock()
		if statuses[http.StatusUnauthorized] == 0 {
			return errors.New("no password has been checked")
		}
		return nil
	})
	var slowest time.Duration
	for range 20 {
		began := time.Now()
		expect.Equal(t, "the status differs", http.StatusOK, ask(own, "prometheus", "correct horse"))
		slowest = max(slowest, time.Since(began))
	}
	stop()
	flood.Wait()
	t.Logf("the slowest scrape took %s; wrong passwords got %v", slowest, statuses)
	if slowest > 2*time.Second {
		t.Errorf("a scrape took %s", slowest)
	}
	if statuses[http.StatusOK] > 0 || statuses[http.StatusTooManyRequests] == 0 {
		t.Errorf("wrong passwords got %v", statuses)
	}
}

// pause waits, less if the context ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// The frames of HTTP/2 that the tests send.
const (
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	endOfStream   = 1 // flags
	endOfHeaders  = 4
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	return append(binary.BigEndian.AppendUint32(append(head, flags), stream), payload...)
}

// setting is one of a SETTINGS frame.
func setting(id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, id), value)
}

// scrapeFrame is a request for the metrics.
func scrapeFrame(stream uint32) []byte {
	// GET and https are in HPACK's static table, as are the names :path and :authority; the values follow as they are.
	block := append([]byte{0x82, 0x87, 0x04, 8}, "/metrics"...)
	block = append(append(block, 0x01, 9), "localhost"...)
	return frame(frameHeaders, endOfStream|endOfHeaders, stream, block)
}

// dialHTTP2 connects, and sends the settings.
func (s secured) dialHTTP2(trusted string, settings []byte) (*tls.Conn, error) {
	config := client(trusted, nil).Transport.(*http.Transport).TLSClientConfig
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.metrics, "http://"), config)
	if err == nil {
		_, err = conn.Write(append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, settings)...))
	}
	return conn, err
}

// TestHTTP2Floods asks for metrics over HTTP/2 and takes each request back at once, or reads none of the responses.
// Whoever scrapes is served meanwhile, and little waits.
func TestHTTP2Floods(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	cert := s.certify(t, time.Now().Add(time.Hour))
	conn := expect.Value(s.dialHTTP2(cert, nil))(t)
	defer conn.Close()
	expect.Equal(t, "the server allows other numbers of streams", uint32(16), streamsOf(t, conn))
	_, before := s.telemetry(t, client(cert, nil))
	for name, attack := range map[string]struct {
		connections, requests int // at once, and of one connection before it waits
		settings              []byte
		request               func(stream uint32) []byte
	}{
		"requests that are taken back": {4, 1 << 30, nil, func(stream uint32) []byte {
			return append(scrapeFrame(stream), frame(frameReset, 0, stream, binary.BigEndian.AppendUint32(nil, 8))...)
		}},
		"responses that may not be sent": {20, 16, setting(4, 0), scrapeFrame}, // a window of 0
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
			defer stop()
			var flood sync.WaitGroup
			for range attack.connections {
				flood.Go(func() {
					for ctx.Err() == nil {
						s.flood(ctx, cert, attack.requests, attack.settings, attack.request)
					}
				})
			}
			own, slowest, goroutines := client(cert, nil), time.Duration(0), 0.0
			answers := make(map[int]int)
			for ctx.Err() == nil {
				began := time.Now()
				status, all := s.telemetry(t, own)
				answers[status]++
				slowest, goroutines = max(slowest, time.Since(began)), max(goroutines, all["go_goroutines"])
			}
			flood.Wait()
			t.Logf("scrapes got %v, the slowest after %s; there were %v goroutines, %v before", answers, slowest, goroutines, before["go_goroutines"])
			if answers[http.StatusOK] == 0 || goroutines > before["go_goroutines"]+1000 || slowest > 6*time.Second {
				t.Errorf("scrapes got %v, the slowest after %s, with %v goroutines, %v before", answers, slowest, goroutines, before["go_goroutines"])
			}
			eventually(t, patience, func() error {
				if status, _ := s.telemetry(t, own); status != http.StatusOK {
					return fmt.Errorf("after the flood a scrape got %d", status)
				}
				return nil
			})
		})
	}
}

// telemetry returns the status of a scrape, and what it shows.
func (s secured) telemetry(t *testing.T, c *http.Client) (int, series) {
	t.Helper()
	resp, err := c.Get(strings.Replace(s.metrics, "http:", "https:", 1) + "/metrics")
	expect.NoError(t, err)
	defer resp.Body.Close()
	body := string(expect.Value(io.ReadAll(resp.Body))(t))
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, expect.Value(parse(body))(t)
}

// streamsOf reads the first frame of a server, and returns how many streams it allows.
func streamsOf(t *testing.T, conn io.Reader) uint32 {
	t.Helper()
	var head [9]byte
	expect.Value(io.ReadFull(conn, head[:]))(t)
	payload := make([]byte, binary.BigEndian.Uint32(head[:4])>>8)
	expect.Value(io.ReadFull(conn, payload))(t)
	for ; len(payload) >= 6; payload = payload[6:] {
		if binary.BigEndian.Uint16(payload) == 3 {
			return binary.BigEndian.Uint32(payload[2:])
		}
	}
	t.Fatalf("the server does not say")
	return 0
}

// flood sends requests over one connection, and keeps it until the server closes it or the context ends.
func (s secured) flood(ctx context.Context, cert string, requests int, settings []byte, request func(uint32) []byte) {
	conn, err := s.dialHTTP2(cert, settings)
	if err != nil {
		pause(ctx, 10*time.Millisecond)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, conn)
	}()
	for i := range requests {
		if _, err := conn.Write(request(uint32(2*i + 1))); err != nil {
			_ = conn.SetDeadline(time.Now())
			break
		}
	}
	<-ended
}
