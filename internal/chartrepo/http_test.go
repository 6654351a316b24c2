package chartrepo_test

import (
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
)

const index = "apiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n"

var indexCharts = charts{"a": {"1.0.0"}}

// serve starts a server for the test.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// ask asks once, and checks what is true of every reply.
func ask(t *testing.T, c chartrepo.Config, last *chartrepo.Answer) chartrepo.Reply {
	t.Helper()
	if c.Name == "" {
		c.Name = "test"
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	reply := chartrepo.New(c, chartrepo.Options{DockerConfig: filepath.Join(t.TempDir(), "none")}).Ask(t.Context(), "a", "1.0.0", last)
	check(t, c, reply)
	return reply
}

func check(t *testing.T, c chartrepo.Config, reply chartrepo.Reply) {
	t.Helper()
	if (reply.Answer == nil) == (reply.Err == nil) {
		t.Errorf("answer %v with error %v", reply.Answer, reply.Err)
	}
	if reply.Err == nil {
		return
	}
	text := reply.Err.Error()
	if len(text) > 512 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || !strings.Contains(text, fmt.Sprintf("%q", c.Name)) {
		t.Errorf("the error is %q", text)
	}
	if c.Password != "" && strings.Contains(text, c.Password) || strings.Contains(text, "s3cret") {
		t.Errorf("the error has a secret: %s", text)
	}
}

func TestStatuses(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		status     int
		retryAfter string
		want       chartrepo.Result
		wait       time.Duration
	}{
		"401":                           {status: 401, want: chartrepo.Unauthorized},
		"403":                           {status: 403, want: chartrepo.Forbidden},
		"404":                           {status: 404, want: chartrepo.NotFound},
		"410":                           {status: 410, want: chartrepo.NotFound},
		"429":                           {status: 429, want: chartrepo.RateLimited},
		"429 with seconds":              {status: 429, retryAfter: "90", want: chartrepo.RateLimited, wait: 90 * time.Second},
		"429 with a date":               {status: 429, retryAfter: "Tue, 01 Jan 2030 00:10:00 GMT", want: chartrepo.RateLimited, wait: 10 * time.Minute},
		"429 with a date that is past":  {status: 429, retryAfter: "Tue, 01 Jan 2019 00:10:00 GMT", want: chartrepo.RateLimited},
		"429 with a year":               {status: 429, retryAfter: "31536000", want: chartrepo.RateLimited, wait: 24 * time.Hour},
		"429 with more than an integer": {status: 429, retryAfter: "99999999999999999999999", want: chartrepo.RateLimited},
		"429 with less than nothing":    {status: 429, retryAfter: "-5", want: chartrepo.RateLimited},
		"500 with seconds":              {status: 500, retryAfter: "90", want: chartrepo.Failed},
		"503 with seconds":              {status: 503, retryAfter: "90", want: chartrepo.Failed, wait: 90 * time.Second},
		"204":                           {status: 204, want: chartrepo.Failed},
		"206":                           {status: 206, want: chartrepo.Failed},
		"304 without an earlier answer": {status: 304, want: chartrepo.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, index)
			})
			c := chartrepo.Config{Name: "n", URL: server.URL}
			r := chartrepo.New(c, chartrepo.Options{})
			r.SetClock(func() time.Time { return now })
			reply := r.Ask(t.Context(), "", "", nil)
			check(t, c, reply)
			if reply.Result != tt.want || reply.RetryAfter != tt.wait || reply.Answer != nil {
				t.Errorf("got %+v", reply)
			}
		})
	}
}

func TestUnchanged(t *testing.T) {
	var requests atomic.Int32
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		if req.URL.String() != "/charts/index.yaml?tenant=7" || req.UserAgent() != "test/1" {
			t.Errorf("got %s from %s", req.URL, req.UserAgent())
		}
		w.Header().Set("ETag", `W/"1"`)
		w.Header().Set("Last-Modified", "Tue, 01 Jan 2030 00:10:00 GMT")
		if req.Header.Get("If-None-Match") == `W/"1"` && req.Header.Get("If-Modified-Since") == "Tue, 01 Jan 2030 00:10:00 GMT" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, index)
	})
	r := chartrepo.New(chartrepo.Config{Name: "n", URL: server.URL + "/charts/?tenant=7"}, chartrepo.Options{UserAgent: "test/1"})
	now := time.Unix(1000, 0)
	r.SetClock(func() time.Time { return now })
	first := r.Ask(t.Context(), "", "", nil)
	want := &chartrepo.Answer{At: now, ETag: `W/"1"`, LastModified: "Tue, 01 Jan 2030 00:10:00 GMT", Charts: indexCharts}
	if diff := cmp.Diff(chartrepo.Reply{Result: chartrepo.OK, Answer: want}, first); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	now = now.Add(time.Hour)
	again := r.Ask(t.Context(), "", "", first.Answer)
	confirmed := *want
	confirmed.At = now
	if diff := cmp.Diff(chartrepo.Reply{Result: chartrepo.NotModified, Answer: &confirmed}, again); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if first.Answer.At.Equal(now) || requests.Load() != 2 {
		t.Errorf("the first answer is of %v; %d requests", first.Answer.At, requests.Load())
	}
}

