package web_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/hostile"
)

// maxPageBytes is how large a page may be.
const maxPageBytes = 100_000

// linked finds the releases that a page links to, in its order.
var linked = regexp.MustCompile(`href="releases/([^"]+)"`)

func shown(page string) string {
	var names []string
	for _, match := range linked.FindAllStringSubmatch(page, -1) {
		names = append(names, match[1])
	}
	return strings.Join(names, " ")
}

func TestOverviewShowsWhatIsAskedFor(t *testing.T) {
	handler := routes(t, several())
	for name, tc := range map[string]struct{ query, want string }{
		"what needs attention first":               {"", "legacy/wiki shop/cart payments/import payments/my.app shop/front"},
		"by name":                                  {"?sort=name", "shop/cart shop/front payments/import payments/my.app legacy/wiki"},
		"by name, backwards":                       {"?sort=-name", "legacy/wiki payments/my.app payments/import shop/front shop/cart"},
		"by version, as people count":              {"?sort=version&chart=web", "shop/cart shop/front"},
		"by version, backwards":                    {"?sort=-version&chart=web", "shop/front shop/cart"},
		"a namespace and a status":                 {"?namespace=shop&status=failed", "shop/cart"},
		"a text":                                   {"?q=ledger", "payments/my.app"},
		"a page behind the last is the last":       {"?page=7", "legacy/wiki shop/cart payments/import payments/my.app shop/front"},
		"a page that is not a number is the first": {"?page=x", "legacy/wiki shop/cart payments/import payments/my.app shop/front"},
		"nothing matches":                          {"?q=nowhere", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(handler, http.MethodGet, "/"+tc.query)
			if got.status != http.StatusOK || shown(got.body) != tc.want {
				t.Errorf("%d with %q, want %q", got.status, shown(got.body), tc.want)
			}
		})
	}
}

