package versions

import (
	"embed"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
	"github.com/helm-state-metrics/helm-state-metrics/internal/serve"
)

//go:embed templates
var files embed.FS

// unknown is how the page calls releases without a level.
const unknown = "unknown"

// page is what the template shows.
type page struct {
	serve.Frame
	*View
	serve.Pager
	Text, Level string // the filters
	Facets      []facet
	Shown       []*outdated.Row
}

// facet is one level, and how many releases have it.
type facet struct {
	Level string
	Count int
	On    bool
	URL   string // that turns the filter on or off
}

// Routes serves the page, next to metrics.
func (t *Tracker) Routes(version string, metrics http.Handler) (http.Handler, error) {
	pages, err := serve.NewPages(files, nil)
	if err != nil {
		return nil, err
	}
	frame := serve.Frame{Program: "helm-chart-versions", Version: version, Links: []serve.Link{{Path: "metrics", Text: "Metrics"}}}
	mux, err := serve.Routes(map[string]http.HandlerFunc{"GET /{$}": func(w http.ResponseWriter, req *http.Request) {
		now := frame
		now.Now = time.Now().UTC().Truncate(time.Second)
		pages.Render(w, http.StatusOK, "versions.html", newPage(now, t.View(), req.URL.Query()))
	}})
	if err != nil {
		return nil, err
	}
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, req *http.Request) {
		if err := t.WhyNotReady(); err != nil {
			// An empty response would resolve alerts.
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		metrics.ServeHTTP(w, req)
	})
	return mux, nil
}

func newPage(frame serve.Frame, view *View, given url.Values) *page {
	p := &page{Frame: frame, View: view, Text: given.Get("q"), Level: given.Get("level")}
	words := strings.Fields(strings.ToLower(p.Text[:min(len(p.Text), maxText)]))
	words = words[:min(len(words), maxWords)]
	counts := make(map[string]int)
	for i := range view.Rows {
		r := &view.Rows[i]
		if !contains(r, words) {
			continue
		}
		level := levelOf(r)
		if counts[level]++; p.Level == "" || p.Level == level {
			p.Shown = append(p.Shown, r)
		}
	}
	link := func(level, number string) string {
		q := url.Values{}
		for key, value := range map[string]string{"q": p.Text, "level": level, "page": number} {
			if value != "" {
				q.Set(key, value)
			}
		}
		return "?" + q.Encode()
	}
	for _, level := range []string{string(outdated.Major), string(outdated.Minor), string(outdated.Patch), unknown, string(outdated.None)} {
		f := facet{level, counts[level], p.Level == level, link(level, "")}
		if f.On {
			f.URL = link("", "")
		}
		if f.Count > 0 || f.On {
			p.Facets = append(p.Facets, f)
		}
	}
	p.Pager = serve.NewPager(len(p.Shown), given.Get("page"), func(number string) string { return link(p.Level, number) })
	p.Shown = p.Shown[p.Begin():p.To]
	return p
}

func levelOf(r *outdated.Row) string {
	if r.Level == "" {
		return unknown
	}
	return string(r.Level)
}

// maxWords and maxText bound the text that is searched for, since every row is compared with it.
const (
	maxWords = 16
	maxText  = 512 // bytes
)

// contains reports whether one of the names and versions of a row contains each of some words, which are in lower case.
func contains(r *outdated.Row, words []string) bool {
	for _, word := range words {
		if !slices.ContainsFunc([]string{r.Cluster, r.Namespace, r.Name, r.Chart, r.Version, r.Latest, r.Repository, string(r.Reason)},
			func(field string) bool { return strings.Contains(strings.ToLower(field), word) }) {
			return false
		}
	}
	return true
}
