package web

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// apiList answers with the releases that match a query. It encodes one at a time, so that it needs little
// memory.
func (p *pages) apiList(w http.ResponseWriter, req *http.Request) {
	q, after, limit, err := parseList(req)
	if err != nil {
		writeError(w, http.StatusBadRequest, reasonInvalid, err)
		return
	}
	all, err := p.source.Releases()
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, reasonNotReady, err)
		return
	}
	from, found := slices.BinarySearchFunc(all, after, func(r *release.Release, key release.Key) int { return r.Compare(key) })
	if found {
		from++
	}
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(w, 16<<10)
	defer out.Flush() // it fails if the client has gone away
	one := json.NewEncoder(out)
	_ = out.WriteByte('{')
	if problems := p.source.Problems(); len(problems) > 0 {
		_, _ = out.WriteString(`"problems":`)
		_ = one.Encode(problemTexts(problems))
		_ = out.WriteByte(',')
	}
	_, _ = out.WriteString(`"releases":[`)
	written := 0
	var last release.Key
	for _, r := range all[from:] {
		if !q.matches(r) || !q.wants(r) {
			continue
		}
		if written == limit && limit > 0 {
			_, _ = fmt.Fprintf(out, `],"continue":%q}`+"\n", base64.RawURLEncoding.EncodeToString([]byte(last.String())))
			return
		}
		if written > 0 {
			_ = out.WriteByte(',')
		}
		if err := one.Encode(toAPI(r, p.reads)); err != nil {
			return // the client has gone away
		}
		written, last = written+1, r.Key
	}
	_, _ = out.WriteString("]}\n")
}

// parseList reads the parameters of a list. It begins after the given key; limit 0 means no limit.
func parseList(req *http.Request) (q query, after release.Key, limit int, err error) {
	v, err := parameters(req)
	if err != nil {
		return q, after, 0, err
	}
	known := []string{"namespace", "status", "chart", "q", "limit", "continue"}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if !slices.Contains(known, name) {
			return q, after, 0, fmt.Errorf("unknown parameter %q; known are %v", cut(name), known)
		}
	}
	if q, err = parseQuery(v); err != nil {
		return q, after, 0, err
	}
	if s := v.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 {
			return q, after, 0, fmt.Errorf("limit %q is not a number above 0", cut(s))
		}
	}
	if s := v.Get("continue"); s != "" {
		text, err := base64.RawURLEncoding.DecodeString(s)
		namespace, name, ok := strings.Cut(string(text), "/")
		if err != nil || !ok {
			return q, after, 0, errors.New("continue is not a value that a list has returned")
		}
		after = release.Key{Namespace: namespace, Name: name}
	}
	return q, after, limit, nil
}

func (p *pages) apiGet(w http.ResponseWriter, req *http.Request) {
	d, err := p.source.Release(req.Context(), keyOf(req))
	switch {
	case err != nil:
		writeError(w, http.StatusServiceUnavailable, reasonNotReady, err)
		return
	case d.Shown == nil:
		writeError(w, http.StatusNotFound, reasonNotFound, fmt.Errorf("no release %s: %s", d.Key, absenceText(d.Absence)))
		return
	}
	answer := apiDetail{
		apiRelease: toAPI(d.Shown, p.reads), HeadRead: payload(d.Shown).Read, Notes: notes(&d, p.reads, time.Now()),
		ModifiedSinceRead: d.Shown.Outdated(),
	}
	if d.Failure != nil {
		answer.HeadError, answer.HeadErrorAt = d.Failure.Error, d.Failure.At
	}
	for _, r := range d.Revisions {
		answer.Revisions = append(answer.Revisions, apiRevision{r.Number, r.Status, r.Storage, r.Object(d.Name), jsonTime(r.Created.Time()), jsonTime(r.Modified.Time())})
	}
	writeJSON(w, http.StatusOK, answer)
}

