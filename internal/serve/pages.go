package serve

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/klauspost/compress/gzhttp"
)

//go:embed templates assets
var files embed.FS

// Frame is what is around every page.
type Frame struct {
	Program, Version string
	// Root is the relative URL of the first page, so that the pages work behind any prefix; "" is here.
	Root  string
	Links []Link
	// Note stands at the end of every page; "" for none.
	Note string
	Now  time.Time
}

// Link leads to another page, relative to the first one.
type Link struct{ Path, Text string }

// Pages renders templates, with those of the frame: top, head and bottom; and message.html.
type Pages struct{ html *template.Template }

// NewPages reads templates/*.html of a file system.
func NewPages(own fs.FS, funcs template.FuncMap) (*Pages, error) {
	html := template.New("").Funcs(template.FuncMap{"exact": Exact, "ago": Ago, "visible": Visible}).Funcs(funcs)
	for _, from := range []fs.FS{files, own} {
		if _, err := html.ParseFS(from, "templates/*.html"); err != nil {
			return nil, fmt.Errorf("templates: %w", err)
		}
	}
	return &Pages{html}, nil
}

// PageSize is how many rows one page shows; it has well under 100 KB.
const PageSize = 100

// Pager is where a page stands in a table.
type Pager struct {
	Matched  int    // rows, on all pages
	From, To int    // of them, from 1
	First    string // URLs of pages, empty if there is none
	Previous string
	Next     string
	Last     string
}

// NewPager returns where the page of a number is, or the one that is nearest to it. link returns the URL of a page.
func NewPager(matched int, number string, link func(number string) string) Pager {
	page, err := strconv.Atoi(number)
	last := max((matched+PageSize-1)/PageSize, 1)
	if err != nil {
		page = 1
	}
	page = min(max(page, 1), last)
	p := Pager{Matched: matched, From: min((page-1)*PageSize+1, matched), To: min(page*PageSize, matched)}
	to := func(n int) string { return link(strconv.Itoa(n)) }
	if page > 1 {
		p.First, p.Previous = to(1), to(page-1)
	}
	if page < last {
		p.Next, p.Last = to(page+1), to(last)
	}
	return p
}

// Begin returns the index of the first row.
func (p Pager) Begin() int { return max(p.From-1, 0) }

// Render writes a page whole or not at all.
func (p *Pages) Render(w http.ResponseWriter, status int, name string, view any) {
	var page bytes.Buffer
	if err := p.html.ExecuteTemplate(&page, name, view); err != nil {
		http.Error(w, "cannot render the page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // it fails if the client has gone away
}

// Message answers with a page of one message.
func (p *Pages) Message(w http.ResponseWriter, frame Frame, status int, title, text string) {
	p.Render(w, status, "message.html", struct {
		Frame
		Title, Text string
	}{frame, title, text})
}

// Routes returns a mux with the given patterns and the assets, compressed for whoever takes it.
func Routes(patterns map[string]http.HandlerFunc) (*http.ServeMux, error) {
	compressed, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false))
	if err != nil {
		return nil, fmt.Errorf("compression: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /assets/{name}", withSecurityHeaders(compressed(http.HandlerFunc(asset))))
	for pattern, handler := range patterns {
		mux.Handle(pattern, withSecurityHeaders(compressed(handler)))
	}
	return mux, nil
}

// asset serves a file of assets/. Browsers ask each time whether their copy is current.
func asset(w http.ResponseWriter, req *http.Request) {
	name := req.PathValue("name")
	content, err := files.ReadFile("assets/" + name)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	sum := sha256.Sum256(content)
	w.Header().Set("ETag", fmt.Sprintf("W/%q", hex.EncodeToString(sum[:8]))) // weak: compressed or not
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(w, req, name, time.Time{}, bytes.NewReader(content))
}

// contentSecurityPolicy allows what the pages have: nothing inline, and nothing from other hosts.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// withSecurityHeaders adds the headers that every page and API response has. Browsers and proxies must not
// store them: they are about other people's releases. The assets are not, and set a header of their own.
func withSecurityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, req)
	})
}

// Visible writes characters that cannot be seen as \u202e: control characters, zero-width ones, and those that change
// the direction of what follows. What is in a record could otherwise look like something else, or turn around what
// stands next to it.
func Visible(s string) string {
	hidden := func(r rune) bool {
		return r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	}
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Exact writes a time for people who compare it with a log.
func Exact(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// Ago writes how long ago a time was, in one unit.
func Ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return ""
	case d < -time.Minute:
		return "in the future"
	case d < time.Minute: // a little ahead is another machine's clock
		return fmt.Sprintf("%d s ago", max(d, 0)/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d d ago", d/(24*time.Hour))
}