func TestOverviewCountsByStatusWhatTheOtherFiltersLeave(t *testing.T) {
	page := ask(routes(t, several()), http.MethodGet, "/?namespace=shop&status=failed&sort=name").body
	facets := regexp.MustCompile(`href="([^"]*)"( aria-current="true")?>([a-z-]+) <b>(\d+)</b>`)
	var got []string
	for _, m := range facets.FindAllStringSubmatch(page, -1) {
		got = append(got, strings.Join(m[1:], " "))
	}
	want := []string{
		"?namespace=shop&amp;sort=name&amp;status=failed&amp;status=deployed  deployed 1",
		`?namespace=shop&amp;sort=name  aria-current="true" failed 1`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAPageOfManyReleasesIsSmall(t *testing.T) {
	handler := routes(t, &fake{releases: sorted(fleet.Of(many))})
	for _, path := range []string{"/", "/?page=57&sort=-updated&q=a&status=deployed,failed"} {
		if got := ask(handler, http.MethodGet, path); len(got.body) > maxPageBytes || len(strings.Fields(shown(got.body))) != 100 {
			t.Errorf("%s has %d bytes, want at most %d", path, len(got.body), maxPageBytes)
		}
	}
}

func TestOverviewComesInPages(t *testing.T) {
	const several = 1_050
	handler := routes(t, &fake{releases: sorted(fleet.Of(several))})
	seen := make(map[string]bool)
	next := "?sort=namespace"
	for pages := 0; next != ""; pages++ {
		if pages > several/100 {
			t.Fatal("the pages do not end")
		}
		page := ask(handler, http.MethodGet, "/"+next).body
		for name := range strings.FieldsSeq(shown(page)) {
			seen[name] = true
		}
		next = ""
		if m := regexp.MustCompile(`href="([^"]*)" rel="next"`).FindStringSubmatch(page); m != nil {
			next = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if len(seen) != several {
		t.Errorf("%d releases on all pages, want %d", len(seen), several)
	}
}

// heapWatcher is a response writer that looks now and then at how much is held while an answer is written.
type heapWatcher struct {
	counter
	writes int
	most   uint64
}

func (h *heapWatcher) Write(p []byte) (int, error) {
	if h.writes++; h.writes%20 == 0 {
		h.most = max(h.most, held())
	}
	return h.counter.Write(p)
}

func held() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func TestListOfManyIsStreamed(t *testing.T) {
	handler := routes(t, &fake{releases: sorted(fleet.Of(many))})
	got := &heapWatcher{counter: counter{header: http.Header{}}}
	before := held()
	handler.ServeHTTP(got, httptest.NewRequest(http.MethodGet, "/api/v1/releases", nil))
	if got.bytes < 3_000_000 || got.writes < 100 {
		t.Fatalf("%d bytes of %d releases in %d writes", got.bytes, many, got.writes)
	}
	if more := int64(got.most) - int64(before); more > 1<<20 {
		t.Errorf("%d bytes held meanwhile, of an answer of %d", more, got.bytes)
	}
}

func TestPagesSayWhatIsWrong(t *testing.T) {
	f := several()
	f.set(append(f.releases, unread("legacy", "old", release.Superseded), unread("legacy", "kept", release.Uninstalled),
		unread("legacy", "going", release.Uninstalling), unread("legacy", "odd", release.Unknown))...)
	f.problems = []release.Problem{{Kind: release.WatchDown, Storage: release.Secrets, Err: errors.New("cannot watch")}}
	for name, tc := range map[string]struct {
		source *fake
		path   string
		status int
		want   string
	}{
		"a problem of the whole":         {f, "/", 200, "what is shown may be out of date: cannot watch"},
		"a payload that is damaged":      {f, "/", 200, "cannot be decoded: gzip"},
		"a payload that is not read yet": {f, "/", 200, "not read yet"},
		"no release at all":              {&fake{}, "/", 200, "There are no Helm releases."},
		"not ready":                      {&fake{awaited: errAwaited}, "/", 503, errAwaited.Error()},
		"not ready, one release":         {&fake{awaited: errAwaited}, "/releases/a/b", 503, errAwaited.Error()},
		"an unknown status":              {f, "/?status=broken", 400, "unknown status &#34;broken&#34;"},
		"an unknown column":              {f, "/?sort=size2", 400, "unknown sort column &#34;size2&#34;"},
		"an unknown release":             {f, "/releases/shop/nothing", 404, "There is no record of it in the secrets of this namespace."},
		"a failed release":               {f, "/releases/shop/cart", 200, "The last operation failed. No stored revision is deployed."},
		"a pending release":              {f, "/releases/payments/import", 200, "its client was stopped"},
		"a superseded release":           {f, "/releases/legacy/old", 200, "Its newest revision is superseded. No stored revision is deployed."},
		"an uninstalled release":         {f, "/releases/legacy/kept", 200, "uninstalled with --keep-history"},
		"a release on its way out":       {f, "/releases/legacy/going", 200, "It is being uninstalled"},
		"a release of no known status":   {f, "/releases/legacy/odd", 200, "Its status label is missing, or is not a status of Helm."},
		"an invalid query":               {f, "/?status=failed;namespace=shop", 400, "invalid query"},
		"an unreadable release":          {f, "/releases/legacy/wiki", 200, "cannot be decoded (gzip)"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(routes(t, tc.source), http.MethodGet, tc.path)
			if got.status != tc.status || !strings.Contains(got.body, tc.want) {
				t.Errorf("got %d, want %d with %q:\n%s", got.status, tc.status, tc.want, got.body)
			}
		})
	}
}

// TestNothingIsTakenForMarkup puts hostile texts wherever somebody else's text is shown. The pages have the elements and
// attributes that they have with a plain text, and nothing that cannot be seen.
func TestNothingIsTakenForMarkup(t *testing.T) {
	pages := func(text string) map[string]string {
		r := known("shop", "cart", release.Failed, text, text)
		r.Payload.Head.Description, r.Payload.Head.Chart.AppVersion = text, text
		f := &fake{problems: []release.Problem{{Kind: release.WatchDown, Err: errors.New(text)}}}
		f.set(r, undecodable("shop", "broken"))
		handler, asked := routes(t, f), url.QueryEscape("no such "+text)
		all := make(map[string]string)
		for _, path := range []string{"/", "/releases/shop/cart", "/releases/shop/broken", "/api/v1/releases/shop/cart", "/?q=%s", "/?namespace=%s", "/?chart=%s", "/?sort=%s", "/?status=%s", "/releases/%s/x"} {
			all[path] = ask(handler, http.MethodGet, strings.Replace(path, "%s", asked, 1)).body
		}
		return all
	}
	plain := pages("plain")
	for name, text := range hostile.Texts() {
		t.Run(name, func(t *testing.T) {
			all := pages(text)
			var answer struct{ Chart, ChartVersion, AppVersion, Description string }
			api := "/api/v1/releases/shop/cart"
			if err := json.Unmarshal([]byte(all[api]), &answer); err != nil {
				t.Error(err)
			}
			if want := hostile.Plain(text); answer.Chart != want || answer.ChartVersion != want || answer.AppVersion != want || answer.Description != want {
				t.Errorf("the API says %+v", answer)
			}
			delete(all, api)
			for path, page := range all {
				if diff := cmp.Diff(hostile.Markup(plain[path]), hostile.Markup(page)); diff != "" {
					t.Errorf("elements of %s (-want +got):\n%s", path, diff)
				}
				if r := hostile.Hidden(page); r != 0 && !strings.Contains(path, "?") {
					t.Errorf("%s has the character %U", path, r)
				}
			}
		})
	}
}

func TestPagesAreGuarded(t *testing.T) {
	handler := routes(t, several())
	for _, path := range []string{"/", "/releases/shop/cart", "/releases/shop/nothing", "/api/v1/releases", "/api/v1/releases/shop/cart", "/api/", "/assets/script.js"} {
		header := ask(handler, http.MethodGet, path).header
		policy := header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("%s: Content-Security-Policy %q", path, policy)
		}
		if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Referrer-Policy") != "no-referrer" || header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: %v", path, header)
		}
		if want := path != "/assets/script.js"; want != (header.Get("Cache-Control") == "no-store") {
			t.Errorf("%s: Cache-Control %q", path, header.Get("Cache-Control"))
		}
	}
}