// raw answers with bytes, and ends the connection.
func raw(response string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, response)
		_ = conn.Close()
	}
}

func TestResponses(t *testing.T) {
	var zipped strings.Builder
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, index)
	_ = z.Close()
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    chartrepo.Result
	}{
		"a length":              {raw("HTTP/1.1 200 OK\r\nContent-Length: " + fmt.Sprint(len(index)) + "\r\n\r\n" + index), chartrepo.OK},
		"a length, cut off":     {raw("HTTP/1.1 200 OK\r\nContent-Length: " + fmt.Sprint(len(index)+1) + "\r\n\r\n" + index), chartrepo.Failed},
		"chunks":                {raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(index), index)), chartrepo.OK},
		"chunks, cut off":       {raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(index), index)), chartrepo.Failed},
		"gzip":                  {raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + zipped.String()), chartrepo.OK},
		"gzip, cut off":         {raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + zipped.String()[:zipped.Len()-1]), chartrepo.Failed},
		"no length":             {raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + index), chartrepo.Failed},
		"no length, but an end": {raw("HTTP/1.0 200 OK\r\n\r\n" + index + "generated: x\n"), chartrepo.OK},
		"no length, but JSON":   {raw("HTTP/1.0 200 OK\r\n\r\n" + `{"apiVersion":"v1","entries":{"a":[{"name":"a","version":"1.0.0"}]}}`), chartrepo.OK},
		"no HTTP":               {raw("http://u:s3cret@x/?s3cret"), chartrepo.Failed},
		"nothing":               {raw(""), chartrepo.Failed},
		"endless headers":       {raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), chartrepo.Failed},
		"a strange ETag":        {raw("HTTP/1.1 200 OK\r\nETag: \xff\r\nContent-Length: " + fmt.Sprint(len(index)) + "\r\n\r\n" + index), chartrepo.OK},
	} {
		t.Run(name, func(t *testing.T) {
			reply := ask(t, chartrepo.Config{URL: serve(t, tt.handler).URL}, nil)
			if reply.Result != tt.want {
				t.Fatalf("got %+v", reply)
			}
			if reply.Answer != nil {
				if diff := cmp.Diff(indexCharts, reply.Answer.Charts); diff != "" || reply.Answer.ETag != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	var other *httptest.Server
	authorized := func(req *http.Request) bool { _, _, ok := req.BasicAuth(); return ok }
	other = serve(t, func(w http.ResponseWriter, req *http.Request) {
		if authorized(req) || req.Referer() != "" {
			t.Errorf("another host got %v", req.Header)
		}
		_, _ = io.WriteString(w, index)
	})
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if !authorized(req) {
			t.Errorf("%s without credentials", req.URL)
		}
		var n int
		_, _ = fmt.Sscanf(req.URL.Path, "/%d/", &n)
		switch {
		case n > 0:
			http.Redirect(w, req, fmt.Sprintf("/%d/index.yaml", n-1), http.StatusFound)
		case req.URL.Path == "/other/index.yaml":
			http.Redirect(w, req, other.URL, http.StatusFound)
		case req.URL.Path == "/file/index.yaml":
			http.Redirect(w, req, "file:///etc/hostname", http.StatusFound)
		case req.URL.Path == "/secret/index.yaml":
			http.Redirect(w, req, "http://s3cret:s3cret@\x7f/?s3cret", http.StatusFound)
		default:
			_, _ = io.WriteString(w, index)
		}
	})
	for path, want := range map[string]chartrepo.Result{
		"/5/": chartrepo.OK, "/6/": chartrepo.Failed, "/other?token=s3cret": chartrepo.OK, "/file": chartrepo.Failed, "/secret": chartrepo.Failed,
	} {
		for _, c := range []chartrepo.Config{
			{URL: server.URL + path, Username: "u", Password: "hunter2"},
			{URL: strings.Replace(server.URL, "://", "://u:s3cret@", 1) + path},
		} {
			if reply := ask(t, c, nil); reply.Result != want {
				t.Errorf("%s: got %+v", path, reply)
			}
		}
	}
}

func TestCredentialsOverRedirects(t *testing.T) {
	for urls, want := range map[string]bool{
		"http://a.example/ http://A.example/x":                       true,
		"http://a.example/ https://a.example/":                       true,
		"http://a.example:80/ https://a.example:80/":                 false,
		"https://a.example/ https://b.a.example/":                    false,
		"https://a.example/ https://a.example:8443/":                 false,
		"https://a.example/ https://b.example/ https://a.example/":   false,
		"http://a.example/ https://a.example/ https://a.example/x/y": true,
	} {
		var via []*http.Request
		for _, url := range strings.Fields(urls) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.SetBasicAuth("u", "p")
			if len(via) > 0 {
				if err := chartrepo.CheckRedirect(req, via); err != nil {
					t.Errorf("%s: %v", urls, err)
				}
			}
			via = append(via, req)
		}
		if got := via[len(via)-1].Header.Get("Authorization") != ""; got != want {
			t.Errorf("%s: credentials %v", urls, got)
		}
	}
}

