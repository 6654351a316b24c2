package web_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// FuzzPages asks the pages and the API for any path and query, about a release whose names are any text: every answer is one
// that is meant, JSON is JSON, and nothing becomes markup.
func FuzzPages(f *testing.F) {
	f.Add("/", "q=a&sort=-updated&page=2", "my.app")
	f.Add("/releases/team/my.app", "", "<b>")
	f.Add("/api/v1/releases", "status=failed&limit=1&continue=x", `"><script>`)
	f.Add("/api/v1/releases/team/%2e%2e", "namespace=%zz", "\x00\xff")
	f.Add("/../assets/style.css", ";", "'")
	f.Fuzz(func(t *testing.T, path, query, text string) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.URL.Path, req.URL.RawQuery = path, query
		marked := "<i>" + text
		w := httptest.NewRecorder()
		routes(t, &fake{releases: []*release.Release{known("team", marked, release.Failed, marked, marked), known("team", "my.app", release.Deployed, "web", "1.2.3")}}).ServeHTTP(w, req)
		if !slices.Contains([]int{http.StatusOK, http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest, http.StatusNotFound}, w.Code) {
			t.Fatalf("status %d", w.Code)
		}
		body := w.Body.String()
		switch kind := w.Header().Get("Content-Type"); {
		case strings.HasPrefix(kind, "application/json"):
			if !json.Valid(w.Body.Bytes()) {
				t.Errorf("not JSON: %s", body)
			}
		case strings.HasPrefix(kind, "text/html"):
			if strings.Contains(body, "<i>") {
				t.Errorf("markup from a name or the query: %s", body)
			}
		}
	})
}
