package chartrepo_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
)

// FuzzAnswers asks an HTTP server and an OCI registry that give the same bytes to each request. All connections, also
// those that an answer asks for, end here.
func FuzzAnswers(f *testing.F) {
	list := httptest.NewRequest(http.MethodGet, "/v2/helm/a/tags/list", nil)
	w := httptest.NewRecorder()
	page(w, list, newRegistry(f, "1.0.0", "1.2.3_build.4", "latest"), 2)
	f.Add(true, dumped(f, w))
	w = httptest.NewRecorder()
	w.Header().Set("Etag", `"1"`)
	_, _ = w.WriteString(index)
	f.Add(false, dumped(f, w))
	for _, answer := range []string{
		"HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Bearer realm=\"http://127.0.0.9/token\",service=\"x\",scope=\"repository:helm/a:pull\"\r\nContent-Length: 13\r\n\r\n{\"token\":\"x\"}",
		"HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 404 Not Found\r\nContent-Length: 53\r\n\r\n{\"errors\":[{\"code\":\"NAME_UNKNOWN\",\"message\":\"a\\u0000\"}]}",
		"HTTP/1.1 302 Found\r\nLocation: http://user:password@127.0.0.9/?x\r\n\r\n",
		"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"ent\r\n",
	} {
		f.Add(true, []byte(answer))
		f.Add(false, []byte(answer))
	}
	config := chartrepo.Config{Name: "test", Username: "user", Password: "a long password"}
	f.Fuzz(func(t *testing.T, oci bool, answer []byte) {
		c := config
		if c.URL = "http://repository.invalid/"; oci {
			c.URL = "oci://127.0.0.1/helm"
		}
		r := chartrepo.New(c, chartrepo.Options{})
		r.SetLimits(chartrepo.SmallLimits)
		r.SetDial(func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				if _, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
					_, _ = server.Write(answer)
				}
			}()
			return client, nil
		})
		reply := r.Ask(t.Context(), "a", "1.0.0", nil)
		if reply.Result == chartrepo.NotFound && reply.Err == nil && reply.Answer == nil || reply.RetryAfter < 0 {
			t.Fatalf("got %+v", reply)
		}
		check(t, c, reply)
		if reply.Answer == nil {
			return
		}
		for chart, versions := range reply.Answer.Charts {
			for _, version := range versions {
				if !chartrepo.IsVersion(version) || strings.ContainsAny(chart+version, "\x00\n") || oci && chart != "a" {
					t.Errorf("chart %q has version %q", chart, version)
				}
			}
		}
	})
}

// dumped is an answer as a server writes it.
func dumped(f *testing.F, w *httptest.ResponseRecorder) []byte {
	text, err := httputil.DumpResponse(w.Result(), true)
	if err != nil {
		f.Fatal(err)
	}
	return text
}
