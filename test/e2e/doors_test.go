package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

// door is the URL of an address of one of the programs.
type door string

// dial connects. The connection is closed at the end of the test.
func (d door) dial(t *testing.T) net.Conn {
	t.Helper()
	conn := expect.Value(net.Dial("tcp", strings.TrimPrefix(string(d), "http://")))(t)
	t.Cleanup(func() { _ = conn.Close() })
	expect.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// reply is a response with its body.
type reply struct {
	*http.Response
	body string
}

// hears sends a text as it is, and returns all responses. The server has to close the connection.
func (d door) hears(t *testing.T, text string) []reply {
	t.Helper()
	conn := d.dial(t)
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = io.WriteString(conn, text) // the server may close the connection before it has read all
	}()
	all, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection is still open, after %.100q", all)
	}
	<-wrote
	method, _, _ := strings.Cut(text, " ")
	var replies []reply
	for in := bufio.NewReader(bytes.NewReader(all)); ; {
		if _, err := in.Peek(1); err != nil {
			return replies
		}
		r, err := http.ReadResponse(in, &http.Request{Method: method})
		expect.NoError(t, err)
		body := expect.Value(io.ReadAll(r.Body))(t)
		_ = r.Body.Close()
		replies = append(replies, reply{r, string(body)})
	}
}

// question is a request, or several, and what is expected of the responses.
type question struct {
	text     string // as it is sent
	statuses []int  // of all responses
	header   string // "NAME: VALUE" of the first one
	part     string // of its body
}

// get is a GET of a target, after which the connection is closed, with more lines of the header.
func get(target string, more ...string) string {
	return ask("GET", target, append(more, "Connection: close")...)
}

func ask(method, target string, more ...string) string {
	if !strings.Contains(strings.ToLower(strings.Join(more, "\n")), "host:") {
		more = append(more, "Host: localhost")
	}
	return method + " " + target + " HTTP/1.1\r\n" + strings.Join(more, "\r\n") + "\r\n\r\n"
}

func is(statuses ...int) []int { return statuses }

// preface is how a client begins to speak HTTP/2 without TLS.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// TestHostileRequests asks odd questions at each door. None may be answered with what another door has, or with names of
// namespaces where there is an error, and none may take long.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t, "hostile")
	write(t, namespace, cluster.Secret("app", 1, "deployed", validPayload()))
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+namespace)
	repository, _ := newRepository(t, "valid 1.0.0")
	c := startCompanion(t, repositories("own", repository.URL), e)
	c.awaitReady(t)
	for name, door := range map[string]struct {
		door
		questions map[string]question
	}{
		"metrics":              {door(e.metrics), aboutMetrics(namespace)},
		"probes":               {door(e.health), aboutProbes()},
		"pages":                {door(e.pages), aboutPages(namespace)},
		"chart versions":       {door(c.metrics), aboutVersions()},
		"chart versions, live": {door(c.health), aboutProbes()},
	} {
		t.Run(name, func(t *testing.T) {
			for name, q := range aboutHTTP() {
				t.Run(name, func(t *testing.T) { q.check(t, door.door, namespace) })
			}
			for name, q := range door.questions {
				t.Run(name, func(t *testing.T) { q.check(t, door.door, namespace) })
			}
		})
	}
	e.alive(t)
	c.alive(t)
	for _, text := range []string{e.Output(), c.Output()} {
		if strings.Contains(text, "panic") || strings.Contains(text, "level=ERROR") {
			t.Errorf("a request made an error:\n%s", text)
		}
	}
}

