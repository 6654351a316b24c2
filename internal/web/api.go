package web

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// apiList answers with the releases that match a query. It encodes one at a time,
// so that it needs little memory.
func (p *pages) apiList(w http.ResponseWriter, req *http.Request) {
	v, err := parameters(req)
	if err != nil {
		writeError(w, http.StatusBadRequest, reasonInvalid, err)
		return
	}
	q, after, limit, err := parseList(v)
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
			_, _ = fmt.Fprintf(out, `],"continue":%q}`+"\n", token(last))
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

// parseList reads the parameters of a list. It begins after the given key; limit
// 0 means no limit.
func parseList(v url.Values) (q query, after release.Key, limit int, err error) {
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

// token names the release after which a list continues. It stays valid when
// releases come and go.
func token(last release.Key) string {
	return base64.RawURLEncoding.EncodeToString([]byte(last.String()))
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
