package versions

import (
	"embed"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
	"github.com/helm-state-metrics/helm-state-metrics/internal/serve"
)

//go:embed templates
var files embed.FS

// pageSize is how many releases one page shows.
const pageSize = 100

// unknown is how the page calls releases without a level.
const unknown = "unknown"

// page is what the template shows.
type page struct {
	serve.Frame
	*View
	Text, Level    string // the filters
	Facets         []facet
	Shown          []*outdated.Row
	Matched        int
	From, To       int // of the matched ones, from 1
	Previous, Next string
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
	counts := make(map[string]int)
	for i := range view.Rows {
		r := &view.Rows[i]
		if !contains(r, p.Text) {
			continue
		}
		level := levelOf(r)
		if counts[level]++; p.Level == "" || p.Level == level {
			p.Shown = append(p.Shown, r)
		}
	}
	link := func(level string, number int) string {
		q := url.Values{}
		for key, value := range map[string]string{"q": p.Text, "level": level} {
			if value != "" {
				q.Set(key, value)
			}
		}
		if number > 1 {
			q.Set("page", strconv.Itoa(number))
		}
		return "?" + q.Encode()
	}
	for _, level := range []string{string(outdated.Major), string(outdated.Minor), string(outdated.Patch), unknown, string(outdated.None)} {
		on := p.Level == level
		if counts[level] == 0 && !on {
			continue
		}
		f := facet{level, counts[level], on, link(level, 1)}
		if on {
			f.URL = link("", 1)
		}
		p.Facets = append(p.Facets, f)
	}
	p.Matched = len(p.Shown)
	number, err := strconv.Atoi(given.Get("page"))
	last := max((p.Matched+pageSize-1)/pageSize, 1)
	if err != nil {
		number = 1
	}
	number = min(max(number, 1), last)
	p.From, p.To = min((number-1)*pageSize+1, p.Matched), min(number*pageSize, p.Matched)
	p.Shown = p.Shown[max(p.From-1, 0):p.To]
	if number > 1 {
		p.Previous = link(p.Level, number-1)
	}
	if number < last {
		p.Next = link(p.Level, number+1)
	}
	return p
}

func levelOf(r *outdated.Row) string {
	if r.Level == "" {
		return unknown
	}
	return string(r.Level)
}

// contains reports whether one of the names and versions of a row contains each word of a text.
func contains(r *outdated.Row, text string) bool {
	fields := []string{r.Cluster, r.Namespace, r.Name, r.Chart, r.Version, r.Latest, r.Repository, string(r.Reason)}
	for word := range strings.FieldsSeq(text) {
		if !slices.ContainsFunc(fields, func(field string) bool { return strings.Contains(field, word) }) {
			return false
		}
	}
	return true
}

// Clustered reports whether releases are of clusters with names.
func (v *View) Clustered() bool {
	return slices.ContainsFunc(v.Rows, func(r outdated.Row) bool { return r.Cluster != "" })
}
