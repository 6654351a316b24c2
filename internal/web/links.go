package web

import (
	"net/url"
	"slices"
	"strconv"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// params are the parameters of a page's URL.
type params url.Values

// with returns the URL of the same page with one parameter changed, from its
// first page on.
func (p params) with(key string, values ...string) string {
	changed := url.Values{}
	for k, v := range p {
		if k != "page" {
			changed[k] = v
		}
	}
	if changed[key] = values; len(values) == 0 {
		delete(changed, key)
	}
	return "?" + changed.Encode()
}

// clean keeps the parameters that the page knows, without empty ones.
func clean(given url.Values) params {
	here := params{}
	for _, key := range []string{"namespace", "status", "chart", "q", "sort"} {
		for _, value := range given[key] {
			if value != "" {
				here[key] = append(here[key], value)
			}
		}
	}
	return here
}

// facets returns the statuses that there are releases of, or that are filtered
// by.
func facets(counts map[release.Status]int, q *query, here params) []facet {
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
		all = append(all, facet{status, counts[status], on, here.with("status", then...)})
	}
	return all
}

// headers returns the heads of all columns.
func headers(o order, here params) []header {
	var all []header
	for _, c := range columns() {
		h := header{Key: c.key, Title: c.title, URL: here.with("sort", c.key)}
		if c.key == o.key {
			h.Sorted = "ascending"
			if o.reverse {
				h.Sorted = "descending"
			} else {
				h.URL = here.with("sort", "-"+c.key)
			}
		}
		all = append(all, h)
	}
	return all
}

// paginate sets which of the matched releases are shown: those of the asked
// page, or of the one that is nearest to it.
func (v *overview) paginate(matched int, asked string, here params) {
	page, err := strconv.Atoi(asked)
	last := max((matched+pageSize-1)/pageSize, 1)
	if err != nil {
		page = 1
	}
	page = min(max(page, 1), last)
	v.Matched = matched
	v.From, v.To = min((page-1)*pageSize+1, matched), min(page*pageSize, matched)
	to := func(n int) string { return here.with("page", strconv.Itoa(n)) }
	if page > 1 {
		v.First, v.Previous = to(1), to(page-1)
	}
	if page < last {
		v.Next, v.Last = to(page+1), to(last)
	}
}