func TestPasswordFile(t *testing.T) {
	var password atomic.Value
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		_, p, _ := req.BasicAuth()
		password.Store(p)
		_, _ = io.WriteString(w, index)
	})
	file := filepath.Join(t.TempDir(), "password")
	c := chartrepo.Config{Name: "n", URL: server.URL, Username: "u", PasswordFile: file}
	if reply := ask(t, c, nil); reply.Result != chartrepo.Failed || !strings.Contains(reply.Err.Error(), "passwordFile") {
		t.Errorf("got %+v", reply)
	}
	for text, want := range map[string]string{"one\n": "one", "two\r\n": "two", "three\n\n": "three\n", "": ""} {
		writeFile(t, file, text)
		if reply := ask(t, c, nil); reply.Result != chartrepo.OK || password.Load() != want {
			t.Errorf("%q: got %+v with %q", text, reply, password.Load())
		}
	}
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca, caKey := certificate(t, nil, nil)
	serverCert, serverKey := certificate(t, ca, caKey)
	clientCert, clientKey := certificate(t, ca, caKey)
	writePEM := func(name, kind string, der []byte) {
		writeFile(t, file(name), string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	writePEM("ca.crt", "CERTIFICATE", ca.Raw)
	writePEM("tls.crt", "CERTIFICATE", clientCert.Raw)
	der, err := x509.MarshalPKCS8PrivateKey(clientKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM("tls.key", "PRIVATE KEY", der)
	writeFile(t, file("empty"), "")
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	start := func(config *tls.Config) string {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/down/index.yaml" {
				http.Redirect(w, req, "http://127.0.0.1:1/", http.StatusFound)
				return
			}
			_, _ = io.WriteString(w, index)
		}))
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{serverCert.Raw}, PrivateKey: serverKey}}
		server.TLS, server.EnableHTTP2 = config, true
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		return server.URL
	}
	open := start(&tls.Config{})
	mutual := start(&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	old := start(&tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	for name, tt := range map[string]struct {
		config chartrepo.Config
		want   chartrepo.Result
		text   string
	}{
		"its CA":                       {chartrepo.Config{URL: open, CAFile: file("ca.crt")}, chartrepo.OK, ""},
		"no CA":                        {chartrepo.Config{URL: open}, chartrepo.Failed, "unknown authority"},
		"no check":                     {chartrepo.Config{URL: open, InsecureSkipTLSVerify: true}, chartrepo.OK, ""},
		"a CA file without one":        {chartrepo.Config{URL: open, CAFile: file("empty")}, chartrepo.Failed, "caFile"},
		"no CA file":                   {chartrepo.Config{URL: open, CAFile: file("none")}, chartrepo.Failed, "caFile"},
		"a client certificate":         {chartrepo.Config{URL: mutual, CAFile: file("ca.crt"), CertFile: file("tls.crt"), KeyFile: file("tls.key")}, chartrepo.OK, ""},
		"no client certificate":        {chartrepo.Config{URL: mutual, CAFile: file("ca.crt")}, chartrepo.Failed, ""},
		"a client certificate missing": {chartrepo.Config{URL: mutual, CAFile: file("ca.crt"), CertFile: file("tls.crt"), KeyFile: file("none")}, chartrepo.Failed, "certFile"},
		"TLS 1.1":                      {chartrepo.Config{URL: old, CAFile: file("ca.crt")}, chartrepo.Failed, "version"},
		"a redirect to plain HTTP":     {chartrepo.Config{URL: open + "/down", CAFile: file("ca.crt")}, chartrepo.Failed, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			reply := ask(t, tt.config, nil)
			if reply.Result != tt.want || reply.Err != nil && !strings.Contains(reply.Err.Error(), tt.text) {
				t.Errorf("got %+v", reply)
			}
		})
	}
}