// apiNotFound answers requests that no other route of the API handles.
func apiNotFound(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, http.StatusMethodNotAllowed, reasonMethod, errors.New("the API has only GET"))
		return
	}
	writeError(w, http.StatusNotFound, reasonNotFound, errors.New("no such path; see /api/v1/releases and /api/v1/releases/{namespace}/{name}"))
}

// The reasons of errors, which programs may rely on.
const (
	reasonInvalid  = "invalid"
	reasonNotFound = "not_found"
	reasonNotReady = "not_ready"
	reasonMethod   = "method_not_allowed"
)

// apiRelease is a release in the API. docs/pages.md documents the fields, which may be added to but never
// removed.
type apiRelease struct {
	Namespace        string         `json:"namespace"`
	Name             string         `json:"name"`
	Status           release.Status `json:"status"`
	Revision         int            `json:"revision"`
	DeployedRevision int            `json:"deployedRevision,omitempty"`
	Created          time.Time      `json:"created"`
	Modified         time.Time      `json:"modified,omitzero"`
	Head             headState      `json:"head"`
	HeadProblem      string         `json:"headProblem,omitempty"`
	Chart            string         `json:"chart,omitempty"`
	ChartVersion     string         `json:"chartVersion,omitempty"`
	AppVersion       string         `json:"appVersion,omitempty"`
	Deprecated       bool           `json:"deprecated,omitempty"`
	FirstDeployed    time.Time      `json:"firstDeployed,omitzero"`
	LastDeployed     time.Time      `json:"lastDeployed,omitzero"`
	Description      string         `json:"description,omitempty"`
	PayloadBytes     int            `json:"payloadBytes,omitempty"`
}

// apiDetail is what the API of one release has in addition.
type apiDetail struct {
	apiRelease
	HeadRead time.Time `json:"headRead,omitzero"`
	// ModifiedSinceRead says that the description may be out of date.
	ModifiedSinceRead bool `json:"modifiedSinceRead,omitempty"`
	// HeadError is the last error of reading a head that is pending or out of date.
	HeadError   string        `json:"headError,omitempty"`
	HeadErrorAt time.Time     `json:"headErrorAt,omitzero"`
	Revisions   []apiRevision `json:"revisions"`
	Notes       []string      `json:"notes"`
}

type apiRevision struct {
	Revision int             `json:"revision"`
	Status   release.Status  `json:"status"`
	Storage  release.Storage `json:"storage"`
	Object   string          `json:"object"`
	Created  time.Time       `json:"created"`
	Modified time.Time       `json:"modified,omitzero"`
}

func toAPI(r *release.Release, reads bool) apiRelease {
	a := apiRelease{
		Namespace: r.Namespace, Name: r.Name, Status: r.Newest.Status,
		Revision: r.Newest.Number, DeployedRevision: r.Deployed,
		Created: jsonTime(r.Newest.Created.Time()), Modified: jsonTime(r.Newest.Modified.Time()),
		Head: stateOfHead(r, reads), HeadProblem: payload(r).Problem, PayloadBytes: payload(r).Bytes,
	}
	if h, ok := r.Head(); ok {
		chart, _ := r.Chart()
		a.Chart, a.ChartVersion, a.AppVersion, a.Deprecated = chart.Name, chart.Version, chart.AppVersion, chart.Deprecated
		a.FirstDeployed, a.LastDeployed, a.Description = jsonTime(h.FirstDeployed), jsonTime(h.LastDeployed), h.Description
	}
	return a
}

// jsonTime leaves out a time that JSON cannot express: anybody can write one into a record, and it must not
// break the response about all others.
func jsonTime(t time.Time) time.Time {
	if year := t.Year(); year < 1 || year > 9999 {
		return time.Time{}
	}
	return t
}

func writeError(w http.ResponseWriter, status int, reason string, err error) {
	writeJSON(w, status, map[string]string{"error": err.Error(), "reason": reason})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // it fails if the client has gone away
}
