package web

import (
	"context"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/serve"
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

//go:embed templates
var files embed.FS

// pages serves what is known of the releases, as HTML and as JSON.
type pages struct {
	*serve.Pages
	source Source
	reads  bool // whether payloads are read
	frame  serve.Frame
}

func newPages(cfg Config) (*pages, error) {
	html, err := serve.NewPages(files, template.FuncMap{"size": size, "isLarge": isLarge, "percent": percent})
	if err != nil {
		return nil, err
	}
	p := &pages{Pages: html, source: cfg.Releases, reads: cfg.ReadsPayloads}
	p.frame = serve.Frame{Program: "helm-state-metrics", Version: cfg.Version, Links: []serve.Link{{Path: "api/v1/releases", Text: "JSON"}}}
	if cfg.PProf {
		p.frame.Links = append(p.frame.Links, serve.Link{Path: "debug/pprof/", Text: "Profiles"})
	}
	if cfg.TotalShards > 1 {
		p.frame.Note = fmt.Sprintf("shard %d of %d, numbered from 0", cfg.Shard, cfg.TotalShards)
	}
	return p, nil
}

// frameAt returns the frame of a page from which root leads to the status page.
func (p *pages) frameAt(root string) serve.Frame {
	frame := p.frame
	frame.Root, frame.Now = root, time.Now().UTC().Truncate(time.Second)
	return frame
}

// rootOfRelease leads from /releases/NAMESPACE/NAME to /.
const rootOfRelease = "../../"

// detail is what the template of one release's page shows.
type detail struct {
	serve.Frame
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
		p.Message(w, p.frameAt(rootOfRelease), http.StatusServiceUnavailable, "Starting", err.Error())
		return
	case d.Shown == nil:
		p.Message(w, p.frameAt(rootOfRelease), http.StatusNotFound, fmt.Sprintf("No release %s in namespace %s", d.Name, d.Namespace), absenceText(d.Absence))
		return
	}
	now := time.Now()
	p.Render(w, http.StatusOK, "release.html", detail{p.frameAt(rootOfRelease), p.row(d.Shown, now), notes(&d, p.reads, now), d.Revisions})
}

func keyOf(req *http.Request) release.Key {
	return release.Key{Namespace: req.PathValue("namespace"), Name: req.PathValue("name")}
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