// certificate returns a certificate for everything, signed by the parent or itself.
func certificate(t *testing.T, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: parent == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func TestSlowServers(t *testing.T) {
	for name, tt := range map[string]struct {
		options chartrepo.Options
		begin   bool
	}{
		"no header":                        {chartrepo.Options{HeaderTimeout: 50 * time.Millisecond}, false},
		"a byte now and then":              {chartrepo.Options{Timeout: 50 * time.Millisecond}, true},
		"a header that takes all the time": {chartrepo.Options{Timeout: 50 * time.Millisecond}, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, req *http.Request) {
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-req.Context().Done():
						return
					case <-tick.C:
						if tt.begin {
							_, _ = io.WriteString(w, "#")
							_ = http.NewResponseController(w).Flush()
						}
					}
				}
			})
			c := chartrepo.Config{Name: "n", URL: server.URL}
			reply := chartrepo.New(c, tt.options).Ask(t.Context(), "", "", nil)
			check(t, c, reply)
			if reply.Result != chartrepo.Failed || !strings.Contains(reply.Err.Error(), "within") && !strings.Contains(reply.Err.Error(), "timeout") {
				t.Errorf("got %+v", reply)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if reply := chartrepo.New(c, chartrepo.Options{}).Ask(ctx, "", "", nil); reply.Result != chartrepo.Failed {
				t.Errorf("canceled: got %+v", reply)
			}
		})
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "index.yaml")
	byDir, byFile := chartrepo.Config{URL: "file://" + dir}, chartrepo.Config{URL: "file://" + file}
	if reply := ask(t, byDir, nil); reply.Result != chartrepo.NotFound {
		t.Errorf("no file: got %+v", reply)
	}
	writeFile(t, file, index)
	first := ask(t, byDir, nil)
	if first.Result != chartrepo.OK || !cmp.Equal(first.Answer.Charts, indexCharts) {
		t.Fatalf("got %+v", first)
	}
	if again := ask(t, byFile, first.Answer); again.Result != chartrepo.NotModified || !cmp.Equal(again.Answer.Charts, indexCharts) {
		t.Errorf("unchanged: got %+v", again)
	}
	writeFile(t, file, index+"  b:\n  - name: b\n    version: 2.0.0\n")
	if again := ask(t, byFile, first.Answer); again.Result != chartrepo.OK || len(again.Answer.Charts) != 2 {
		t.Errorf("changed: got %+v", again)
	}
	writeFile(t, file, "no index")
	if reply := ask(t, byFile, first.Answer); reply.Result != chartrepo.Invalid {
		t.Errorf("got %+v", reply)
	}
	if reply := ask(t, chartrepo.Config{URL: "file:///dev/zero"}, nil); reply.Result != chartrepo.Invalid {
		t.Errorf("a device: got %+v", reply)
	}
	if os.Getuid() != 0 {
		if err := os.Chmod(file, 0); err != nil {
			t.Fatal(err)
		}
		if reply := ask(t, byFile, nil); reply.Result != chartrepo.Forbidden {
			t.Errorf("no permission: got %+v", reply)
		}
	}
}

func TestCheck(t *testing.T) {
	for want, c := range map[string]chartrepo.Config{
		"":                               {Name: "n", URL: "https://example.com/charts?x=y", Username: "u", Password: "s3cret", PassCredentialsAll: true},
		"name: ":                         {URL: "https://example.com"},
		"name: \"\\n\"":                  {Name: "\n", URL: "https://example.com"},
		"url: required":                  {Name: "n"},
		"url: not a URL":                 {Name: "n", URL: "https://u:s3cret@exa mple.com"},
		"url: must not have a fragment":  {Name: "n", URL: "https://example.com/#x"},
		"password and passwordFile":      {Name: "n", URL: "https://example.com", Password: "s3cret", PasswordFile: "f"},
		"certFile and keyFile":           {Name: "n", URL: "https://example.com", CertFile: "f"},
		"url: has no host":               {Name: "n", URL: "https:///x"},
		"url: holds a user, and":         {Name: "n", URL: "https://u:s3cret@example.com", Password: "p"},
		"url: holds a password":          {Name: "n", URL: "https://:s3cret@example.com"},
		"url: write oci://HOST/PATH, wi": {Name: "n", URL: "oci://u:s3cret@example.com/x"},
		"url: \"oci://example.com/X\"":   {Name: "n", URL: "oci://example.com/X"},
		"username and password, or":      {Name: "n", URL: "oci://example.com/x", Username: "u"},
		"url: write file:///PATH":        {Name: "n", URL: "file://charts/x"},
		"url: the scheme \"ftp\"":        {Name: "n", URL: "ftp://u:s3cret@example.com"},
		"url: the scheme \"\"":           {Name: "n", URL: "example.com"},
	} {
		err := c.Check()
		if (err == nil) != (want == "") || err != nil && (!strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%+v: got %v, want %s…", c, err, want)
		}
	}
	for _, url := range []string{"oci://example.com", "OCI://example.com/x", "oci://[::1]:5000/a/b", "oci://localhost:5000/a_b/", "file:///x", "http://[::1]:80"} {
		if err := (chartrepo.Config{Name: "n", URL: url}).Check(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
