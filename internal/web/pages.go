package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Source is where the pages and the API read releases from. It is safe for concurrent use.
type Source interface {
	// Releases returns every release, by namespace and name, or an error that says what is pending before they
	// are known.
	Releases() ([]*release.Release, error)
	// Release returns what is known of one release, or the same error. It may read a payload, and then takes as
	// long as that does.
	Release(context.Context, release.Key) (release.Detail, error)
	// Problems returns what keeps them from being complete and current.
	Problems() []release.Problem
}

//go:embed templates assets
var files embed.FS

// pages serves what is known of the releases, as HTML and as JSON.
type pages struct {
	source  Source
	reads   bool // whether payloads are read
	pprof   bool
	shard   string // empty if there is only one
	version string
	html    *template.Template
}

func newPages(cfg Config) (*pages, error) {
	html, err := template.New("").Funcs(template.FuncMap{"exact": exact, "ago": ago, "size": size, "isLarge": isLarge, "percent": percent}).ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	p := &pages{source: cfg.Releases, reads: cfg.ReadsPayloads, pprof: cfg.PProf, version: cfg.Version, html: html}
	if cfg.TotalShards > 1 {
		p.shard = fmt.Sprintf("shard %d of %d, numbered from 0", cfg.Shard, cfg.TotalShards)
	}
	return p, nil
}

// frame is what is around every page.
type frame struct {
	// Root is the relative URL of the status page, so that the pages work behind any prefix.
	Root    string
	Version string
	Shard   string
	PProf   bool
	Now     time.Time
}

func (p *pages) frame(root string) frame {
	return frame{Root: root, Version: p.version, Shard: p.shard, PProf: p.pprof, Now: time.Now().UTC().Truncate(time.Second)}
}

// rootOfRelease leads from /releases/NAMESPACE/NAME to /.
const rootOfRelease = "../../"

// detail is what the template of one release's page shows.
type detail struct {
	frame
	row
	Notes     []string
	Revisions []*release.Revision
}

// serveRelease answers with the page of one release.
func (p *pages) serveRelease(w http.ResponseWriter, req *http.Request) {
	d, err := p.source.Release(req.Context(), keyOf(req))
	switch {
	case err != nil:
		w.Header().Set("Refresh", "2")
		p.message(w, rootOfRelease, http.StatusServiceUnavailable, "Starting", err.Error())
		return
	case d.Shown == nil:
		p.message(w, rootOfRelease, http.StatusNotFound, fmt.Sprintf("No release %s in namespace %s", d.Name, d.Namespace), absenceText(d.Absence))
		return
	}
	now := time.Now()
	p.render(w, http.StatusOK, "release.html", detail{p.frame(rootOfRelease), p.row(d.Shown, now), notes(&d, p.reads, now), d.Revisions})
}

func keyOf(req *http.Request) release.Key {
	return release.Key{Namespace: req.PathValue("namespace"), Name: req.PathValue("name")}
}

// message answers with a page of one message.
func (p *pages) message(w http.ResponseWriter, root string, status int, title, text string) {
	p.render(w, status, "message.html", struct {
		frame
		Title, Text string
	}{p.frame(root), title, text})
}

// render writes a page whole or not at all.
func (p *pages) render(w http.ResponseWriter, status int, name string, view any) {
	var page bytes.Buffer
	if err := p.html.ExecuteTemplate(&page, name, view); err != nil {
		http.Error(w, "cannot render the page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // it fails if the client has gone away
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
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, req)
	})
}

// exact writes a time for people who compare it with a log.
func exact(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// ago writes how long ago a time was, in one unit.
func ago(t, now time.Time) string {
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

// payloadLimit is how many bytes of data Kubernetes takes in one object.
const payloadLimit = 1 << 20

// size writes a number of bytes.
func size(n int) string {
	switch {
	case n == 0:
		return ""
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}

// percent writes how much of the limit a payload takes.
func percent(n int) string { return fmt.Sprintf("%.1f%%", float64(n)*100/payloadLimit) }

// isLarge reports whether a payload is near the limit.
func isLarge(n int) bool { return n > payloadLimit*8/10 }