func TestAssets(t *testing.T) {
	handler := routes(t, several())
	for name, kind := range map[string]string{"style.css": "text/css", "script.js": "text/javascript", "icon.svg": "image/svg+xml"} {
		got := ask(handler, http.MethodGet, "/assets/"+name)
		if got.status != http.StatusOK || !strings.HasPrefix(got.header.Get("Content-Type"), kind) || got.header.Get("ETag") == "" {
			t.Errorf("%s: %d %v", name, got.status, got.header)
		}
	}
	if got := ask(handler, http.MethodGet, "/assets/none.css"); got.status != http.StatusNotFound {
		t.Errorf("an unknown asset: %d", got.status)
	}
}

func TestAnAssetIsSentOnce(t *testing.T) {
	handler := routes(t, several())
	first := askGzip(handler, "/assets/style.css")
	tag := first.header.Get("ETag")
	if first.header.Get("Content-Encoding") != "gzip" || !strings.HasPrefix(tag, "W/") {
		t.Errorf("the tag of a compressed answer is %q, and must be weak", tag)
	}
	again := httptest.NewRequest(http.MethodGet, "/assets/style.css", nil)
	again.Header.Set("If-None-Match", tag)
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, again)
	if recorder.Code != http.StatusNotModified || recorder.Body.Len() != 0 {
		t.Errorf("%d with %d bytes", recorder.Code, recorder.Body.Len())
	}
}

// TestLinksAreRelative keeps the pages usable behind any prefix.
func TestLinksAreRelative(t *testing.T) {
	handler := routes(t, several())
	links := regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)
	for path, root := range map[string]string{"/": "", "/releases/shop/cart": "../../", "/releases/shop/nothing": "../../"} {
		found := 0
		for _, m := range links.FindAllStringSubmatch(ask(handler, http.MethodGet, path).body, -1) {
			found++
			if link := m[1]; strings.HasPrefix(link, "/") || strings.Contains(link, "//") || !strings.HasPrefix(link, root) && link != "#main" {
				t.Errorf("%s links to %q", path, link)
			}
		}
		if found < 5 {
			t.Errorf("%s has %d links", path, found)
		}
	}
}

func TestAPageIsCompressedForWhoeverTakesIt(t *testing.T) {
	f := &fake{}
	for i := range 50 {
		f.releases = append(f.releases, known("shop", fmt.Sprintf("cart-%02d", i), release.Failed, "web", "1.9.0"))
	}
	handler := routes(t, f)
	for _, path := range []string{"/", "/api/v1/releases"} {
		if got := askGzip(handler, path); got.header.Get("Content-Encoding") != "gzip" || len(got.body) > 3_000 {
			t.Errorf("%s: %d bytes, %v", path, len(got.body), got.header)
		}
	}
}
