package chartrepo_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
)

// newRegistry returns a registry with tags of helm/a, and of helm alone.
func newRegistry(t testing.TB, tags ...string) http.Handler {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	for _, tag := range tags {
		for _, repository := range []string{"helm/a", "helm"} {
			const empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
			manifest := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
				`"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"` + empty + `","size":2},"layers":[]}`
			req := httptest.NewRequest(http.MethodPut, "/v2/"+repository+"/manifests/"+tag, strings.NewReader(manifest))
			req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w := httptest.NewRecorder()
			if handler.ServeHTTP(w, req); w.Code != http.StatusCreated {
				t.Fatalf("%s: %d %s", tag, w.Code, w.Body)
			}
		}
	}
	return handler
}

// ociURL is where a server is a registry.
func ociURL(server *httptest.Server) string {
	return "oci" + strings.TrimPrefix(server.URL, "http") + "/helm"
}

func isList(req *http.Request) bool { return strings.HasSuffix(req.URL.Path, "/tags/list") }

func TestTags(t *testing.T) {
	tags := []string{"1.0.0", "1.2.3_build.4", "v2.0.0", "2.0.0-rc.1", "latest", "1234567", "1.0", "sha256-" + strings.Repeat("0", 64) + ".sig"}
	want := charts{"a": {"1.0.0", "1.2.3+build.4", "2.0.0-rc.1", "v2.0.0"}}
	backend := newRegistry(t, tags...)
	var lists atomic.Int32
	for pageSize := range 9 {
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			if isList(req) && pageSize > 0 {
				lists.Add(1)
				page(w, req, backend, pageSize)
				return
			}
			backend.ServeHTTP(w, req)
		})
		reply := ask(t, chartrepo.Config{URL: ociURL(server)}, nil)
		if reply.Result != chartrepo.OK {
			t.Fatalf("got %+v", reply)
		}
		slices.Sort(reply.Answer.Charts["a"])
		if diff := cmp.Diff(want, reply.Answer.Charts); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", pageSize, diff)
		}
	}
	if lists.Load() < 20 {
		t.Errorf("%d pages", lists.Load())
	}
	server := serve(t, backend.ServeHTTP)
	reply := chartrepo.New(chartrepo.Config{Name: "n", URL: ociURL(server)}, chartrepo.Options{}).Ask(t.Context(), "b", "1.0.0", nil)
	if reply.Result != chartrepo.NotFound || reply.Answer == nil || len(reply.Answer.Charts) != 0 || reply.Err != nil {
		t.Errorf("an unknown chart: got %+v", reply)
	}
	last := &chartrepo.Answer{Charts: map[string][]string{"b": {"1.0.0"}}}
	reply = chartrepo.New(chartrepo.Config{Name: "n", URL: ociURL(server)}, chartrepo.Options{}).Ask(t.Context(), "b", "1.0.0", last)
	if reply.Result != chartrepo.NotFound || reply.Answer != nil || reply.Err == nil {
		t.Errorf("a chart that was there: got %+v, want a failure, which takes back no answer", reply)
	}
}

// page serves a page of tags with a link to the next, which the registry itself does not have.
func page(w http.ResponseWriter, req *http.Request, backend http.Handler, size int) {
	all := httptest.NewRecorder()
	backend.ServeHTTP(all, httptest.NewRequest(http.MethodGet, req.URL.Path, nil))
	var list struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	_ = json.Unmarshal(all.Body.Bytes(), &list)
	at, _ := strconv.Atoi(req.URL.Query().Get("at"))
	end := min(at+size, len(list.Tags))
	if end < len(list.Tags) {
		w.Header().Set("Link", fmt.Sprintf(`<%s?at=%d>; rel="next"`, req.URL.Path, end))
	}
	list.Tags = list.Tags[at:end]
	_ = json.NewEncoder(w).Encode(list)
}

func TestNamesThatRegistriesCannotHave(t *testing.T) {
	server := serve(t, func(_ http.ResponseWriter, req *http.Request) { t.Errorf("asked for %s", req.URL) })
	r := chartrepo.New(chartrepo.Config{Name: "n", URL: ociURL(server)}, chartrepo.Options{})
	for _, chart := range []string{"", ".", "..", "../x", "a/b", "A", "a b", "a:1", "a@sha256:0", "a?x", "a%2fb", "ä", "a\n", strings.Repeat("a", 251)} {
		if reply := r.Ask(t.Context(), chart, "1.0.0", nil); reply.Result != chartrepo.NotFound || reply.Answer == nil {
			t.Errorf("%q: got %+v", chart, reply)
		}
	}
}