// check asks a question.
func (q question) check(t *testing.T, at door, namespace string) {
	t.Helper()
	began := time.Now()
	replies := at.hears(t, q.text)
	took := time.Since(began)
	var statuses []int
	for _, r := range replies {
		statuses = append(statuses, r.StatusCode)
		if r.StatusCode >= 300 && !strings.Contains(q.text, namespace) && strings.Contains(r.body, namespace) {
			t.Errorf("an error names a namespace: %s", r.body)
		}
		if strings.Contains(r.body, marker) {
			t.Error("the response repeats a header")
		}
		if r.StatusCode >= 300 && len(r.body) > 256<<10 {
			t.Errorf("an error has %d bytes", len(r.body))
		}
		if location := r.Header.Get("Location"); location != "" && (location[0] != '/' || strings.HasPrefix(location, "//")) {
			t.Errorf("it leads to %q", location)
		}
	}
	expect.Equal(t, "the statuses differ", q.statuses, statuses) // without the text, which may have a token
	if t.Failed() || len(replies) == 0 {
		return
	}
	if name, value, _ := strings.Cut(q.header, ": "); replies[0].Header.Get(name) != value {
		t.Errorf("%s is %q, want %q", name, replies[0].Header.Get(name), value)
	}
	if !strings.Contains(replies[0].body, q.part) {
		t.Errorf("the body is %.300q, and should contain %q", replies[0].body, q.part)
	}
	if took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// aboutHTTP are questions that every door answers alike, because nobody of them reads more than the header.
func aboutHTTP() map[string]question {
	long, inner := strings.Repeat("a", 40<<10), ask("GET", "/")
	return map[string]question{
		"no HTTP":                         {text: "hello\r\n\r\n", statuses: is(400)},
		"HTTP/0.9":                        {text: "GET /nothing\r\n\r\n", statuses: is(400)},
		"HTTP/1.0":                        {text: "GET /nothing HTTP/1.0\r\nHost: localhost\r\n\r\n", statuses: is(404)},
		"HTTP/3.0":                        {text: "GET /nothing HTTP/3.0\r\nHost: localhost\r\n\r\n", statuses: is(505)},
		"an upgrade to HTTP/2":            {text: get("/nothing", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), statuses: is(404)},
		"an upgrade to a web socket":      {text: get("/nothing", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), statuses: is(404)},
		"TLS on a plain port":             {text: "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n", statuses: is(400)},
		"no host":                         {text: "GET /nothing HTTP/1.1\r\n\r\n", statuses: is(400)},
		"two hosts":                       {text: get("/nothing", "Host: localhost", "Host: 127.0.0.1"), statuses: is(400)},
		"a host that is none":             {text: get("/nothing", "Host: a b"), statuses: is(400)},
		"no slash":                        {text: get("nothing"), statuses: is(400)},
		"an escape that is none":          {text: get("/%zz"), statuses: is(400)},
		"a control character in the path": {text: get("/a\x01b"), statuses: is(400)},
		"a method that is none":           {text: get("/nothing")[1:], statuses: is(404)},
		"a method with a bracket":         {text: "G(T" + get("/nothing")[3:], statuses: is(400)},
		"a long path":                     {text: get("/" + long[:30<<10]), statuses: is(404)},
		"a path that is too long":         {text: get("/" + long), statuses: is(431)},
		"a query that is too long":        {text: get("/nothing?" + long), statuses: is(431)},
		"a header that is too long":       {text: get("/nothing", "X: "+long), statuses: is(431)},
		"too many headers":                {text: get("/nothing", strings.Repeat("X: y\r\n", 10_000)+"X: y"), statuses: is(431)},
		"a header without an end":         {text: "GET /nothing HTTP/1.1\r\nX: " + strings.Repeat(long, 10), statuses: is(431)},
		"a space before a colon":          {text: get("/nothing", "Content-Length : 3"), statuses: is(400)},
		"a null byte in a header":         {text: get("/nothing", "X: \x00"), statuses: is(400)},
		"a null byte in a header's name":  {text: get("/nothing", "X\x00: y"), statuses: is(400)},
		"an expectation that is none":     {text: get("/nothing", "Expect: everything"), statuses: is(417)},
		"two lengths":                     {text: get("/nothing", "Content-Length: 3", "Content-Length: 4") + "abc", statuses: is(400)},
		"a length below zero":             {text: get("/nothing", "Content-Length: -3"), statuses: is(400)},
		"a length with a sign":            {text: get("/nothing", "Content-Length: +3") + "abc", statuses: is(400)},
		"a length beyond all integers":    {text: get("/nothing", "Content-Length: 99999999999999999999"), statuses: is(400)},
		"an unknown encoding":             {text: get("/nothing", "Transfer-Encoding: xchunked") + "0\r\n\r\n", statuses: is(501)},
		"two encodings":                   {text: get("/nothing", "Transfer-Encoding: gzip, chunked") + "0\r\n\r\n", statuses: is(501)},
		"an encoding twice":               {text: get("/nothing", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "0\r\n\r\n", statuses: is(501)},
		"three requests at once":          {text: strings.Repeat(ask("GET", "/nothing"), 2) + get("/nothing"), statuses: is(404, 404, 404)},
		// A body is not read, and what may look like a request in it, or behind it, is not answered.
		"a request as a body": {text: ask("GET", "/nothing", fmt.Sprint("Content-Length: ", len(inner))) + inner, statuses: is(404)},
		"a length and chunks": {
			text:     ask("GET", "/nothing", "Content-Length: 4", "Transfer-Encoding: chunked") + "0\r\n\r\n" + inner,
			statuses: is(404),
		},
		"chunks, and a request behind them": {text: ask("POST", "/nothing", "Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n" + inner, statuses: is(404)},
		"a chunk without an end":            {text: ask("GET", "/nothing", "Transfer-Encoding: chunked") + "ffffffffffffffff1\r\nabc", statuses: is(404)},
		"a body that is announced":          {text: ask("GET", "/nothing", "Content-Length: 1000000", "Expect: 100-continue"), statuses: is(404)},
		"a compressed body":                 {text: ask("GET", "/nothing", "Content-Encoding: gzip", "Content-Length: 3") + "\x1f\x8b\x08", statuses: is(404)},
	}
}

// notAllowed are requests with other methods than GET for a path.
func notAllowed(path string) map[string]question {
	all := make(map[string]question)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "PROPFIND", "get"} {
		all[method] = question{text: ask(method, path, "Connection: close", "X: "+marker), statuses: is(405), header: "Allow: GET, HEAD"}
	}
	all["HEAD"] = question{text: ask("HEAD", path, "Connection: close"), statuses: is(200)}
	return all
}

// aboutMetrics are questions for the metrics of the exporter.
func aboutMetrics(namespace string) map[string]question {
	all := notAllowed("/metrics")
	own := fmt.Sprintf("namespace=%q", namespace)
	for name, q := range map[string]question{
		"HTTP/2 without TLS":          {text: preface, statuses: is(400)},
		"a tunnel":                    {text: ask("CONNECT", "127.0.0.1:443", "Connection: close"), statuses: is(405)},
		"no path":                     {text: ask("OPTIONS", "*", "Content-Length: 1000"), statuses: is(400)},
		"two slashes":                 {text: get("//metrics"), statuses: is(307), header: "Location: /metrics"},
		"another host as a path":      {text: get("//example.com/metrics"), statuses: is(307), header: "Location: /example.com/metrics"},
		"a backslash":                 {text: get(`/\example.com`), statuses: is(404)},
		"a slash at the end":          {text: get("/metrics/"), statuses: is(404)},
		"a dot":                       {text: get("/./metrics"), statuses: is(307), header: "Location: /metrics"},
		"two dots":                    {text: get("/x/../metrics"), statuses: is(307), header: "Location: /metrics"},
		"two dots, and no more":       {text: get("/../../api/v1/releases"), statuses: is(307), header: "Location: /api/v1/releases"},
		"encoded dots":                {text: get("/%2e%2e/api/v1/releases"), statuses: is(404)},
		"an encoded slash":            {text: get("/%2fmetrics"), statuses: is(404)},
		"an encoded letter":           {text: get("/%6detrics"), statuses: is(200), part: "helm_release_info{"},
		"encoded twice":               {text: get("/%256detrics"), statuses: is(404)},
		"a null byte":                 {text: get("/metrics%00"), statuses: is(404)},
		"upper case":                  {text: get("/METRICS"), statuses: is(404)},
		"a parameter of the path":     {text: get("/metrics;x=y"), statuses: is(404)},
		"a fragment":                  {text: get("/metrics#x"), statuses: is(404)},
		"another host":                {text: get("http://example.com/metrics"), statuses: is(200), part: "helm_release_info{"},
		"the path of a page":          {text: get("/releases/" + namespace + "/app"), statuses: is(404)},
		"profiles":                    {text: get("/debug/pprof/heap"), statuses: is(404)},
		"many parameters":             {text: get("/metrics?" + strings.Repeat("a&", 9_000)), statuses: is(200), part: own},
		"too many parameters":         {text: get("/metrics?" + strings.Repeat("a&", 12_000)), statuses: is(400), part: "invalid query"},
		"many families":               {text: get("/metrics?" + strings.Repeat("name[]=x&", 3_000) + "name[]=helm_release_info"), statuses: is(200), part: own},
		"many namespaces":             {text: get("/metrics?" + strings.Repeat("namespace=x&", 2_000) + "namespace=" + namespace), statuses: is(200), part: own},
		"a semicolon":                 {text: get("/metrics?namespace=x;namespace=y"), statuses: is(400), part: "semicolon"},
		"an escape that is broken":    {text: get("/metrics?namespace=%zz"), statuses: is(400), part: "invalid URL escape"},
		"no namespace":                {text: get("/metrics?namespace="), statuses: is(200), part: "# TYPE helm_release_info gauge"},
		"a null byte as a namespace":  {text: get("/metrics?namespace=%00"), statuses: is(200), part: "# TYPE helm_release_info gauge"},
		"many formats":                {text: get("/metrics", "Accept: "+strings.Repeat("text/plain;version=1.0.0;q=0.1,", 1_000)+"*/*"), statuses: is(200), part: own},
		"many encodings":              {text: get("/metrics", "Accept-Encoding: "+strings.Repeat("br;q=0.1,", 3_000)+"gzip;q=0"), statuses: is(200), part: own},
		"a part":                      {text: get("/metrics", "Range: bytes=0-0,1-1,2-2"), statuses: is(200), part: own},
		"a body, and a namespace":     {text: ask("GET", "/metrics", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 11") + "namespace=x", statuses: is(200), part: own},
		"a body that does not come":   {text: ask("GET", "/metrics", "Content-Length: 100000", "Expect: 100-continue"), statuses: is(200), part: own},
		"a password that nobody asks": {text: get("/metrics", "Authorization: Basic Og=="), statuses: is(200), part: own},
	} {
		all[name] = q
	}
	return all
}

// aboutProbes are questions for the probes of either program.
func aboutProbes() map[string]question {
	all := notAllowed("/livez")
	for name, q := range map[string]question{
		"ready":              {text: get("/readyz"), statuses: is(200), part: "ok\n"},
		"HTTP/2 without TLS": {text: preface, statuses: is(400)},
		"a tunnel":           {text: ask("CONNECT", "127.0.0.1:443", "Connection: close"), statuses: is(404)},
		"no path":            {text: ask("OPTIONS", "*", "Content-Length: 1000"), statuses: is(400)},
		"two slashes":        {text: get("//livez"), statuses: is(307), header: "Location: /livez"},
		"metrics":            {text: get("/metrics"), statuses: is(404)},
		"dots":               {text: get("/livez/../metrics"), statuses: is(307), header: "Location: /metrics"},
		"a query":            {text: get("/livez?" + strings.Repeat("a=b&", 5_000)), statuses: is(200), part: "ok\n"},
		"another host":       {text: get("/livez", "Host: example.com"), statuses: is(200), part: "ok\n"},
		"a probe, deep":      {text: get("/livez/x"), statuses: is(404)},
	} {
		all[name] = q
	}
	return all
}

// aboutPages are questions for the pages and the API.
func aboutPages(namespace string) map[string]question {
	all := notAllowed("/")
	page, one := "/releases/"+namespace+"/app", "/api/v1/releases/"+namespace+"/app"
	for name, q := range map[string]question{
		"HTTP/2 without TLS":           {text: preface, statuses: is(403)},
		"a tunnel":                     {text: ask("CONNECT", "127.0.0.1:443", "Connection: close"), statuses: is(405)},
		"no path":                      {text: ask("OPTIONS", "*", "Content-Length: 1000"), statuses: is(400)},
		"a release":                    {text: get(page), statuses: is(200), part: "<h1>app"},
		"an encoded letter":            {text: get("/releases/" + namespace + "/%61pp"), statuses: is(200), part: "<h1>app"},
		"an encoded slash":             {text: get("/releases/" + namespace + "%2fapp"), statuses: is(404)},
		"an encoded slash in a name":   {text: get("/releases/" + namespace + "/%2fapp"), statuses: is(404), part: "No release"},
		"encoded dots in a name":       {text: get("/releases/" + namespace + "/..%2f..%2fapp"), statuses: is(404), part: "No release"},
		"encoded dots":                 {text: get("/releases/%2e%2e/app"), statuses: is(404), part: "No release"},
		"dots":                         {text: get("/releases/../api/v1/releases"), statuses: is(307), header: "Location: /api/v1/releases"},
		"a null byte":                  {text: get("/releases/" + namespace + "/%00"), statuses: is(404), part: "No release"},
		"no UTF-8":                     {text: get("/releases/" + namespace + "/%ff%fe"), statuses: is(404), part: "No release"},
		"markup":                       {text: get("/releases/" + namespace + "/%3Cscript%3E"), statuses: is(404), part: "&lt;script&gt;"},
		"a line break":                 {text: get("/releases/x/%0d%0aSet-Cookie:%20a=b"), statuses: is(404), part: "No release"},
		"a long name":                  {text: get("/releases/x/" + strings.Repeat("a", 30<<10)), statuses: is(404), part: "No release"},
		"a name that is empty":         {text: get("/releases/" + namespace + "/"), statuses: is(404)},
		"a name more":                  {text: get(page + "/x"), statuses: is(404)},
		"the API, a null byte":         {text: get("/api/v1/releases/x/%00"), statuses: is(404), part: `"reason":"not_found"`},
		"the API, no such path":        {text: get("/api/v2/releases"), statuses: is(404), part: `"reason":"not_found"`},
		"the API, a write":             {text: ask("DELETE", one, "Connection: close"), statuses: is(405), header: "Allow: GET, HEAD", part: `"reason":"method_not_allowed"`},
		"an unknown parameter":         {text: get("/api/v1/releases?x=y"), statuses: is(400), part: `unknown parameter`},
		"a parameter twice":            {text: get("/api/v1/releases?limit=1&limit=2"), statuses: is(400), part: "more than once"},
		"a semicolon":                  {text: get("/api/v1/releases?namespace=x;namespace=y"), statuses: is(400), part: "semicolon"},
		"a long query":                 {text: get("/?q=" + strings.Repeat("a", 5<<10)), statuses: is(400), part: "longer than 4096"},
		"many words":                   {text: get("/?q=" + strings.Repeat("a+", 17)), statuses: is(400), part: "more than 16 words"},
		"a continue that is none":      {text: get("/api/v1/releases?continue=%00"), statuses: is(400), part: `"reason":"invalid"`},
		"a page that is none":          {text: get("/?page=-9223372036854775809"), statuses: is(200), part: "app"},
		"a file, with encoded dots":    {text: get("/assets/..%2ftemplates%2fframe.html"), statuses: is(404)},
		"a file, with a backslash":     {text: get(`/assets/..%5ctemplates%5cframe.html`), statuses: is(404)},
		"a file, a null byte":          {text: get("/assets/style.css%00"), statuses: is(404)},
		"a folder":                     {text: get("/assets/"), statuses: is(404)},
		"metrics":                      {text: get("/metrics"), statuses: is(404)},
		"profiles":                     {text: get("/debug/pprof/heap"), statuses: is(404)},
		"another name":                 {text: get("/", "Host: example.com"), statuses: is(403), part: "unknown host"},
		"another name, as a target":    {text: get("http://example.com/"), statuses: is(403), part: "unknown host"},
		"a name that begins alike":     {text: get("/", "Host: 127.0.0.1.example.com"), statuses: is(403)},
		"a name that looks alike":      {text: get("/", "Host: localhost."), statuses: is(403)},
		"a number as an address":       {text: get("/", "Host: 2130706433"), statuses: is(403)},
		"a user in the name":           {text: get("/", "Host: localhost@example.com"), statuses: is(400)},
		"a name that a proxy forwards": {text: get("/", "Host: example.com", "X-Forwarded-Host: localhost", "Forwarded: host=localhost"), statuses: is(403)},
		"HTTP/1.0 without a name":      {text: "GET / HTTP/1.0\r\n\r\n", statuses: is(403)},
	} {
		all[name] = q
	}
	return all
}

// aboutVersions are questions for the metrics and the page of the companion.
func aboutVersions() map[string]question {
	all := notAllowed("/metrics")
	for name, q := range map[string]question{
		"HTTP/2 without TLS": {text: preface, statuses: is(400)},
		"a tunnel":           {text: ask("CONNECT", "127.0.0.1:443", "Connection: close"), statuses: is(405)},
		"no path":            {text: ask("OPTIONS", "*", "Content-Length: 1000"), statuses: is(400)},
		"the page":           {text: get("/"), statuses: is(200), part: "valid"},
		"a long query":       {text: get("/?q=" + strings.Repeat("%3C", 10_000)), statuses: is(200)},
		"many parameters":    {text: get("/?" + strings.Repeat("a&", 9_000)), statuses: is(200)},
		"markup":             {text: get("/?q=%3Cscript%3E"), statuses: is(200), part: "&lt;script&gt;"},
		"two slashes":        {text: get("//metrics"), statuses: is(307), header: "Location: /metrics"},
		"a file elsewhere":   {text: get("/assets/..%2ftemplates%2fframe.html"), statuses: is(404)},
		"probes":             {text: get("/livez"), statuses: is(404)},
		"profiles":           {text: get("/debug/pprof/heap"), statuses: is(404)},
		"a semicolon":        {text: get("/metrics?a;b"), statuses: is(200), part: "helm_release_chart_outdated"},
	} {
		all[name] = q
	}
	return all
}

// TestSlowClients sends requests byte by byte, or not at all, at each door. They are cut off, and everybody else is served
// meanwhile.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+newNamespace(t, "slow"))
	e.awaitReady(t)
	secure := startSecured(t)
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	var slow sync.WaitGroup
	hang := func(at door, what, text string, least time.Duration) {
		conn, began := at.dial(t), time.Now()
		slow.Go(func() { drip(ctx, conn, text) })
		slow.Go(func() {
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) < least || time.Since(began) > least+10*time.Second {
				t.Errorf("%s, %s: the connection is closed after %s: %v", at, what, time.Since(began), err)
			}
		})
	}
	for _, at := range []door{door(e.metrics), door(e.health), door(e.pages)} {
		hang(at, "nothing", "", 9*time.Second)
		hang(at, "a header", get("/metrics", "X: "+strings.Repeat("x", 1000)), 9*time.Second)
		hang(at, "a body", ask("GET", "/nothing", "Content-Length: 1000")+strings.Repeat("x", 1000), 0)
	}
	hang(door(secure.metrics), "no handshake", "", 9*time.Second)
	hang(door(secure.metrics), "half of a handshake", "\x16\x03\x01\x02\x00"+strings.Repeat("\x01", 400), 9*time.Second)
	// More bodies that do not come than there are places for scrapes.
	for range 40 {
		_ = expect.Value(io.WriteString(door(e.metrics).dial(t), ask("GET", "/metrics", "Content-Length: 100000")))(t)
	}
	for range 20 {
		began := time.Now()
		expect.NoError(t, e.answers("/metrics", http.StatusOK)())
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("a scrape took %s", took)
		}
	}
	slow.Wait()
}

// drip writes a text byte by byte until it fails, ten a second. Requests without a body get the first bytes at once.
func drip(ctx context.Context, conn net.Conn, text string) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	if header, _, has := strings.Cut(text, "\r\n\r\n"); has && len(header)+4 < len(text) {
		_, _ = io.WriteString(conn, header+"\r\n\r\n")
		text = text[len(header)+4:]
	}
	for i := range len(text) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			return
		}
	}
}

