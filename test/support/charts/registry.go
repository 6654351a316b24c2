package charts

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Registry is an OCI registry, with plain HTTP as clients expect it of loopback addresses. It lists tags in lexical order and in pages, and may refuse to list them.
type Registry struct {
	*Server
	Tokens     atomic.Bool // it wants tokens instead of passwords
	RefuseTags atomic.Bool // it does not list tags, but lets pull
	page       int
	token      string
	content    http.Handler
}

// NewRegistry starts a registry that lists a number of tags on one page. The caller closes it.
func NewRegistry(page int) *Registry {
	r := &Registry{page: page, token: rand.Text(), content: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	r.Server = newServer(http.HandlerFunc(r.serve))
	r.Start()
	return r
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	authorized := r.authorized(req)
	switch {
	case req.URL.Path == "/token" && authorized:
		_ = json.NewEncoder(w).Encode(map[string]any{"token": r.token, "expires_in": 300})
		return
	case r.Tokens.Load():
		authorized = req.Header.Get("Authorization") == "Bearer "+r.token
	}
	_, repository, _ := strings.Cut(req.URL.Path, "/v2/")
	repository, isTags := strings.CutSuffix(repository, "/tags/list")
	switch {
	case !authorized && r.Tokens.Load():
		challenge(w, fmt.Sprintf(`Bearer realm="%s/token",service="registry",scope="repository:%s:pull"`, r.URL, repository))
	case !authorized:
		challenge(w, `Basic realm="registry"`)
	case isTags && r.RefuseTags.Load():
		refuse(w, http.StatusForbidden, "DENIED")
	case isTags:
		r.listTags(w, req)
	default:
		r.content.ServeHTTP(w, req)
	}
}

func challenge(w http.ResponseWriter, how string) {
	w.Header().Set("WWW-Authenticate", how)
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no"}]}`, code)
}

// listTags answers with a page of tags. The registry of go-containerregistry has no Link header.
func (r *Registry) listTags(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	req = req.Clone(req.Context())
	req.URL.RawQuery = ""
	whole := httptest.NewRecorder()
	r.content.ServeHTTP(whole, req)
	var list struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	if whole.Code != http.StatusOK || json.Unmarshal(whole.Body.Bytes(), &list) != nil {
		refuse(w, whole.Code, "NAME_UNKNOWN")
		return
	}
	slices.Sort(list.Tags)
	if last := query.Get("last"); last != "" {
		list.Tags = slices.DeleteFunc(list.Tags, func(tag string) bool { return tag <= last })
	}
	size := r.page
	if n, err := strconv.Atoi(query.Get("n")); err == nil {
		size = min(size, n)
	}
	if len(list.Tags) > size {
		list.Tags = list.Tags[:size]
		query.Set("last", list.Tags[size-1])
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, req.URL.Path, query.Encode()))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list)
}
