package web_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
)

// many is how many releases the figures of docs/pages.md are for.
const many = 10_000

// counter is a response writer that keeps nothing.
type counter struct {
	header http.Header
	bytes  int
}

func (c *counter) Header() http.Header { return c.header }
func (c *counter) WriteHeader(status int) {
	if status != http.StatusOK {
		panic(status)
	}
}
func (c *counter) Write(p []byte) (int, error) {
	c.bytes += len(p)
	return len(p), nil
}

// BenchmarkPages times what a reader of many releases asks for, at the server. The bytes that an answer
// allocates are more than it ever holds at once.
func BenchmarkPages(b *testing.B) {
	handler := routes(b, &fake{releases: sorted(fleet.Of(many))})
	for name, path := range map[string]string{
		"first page":   "/",
		"search":       "/?q=payments+1.1&sort=-version",
		"last page":    "/?page=100&sort=-updated",
		"one release":  "/releases/team-001-staging/nginx-11",
		"list":         "/api/v1/releases",
		"list of 100":  "/api/v1/releases?limit=100",
		"list, search": "/api/v1/releases?q=payments",
	} {
		for _, encoding := range []string{"identity", "gzip"} {
			b.Run(name+"/"+encoding, func(b *testing.B) {
				request := httptest.NewRequest(http.MethodGet, path, nil)
				request.Header.Set("Accept-Encoding", encoding)
				var answer *counter
				b.ReportAllocs()
				for b.Loop() {
					answer = &counter{header: http.Header{}}
					handler.ServeHTTP(answer, request)
				}
				b.ReportMetric(float64(answer.bytes), "size")
			})
		}
	}
}
