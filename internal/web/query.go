package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

const (
	// maxQuery bounds the query of a URL, in bytes: pages repeat it in their links,
	// and each release is compared with it.
	maxQuery = 4 << 10
	// maxWords is how many words are searched for.
	maxWords = 16
)

// parameters reads the parameters of a request. Only those that are lists may be
// repeated.
func parameters(req *http.Request) (url.Values, error) {
	if len(req.URL.RawQuery) > maxQuery {
		return nil, fmt.Errorf("the query is longer than %d bytes", maxQuery)
	}
	v, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("invalid query: %w", err)
	}
	for name, values := range v {
		if name != "namespace" && name != "status" && len(values) > 1 {
			return nil, fmt.Errorf("parameter %q is given more than once", cut(name))
		}
	}
	return v, nil
}

// query selects releases. The zero value selects all.
type query struct {
	namespaces []string
	statuses   []release.Status
	chart      string
	words      []string // in lower case; each has to be found somewhere
}

// parseQuery reads the parameters that pages and API share. A list is given
// by repetition, by commas, or both.
func parseQuery(v url.Values) (query, error) {
	q := query{namespaces: split(v["namespace"]), chart: v.Get("chart")}
	for _, s := range split(v["status"]) {
		if !slices.Contains(release.Statuses(), release.Status(s)) {
			return query{}, fmt.Errorf("unknown status %q; known are %v", cut(s), release.Statuses())
		}
		q.statuses = append(q.statuses, release.Status(s))
	}
	if q.words = strings.Fields(strings.ToLower(v.Get("q"))); len(q.words) > maxWords {
		return query{}, fmt.Errorf("q has more than %d words", maxWords)
	}
	return q, nil
}

// split returns the parts of lists, each once.
func split(values []string) []string {
	var all []string
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); part != "" && !slices.Contains(all, part) {
				all = append(all, part)
			}
		}
	}
	return all
}

// cut bounds what an error quotes of a request.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), 64)], "") }

// matches reports whether a release is selected, apart from its status.
func (q *query) matches(r *release.Release) bool {
	if len(q.namespaces) > 0 && !slices.Contains(q.namespaces, r.Namespace) {
		return false
	}
	if q.chart == "" && len(q.words) == 0 {
		return true
	}
	chart, _ := r.Chart()
	if q.chart != "" && q.chart != chart.Name {
		return false
	}
	for _, word := range q.words {
		if !slices.ContainsFunc([]string{r.Name, r.Namespace, chart.Name, chart.Version, chart.AppVersion}, func(s string) bool {
			return strings.Contains(strings.ToLower(s), word)
		}) {
			return false
		}
	}
	return true
}

// wants reports whether the status of a release is selected.
func (q *query) wants(r *release.Release) bool {
	return len(q.statuses) == 0 || slices.Contains(q.statuses, r.Newest.Status)
}