func TestFaultsOfRegistries(t *testing.T) {
	backend := newRegistry(t, "1.0.0")
	answer := func(status int, header, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if name, value, ok := strings.Cut(header, ": "); ok {
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	unknown := `{"errors":[{"code":"NAME_UNKNOWN","message":"s3cret"}]}`
	for name, tt := range map[string]struct {
		list  http.HandlerFunc
		pulls bool
		want  chartrepo.Result
	}{
		"unknown":                             {answer(404, "", unknown), false, chartrepo.NotFound},
		"404 of a chart that can be pulled":   {answer(404, "", ""), true, chartrepo.Forbidden},
		"401":                                 {answer(401, "", unknown), false, chartrepo.Unauthorized},
		"401 of a chart that can be pulled":   {answer(401, "", ""), true, chartrepo.Forbidden},
		"401 that asks for basic credentials": {answer(401, `Www-Authenticate: Basic realm="x"`, ""), false, chartrepo.Unauthorized},
		"401 with a realm on another host":    {answer(401, `Www-Authenticate: Bearer realm="http://127.0.0.9/s3cret?s3cret"`, ""), false, chartrepo.Failed},
		"403":                                 {answer(403, "", unknown), false, chartrepo.Forbidden},
		"405":                                 {answer(405, "", ""), false, chartrepo.Failed},
		"405 of a chart that can be pulled":   {answer(405, "", ""), true, chartrepo.Forbidden},
		"429":                                 {answer(429, "Retry-After: 60", ""), true, chartrepo.RateLimited},
		"500":                                 {answer(500, "", "s3cret"), true, chartrepo.Failed},
		"a web page":                          {answer(200, "", "<html>s3cret"), true, chartrepo.Invalid},
		"tags of another type":                {answer(200, "", `{"tags":"1.0.0"}`), true, chartrepo.Invalid},
		"no list":                             {answer(200, "", `{"name":"helm/a"}`), true, chartrepo.OK},
		"half a page":                         {answer(200, "Content-Length: 1000", `{"tags":["1.0.0"`), true, chartrepo.Failed},
		"half of nested arrays":               {answer(200, "", strings.Repeat("[", 1<<20)), true, chartrepo.Invalid},
		"a link to another host":              {answer(200, `Link: <http://127.0.0.9/?s3cret>; rel="next"`, `{"tags":["1.0.0"]}`), true, chartrepo.Failed},
		"a link that is none":                 {answer(200, "Link: x?s3cret", `{"tags":["1.0.0"]}`), true, chartrepo.Failed},
		"endless pages":                       {answer(200, `Link: </v2/helm/a/tags/list?x>; rel="next"`, `{"tags":["1.0.0"]}`), true, chartrepo.TooLarge},
		"endless empty pages":                 {answer(200, `Link: </v2/helm/a/tags/list?x>; rel="next"`, `{"tags":[]}`), true, chartrepo.TooLarge},
		"a page that is too large":            {answer(200, "", `{"tags":["`+strings.Repeat("x", 70<<10)+`"]}`), true, chartrepo.TooLarge},
		"too many bytes":                      {answer(200, "", `{"tags":["`+strings.Repeat("x", 20<<10)+`"]}`), true, chartrepo.TooLarge},
		"endless redirects":                   {answer(302, "Location: /v2/helm/a/tags/list", ""), true, chartrepo.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			server := serve(t, func(w http.ResponseWriter, req *http.Request) {
				requests.Add(1)
				switch {
				case isList(req):
					tt.list(w, req)
				case tt.pulls:
					backend.ServeHTTP(w, req)
				default:
					http.NotFound(w, req)
				}
			})
			c := chartrepo.Config{Name: "n", URL: ociURL(server)}
			r := chartrepo.New(c, chartrepo.Options{DockerConfig: filepath.Join(t.TempDir(), "none")})
			r.SetLimits(chartrepo.SmallLimits)
			reply := r.Ask(t.Context(), "a", "1.0.0", nil)
			check(t, c, reply)
			if reply.Result != tt.want || (reply.RetryAfter != 0) != (name == "429") {
				t.Errorf("got %+v", reply)
			}
			if n := requests.Load(); n > 2 && !strings.HasPrefix(name, "endless") {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestCredentialsOfRegistries(t *testing.T) {
	backend := newRegistry(t, "1.0.0")
	basic := func(req *http.Request, user, password string) bool {
		u, p, ok := req.BasicAuth()
		return ok && u == user && p == password
	}
	servers := map[string]*httptest.Server{
		"basic": serve(t, func(w http.ResponseWriter, req *http.Request) {
			if !basic(req, "bot", "hunter2") {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			backend.ServeHTTP(w, req)
		}),
		"token": serve(t, func(w http.ResponseWriter, req *http.Request) {
			switch {
			case req.URL.Path == "/token" && basic(req, "bot", "hunter2") && req.FormValue("scope") == "repository:helm/a:pull":
				_, _ = io.WriteString(w, `{"token":"t0ken"}`)
			case req.URL.Path == "/token":
				w.WriteHeader(http.StatusUnauthorized)
			case req.Header.Get("Authorization") != "Bearer t0ken":
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope="repository:helm/a:pull"`, req.Host))
				w.WriteHeader(http.StatusUnauthorized)
			default:
				backend.ServeHTTP(w, req)
			}
		}),
	}
	for kind, server := range servers {
		dir := t.TempDir()
		docker := func(user, password string) string {
			file := filepath.Join(dir, user+password+".json")
			writeFile(t, file, fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, strings.TrimPrefix(server.URL, "http://"),
				base64.StdEncoding.EncodeToString([]byte(user+":"+password))))
			return file
		}
		writeFile(t, filepath.Join(dir, "password"), "hunter2\n")
		writeFile(t, filepath.Join(dir, "broken"), "{")
		for name, tt := range map[string]struct {
			config chartrepo.Config
			docker string
			want   chartrepo.Result
		}{
			"a password":                  {chartrepo.Config{Username: "bot", Password: "hunter2"}, "none", chartrepo.OK},
			"a file":                      {chartrepo.Config{Username: "bot", PasswordFile: filepath.Join(dir, "password")}, "none", chartrepo.OK},
			"Docker's":                    {chartrepo.Config{}, docker("bot", "hunter2"), chartrepo.OK},
			"a wrong password":            {chartrepo.Config{Username: "bot", Password: "wrong"}, docker("bot", "hunter2"), chartrepo.Unauthorized},
			"a wrong password of Docker":  {chartrepo.Config{}, docker("bot", "wrong"), chartrepo.Unauthorized},
			"none":                        {chartrepo.Config{}, filepath.Join(dir, "none"), chartrepo.Unauthorized},
			"a config.json that is wrong": {chartrepo.Config{}, filepath.Join(dir, "broken"), chartrepo.Failed},
		} {
			t.Run(kind+": "+name, func(t *testing.T) {
				c := tt.config
				c.Name, c.URL = "n", ociURL(server)
				reply := chartrepo.New(c, chartrepo.Options{DockerConfig: tt.docker}).Ask(t.Context(), "a", "1.0.0", nil)
				check(t, c, reply)
				if reply.Result != tt.want {
					t.Errorf("got %+v", reply)
				}
			})
		}
	}
}

func TestCredentialHelper(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nread host\n[ \"$1\" = get ] && echo \"{\\\"ServerURL\\\":\\\"$host\\\",\\\"Username\\\":\\\"bot\\\",\\\"Secret\\\":\\\"hunter2\\\"}\"\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "config.json"), `{"credsStore":"test"}`)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("DOCKER_CONFIG", dir)
	backend := newRegistry(t, "1.0.0")
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if _, p, _ := req.BasicAuth(); p != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, req)
	})
	reply := chartrepo.New(chartrepo.Config{Name: "n", URL: ociURL(server)}, chartrepo.Options{}).Ask(t.Context(), "a", "1.0.0", nil)
	if reply.Result != chartrepo.OK {
		t.Errorf("got %+v", reply)
	}
}
