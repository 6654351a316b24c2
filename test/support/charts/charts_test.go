package charts_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/charts"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// get returns the answer to a request with headers, as name and value in turn.
func get(t *testing.T, s *charts.Server, path string, headers ...string) (status int, header http.Header, text string) {
	t.Helper()
	req := expect.Value(http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, http.NoBody))(t)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.Client().Do(req)
	expect.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		body = []byte(err.Error())
	}
	return resp.StatusCode, resp.Header, string(body)
}

func TestRepository(t *testing.T) {
	dir := t.TempDir()
	expect.NoError(t, os.WriteFile(filepath.Join(dir, "index.yaml"), []byte("apiVersion: v1\n"), 0o600))
	s := charts.NewRepository(dir)
	defer s.Close()
	_, header, text := get(t, s, "/index.yaml")
	if text != "apiVersion: v1\n" || header.Get("Last-Modified") == "" {
		t.Errorf("the answer is %q with %v", text, header)
	}
	if status, _, _ := get(t, s, "/index.yaml", "Accept-Encoding", "gzip", "If-None-Match", header.Get("ETag")); status != http.StatusNotModified {
		t.Errorf("the same again is answered with %d", status)
	}
	other := charts.NewRepository(dir)
	defer other.Close()
	other.Break(charts.Text("elsewhere"))
	for name, test := range map[string]struct {
		fault  charts.Fault
		status int
		text   string
	}{
		"a status":        {charts.Status(429, "Retry-After", "1"), 429, "Too Many Requests\n"},
		"another text":    {charts.Text("{"), 200, "{"},
		"spaces":          {charts.Spaces("a: b", 100_000), 200, "a: b" + strings.Repeat(" ", 100_000)},
		"half an answer":  {charts.Half, 200, "unexpected EOF"},
		"another server":  {charts.Redirect(other.URL), 200, "elsewhere"},
		"nothing at last": {nil, 200, "apiVersion: v1\n"},
	} {
		s.Break(test.fault)
		if status, _, text := get(t, s, "/index.yaml"); status != test.status || text != test.text {
			t.Errorf("%s: the answer is %d with %q", name, status, text)
		}
	}
	s.Break(nil)
	s.Require("bot", "secret")
	if status, _, _ := get(t, s, "/index.yaml"); status != http.StatusUnauthorized {
		t.Errorf("without a password the answer is %d", status)
	}
	expect.Equal(t, "the counts differ", []int{1, 1, 1}, []int{s.Answers(304), s.Answers(429), s.Answers(401)})
}

func TestRegistry(t *testing.T) {
	programs := []string{"helm3", "helm4"}
	if err := process.Missing(programs...); err != nil {
		t.Skip(err)
	}
	r := charts.NewRegistry(2)
	defer r.Close()
	versions := map[string][]string{"helm3": {"1.0.0", "1.0.0-rc.1+build.7"}, "helm4": {"1.1.0", "10.0.0", "9.0.0"}}
	for _, program := range programs {
		h, dir := charts.Helm{Program: program, Home: t.TempDir()}, t.TempDir()
		expect.NoError(t, h.Package(t.Context(), dir, "web", versions[program]...))
		expect.NoError(t, h.Index(t.Context(), dir))
		expect.NoError(t, h.Push(t.Context(), dir, "oci://"+r.Address()+"/team"))
	}
	var tags []string
	for path := "/v2/team/web/tags/list"; path != ""; {
		_, header, text := get(t, r.Server, path)
		var page struct{ Tags []string }
		expect.NoError(t, json.Unmarshal([]byte(text), &page))
		tags = append(tags, page.Tags...)
		path, _, _ = strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
	}
	expect.Equal(t, "the tags differ", []string{"1.0.0", "1.0.0-rc.1_build.7", "1.1.0", "10.0.0", "9.0.0"}, tags)

	r.Require("bot", "secret")
	r.Tokens.Store(true)
	_, header, _ := get(t, r.Server, "/v2/team/web/tags/list")
	expect.Equal(t, "the challenge differs", []string{`Bearer realm="` + r.URL + `/token",service="registry",scope="repository:team/web:pull"`}, header.Values("WWW-Authenticate"))
	_, _, text := get(t, r.Server, "/token", "Authorization", "Basic Ym90OnNlY3JldA==")
	var answer struct{ Token string }
	expect.NoError(t, json.Unmarshal([]byte(text), &answer))
	r.RefuseTags.Store(true)
	if status, _, _ := get(t, r.Server, "/v2/team/web/tags/list", "Authorization", "Bearer "+answer.Token); status != http.StatusForbidden {
		t.Errorf("the list is not refused: %d", status)
	}
	if status, _, _ := get(t, r.Server, "/v2/team/web/manifests/1.0.0", "Authorization", "Bearer "+answer.Token); status != http.StatusOK {
		t.Errorf("a pull is refused: %d", status)
	}
}
