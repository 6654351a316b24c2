package web

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/internal/serve"
)

// maxNamespaces is how many namespaces the filter suggests.
const maxNamespaces = 100

// overview is what the template of the status page shows.
type overview struct {
	serve.Frame
	Problems   []string
	Query      overviewQuery
	Statuses   []facet
	Columns    []header
	Rows       []row
	Namespaces []string // suggestions
	Total      int      // all releases
	serve.Pager
}

// overviewQuery is what the filter form is filled in with.
type overviewQuery struct {
	Text, Namespaces, Chart, Sort string
	Statuses                      []release.Status
}

// facet is one status, and how many releases have it.
type facet struct {
	Status release.Status
	Count  int
	On     bool   // filtered by
	URL    string // that turns the filter on or off
}

// header is the head of a column.
type header struct {
	Key, Title string
	Sorted     string // as aria-sort has it, empty if not sorted by
	URL        string // that sorts by it
}

// row is a release in the table.
type row struct {
	*release.Release
	Chart   release.Chart
	State   headState
	Updated time.Time
	AsOf    time.Time
}

// serveOverview answers with the status page.
func (p *pages) serveOverview(w http.ResponseWriter, req *http.Request) {
	given, q, by, err := parseOverview(req)
	if err != nil {
		p.Message(w, p.frameAt(""), http.StatusBadRequest, "Bad request", err.Error())
		return
	}
	all, err := p.source.Releases()
	if err != nil {
		w.Header().Set("Refresh", "2")
		p.Message(w, p.frameAt(""), http.StatusServiceUnavailable, "Starting", err.Error())
		return
	}
	view := overview{
		Frame: p.frameAt(""), Problems: problemTexts(p.source.Problems()), Total: len(all), Namespaces: namespaces(all),
		Query: overviewQuery{given.Get("q"), strings.Join(q.namespaces, ","), q.chart, given.Get("sort"), q.statuses},
	}
	here := clean(given)
	wanted, counts := selected(all, &q)
	slices.SortFunc(wanted, by.compare)
	view.Statuses, view.Columns = facets(counts, &q, here), headers(by, here)
	view.Pager = serve.NewPager(len(wanted), given.Get("page"), func(page string) string { return with(here, "page", page) })
	now := time.Now()
	for _, r := range wanted[view.Begin():view.To] {
		view.Rows = append(view.Rows, p.row(r, now))
	}
	p.Render(w, http.StatusOK, "overview.html", view)
}

func parseOverview(req *http.Request) (given url.Values, q query, o order, err error) {
	if given, err = parameters(req); err != nil {
		return given, q, o, err
	}
	if q, err = parseQuery(given); err != nil {
		return given, q, o, err
	}
	o, err = parseSort(given.Get("sort"))
	return given, q, o, err
}

// selected returns the releases that match a query, and how many would match of each status.
func selected(all []*release.Release, q *query) (wanted []*release.Release, counts map[release.Status]int) {
	counts = make(map[release.Status]int)
	for _, r := range all {
		if !q.matches(r) {
			continue
		}
		counts[r.Newest.Status]++
		if q.wants(r) {
			wanted = append(wanted, r)
		}
	}
	return wanted, counts
}

// namespaces returns the first namespaces that have releases.
func namespaces(all []*release.Release) []string {
	var names []string
	for _, r := range all { // in order
		if len(names) > 0 && names[len(names)-1] == r.Namespace {
			continue
		}
		if len(names) == maxNamespaces {
			break
		}
		names = append(names, r.Namespace)
	}
	return names
}

func (p *pages) row(r *release.Release, now time.Time) row {
	chart, _ := r.Chart()
	head, _ := r.Head()
	return row{r, chart, stateOfHead(r, p.reads), head.LastDeployed, now}
}

// with returns the URL of the same page with one parameter changed, from its first page on.
func with(here url.Values, key string, values ...string) string {
	changed := maps.Clone(here)
	if changed[key] = values; len(values) == 0 {
		delete(changed, key)
	}
	return "?" + changed.Encode()
}

// clean keeps the parameters of the page, without empty ones and the number of the page.
func clean(given url.Values) url.Values {
	here := url.Values{}
	for _, key := range []string{"namespace", "status", "chart", "q", "sort"} {
		for _, value := range given[key] {
			if value != "" {
				here[key] = append(here[key], value)
			}
		}
	}
	return here
}

// facets returns the statuses that there are releases of, or that are filtered by.
func facets(counts map[release.Status]int, q *query, here url.Values) []facet {
	var all []facet
	for _, status := range release.Statuses() {
		on := slices.Contains(q.statuses, status)
		if counts[status] == 0 && !on {
			continue
		}
		var then []string
		for _, other := range q.statuses {
			if other != status {
				then = append(then, string(other))
			}
		}
		if !on {
			then = append(then, string(status))
		}
		all = append(all, facet{status, counts[status], on, with(here, "status", then...)})
	}
	return all
}

// headers returns the heads of all columns.
func headers(o order, here url.Values) []header {
	var all []header
	for _, c := range columns() {
		h := header{Key: c.key, Title: c.title, URL: with(here, "sort", c.key)}
		if c.key == o.key {
			h.Sorted = "ascending"
			if o.reverse {
				h.Sorted = "descending"
			} else {
				h.URL = with(here, "sort", "-"+c.key)
			}
		}
		all = append(all, h)
	}
	return all
}