// TestManyConnections opens more connections to each door than it keeps.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+newNamespace(t, "many"))
	e.awaitReady(t)
	const most, tried = 512, 2000
	memory, files := e.value(t, "process_resident_memory_bytes"), e.value(t, "process_open_fds")
	for _, at := range []door{door(e.metrics), door(e.health), door(e.pages)} {
		for i := range tried {
			conn := at.dial(t)
			_ = expect.Value(io.WriteString(conn, ask("GET", "/nothing")))(t)
			if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "404") {
				t.Fatalf("connection %d to %s: %q, %v", i, at, line, err)
			}
		}
		expect.NoError(t, e.answers("/readyz", http.StatusOK)())
	}
	eventually(t, patience, func() error {
		all, err := e.scrape()
		if opened := all["process_open_fds"] - files; err == nil && opened > 3*most+50 {
			err = fmt.Errorf("it has %v open files more", opened)
		}
		return err
	})
	expect.NoError(t, e.says("level=WARN", "there are too many")())
	t.Logf("%d connections take %.1f KiB each", 3*most, (e.value(t, "process_resident_memory_bytes")-memory)/(3*most)/1024)
}

// TestRedirectsAreNotFollowed has a server in place of the API server, or of an exporter, that redirects to another one.
// Neither a token nor anything else may get there.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var asked, redirected atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		t.Errorf("%s %s got there, with %d bytes of Authorization", req.Method, req.URL.Path, len(req.Header.Get("Authorization")))
	}))
	t.Cleanup(elsewhere.Close)
	hijacked := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		redirected.Add(1)
		http.Redirect(w, req, elsewhere.URL+req.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(hijacked.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hijacked.Certificate().Raw})
	token := "a-token-of-the-exporter"
	kubeconfig := writeKubeconfig(t, access{server: hijacked.URL, ca: ca}, clientcmdapi.AuthInfo{Token: token})
	e := startExporter(t, kubeconfig, "--auth-filter")
	eventually(t, patience, e.answers("/readyz", http.StatusServiceUnavailable, "redirects"))
	status, body, err := guarded{exporter: e}.scrapeWith("a-token-of-a-tenant", "")
	expect.NoError(t, err)
	if status != http.StatusServiceUnavailable || strings.Contains(body, elsewhere.URL) {
		t.Errorf("a scrape gets %d %q", status, body)
	}
	c := startCompanion(t, repositories("own", "http://127.0.0.1:1"), nil, "--exporter.url="+hijacked.URL+"/metrics",
		"--exporter.ca-file="+writeFile(t, "ca.crt", string(ca)), "--exporter.bearer-token-file="+writeFile(t, "token", token))
	eventually(t, patience, c.says("level=WARN", "307"))
	for _, p := range []*exporter{e, c.exporter} {
		if strings.Contains(p.Output(), token) {
			t.Error("the log contains a token")
		}
	}
	// A server with a certificate of another authority is asked nothing at all.
	other, _ := selfSignedUntil(t, time.Now().Add(time.Hour))
	kubeconfig = writeKubeconfig(t, access{server: hijacked.URL, ca: []byte(other)}, clientcmdapi.AuthInfo{Token: token})
	e.stop(t)
	c.stop(t)
	before := redirected.Load()
	foreign := startExporter(t, kubeconfig)
	eventually(t, patience, foreign.answers("/readyz", http.StatusServiceUnavailable, "certificate"))
	if n := redirected.Load() - before; n > 0 || asked.Load() > 0 {
		t.Errorf("a server that is not trusted got %d requests, and the other one %d", n, asked.Load())
	}
}
