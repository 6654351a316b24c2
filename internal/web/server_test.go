package web_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	toolkit "github.com/prometheus/exporter-toolkit/web"

	"github.com/helm-state-metrics/helm-state-metrics/internal/serve"
	"github.com/helm-state-metrics/helm-state-metrics/internal/web"
)

// config serves on a free port; its metrics handler is the given one.
func config(metrics http.Handler) web.Config {
	return web.Config{
		Listen:   listenOn("", "127.0.0.1:0"),
		Health:   "127.0.0.1:0",
		Pages:    "127.0.0.1:0",
		Metrics:  metrics,
		Ready:    func() error { return nil },
		Releases: &fake{},
		Logger:   slog.New(slog.DiscardHandler),
	}
}

// listenOn are the flags for addresses and a config file.
func listenOn(file string, addresses ...string) *toolkit.FlagConfig {
	return &toolkit.FlagConfig{WebListenAddresses: &addresses, WebConfigFile: &file}
}

// doors are the URLs for metrics, probes and pages.
type doors struct{ metrics, health, pages string }

// doorsOf runs a server until the test ends.
func doorsOf(t *testing.T, cfg web.Config) doors {
	t.Helper()
	all := running(t, cfg).Addresses()
	return doors{"http://" + all[0].String(), "http://" + all[1].String(), "http://" + all[2].String()}
}

// running runs a server until the test ends.
func running(t *testing.T, cfg web.Config) *serve.Server {
	t.Helper()
	s, err := web.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestRoutes(t *testing.T) {
	var awaited atomic.Pointer[error]
	cfg := config(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "scraped") }))
	cfg.Ready = func() error {
		if err := awaited.Load(); err != nil {
			return *err
		}
		return nil
	}
	at := doorsOf(t, cfg)
	waiting := errors.New("waiting for the initial list")
	served := map[string]string{ // with a part of the body
		at.metrics + "/":              "port-forward POD 0",
		at.metrics + "/metrics":       "scraped",
		at.health + "/livez":          "ok",
		at.health + "/readyz":         "ok",
		at.pages + "/":                `href="api/v1/releases"`,
		at.pages + "/api/v1/releases": `"releases":[`,
	}
	for _, door := range []string{at.metrics, at.health, at.pages} {
		for _, path := range []string{"/", "/metrics", "/livez", "/readyz", "/api/v1/releases", "/assets/script.js", "/debug/pprof/", "/nowhere"} {
			want, expected := served[door+path], http.StatusNotFound
			if want != "" || door == at.pages && path == "/assets/script.js" {
				expected = http.StatusOK
			}
			if status, body := get(t, door+path); status != expected || !strings.Contains(body, want) {
				t.Errorf("%s%s: got %d %q, want %d with %q", door, path, status, body, expected, want)
			}
			response, err := http.Post(door+path, "text/plain", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusMethodNotAllowed && response.StatusCode != http.StatusNotFound {
				t.Errorf("POST %s%s: got %d", door, path, response.StatusCode)
			}
		}
	}
	awaited.Store(&waiting)
	if status, body := get(t, at.health+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, waiting.Error()) {
		t.Errorf("/readyz: got %d %q, want 503 with what is awaited", status, body)
	}
}

func TestProfilesAreServedOnRequest(t *testing.T) {
	cfg := config(http.NotFoundHandler())
	cfg.PProf = true
	if status, body := get(t, doorsOf(t, cfg).pages+"/debug/pprof/"); status != http.StatusOK || !strings.Contains(body, "goroutine") {
		t.Errorf("got %d %q", status, body)
	}
}

func TestEveryAddressIsServedWithTheConfigFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(file, []byte("http_server_config:\n  headers: {X-Frame-Options: deny}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config(http.NotFoundHandler())
	cfg.Listen = listenOn(file, "127.0.0.1:0", "127.0.0.1:0")
	for i, address := range running(t, cfg).Addresses() {
		response, err := http.Get("http://" + address.String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got, want := response.Header.Get("X-Frame-Options") == "deny", i < 2; got != want {
			t.Errorf("%s: the header of the file is set: %t, want %t", address, got, want)
		}
	}
}

// TestProbesNeedNoPassword uses a file that asks everybody for one.
func TestProbesNeedNoPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	hash := "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
	if err := os.WriteFile(file, []byte("basic_auth_users: {scraper: "+hash+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config(http.NotFoundHandler())
	cfg.Listen = listenOn(file, "127.0.0.1:0")
	at := doorsOf(t, cfg)
	for url, want := range map[string]int{at.metrics + "/": 401, at.health + "/livez": 200, at.health + "/readyz": 200, at.pages + "/": 200} {
		if status, _ := get(t, url); status != want {
			t.Errorf("%s: got %d, want %d", url, status, want)
		}
	}
}

func TestPagesAreAskedForByKnownNames(t *testing.T) {
	cfg := config(http.NotFoundHandler())
	cfg.PagesHosts = []string{"releases.example.com"}
	at := doorsOf(t, cfg)
	for host, allowed := range map[string]bool{
		"localhost": true, "LocalHost:8082": true, "127.0.0.1": true, "10.1.2.3:80": true, "[::1]:8082": true, "[::1]": true,
		"releases.example.com": true, "releases.example.com:443": true,
		"rebound.example.com": false, "localhost.example.com": false, "127.0.0.1.example.com": false, "example.com:8082": false,
	} {
		for url, guarded := range map[string]bool{at.pages + "/": true, at.pages + "/api/v1/releases": true, at.metrics + "/": false, at.health + "/livez": false} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			response, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			want := http.StatusOK
			if guarded && !allowed {
				want = http.StatusForbidden
			}
			if response.StatusCode != want {
				t.Errorf("%s with host %q: got %d, want %d", url, host, response.StatusCode, want)
			}
		}
	}
}

func TestAnAddressBeyondLoopbackIsOpen(t *testing.T) {
	for ip, want := range map[string]bool{"127.0.0.1": false, "127.0.0.2": false, "::1": false, "::": true, "0.0.0.0": true, "10.1.2.3": true} {
		if got := web.IsOpen(&net.TCPAddr{IP: net.ParseIP(ip), Port: 8082}); got != want {
			t.Errorf("%s: open %t, want %t", ip, got, want)
		}
	}
}

func TestPagesCanBeClosed(t *testing.T) {
	cfg := config(http.NotFoundHandler())
	cfg.Pages = ""
	if all := running(t, cfg).Addresses(); len(all) != 2 {
		t.Errorf("it listens on %v, want two addresses", all)
	}
}

func TestLargeRequestsAreRefused(t *testing.T) {
	at := doorsOf(t, config(http.NotFoundHandler()))
	for _, door := range []string{at.metrics, at.health, at.pages} {
		if status, _ := get(t, door+"/?x="+strings.Repeat("x", 64<<10)); status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: got %d", door, status)
		}
	}
}

func TestARequestInFlightFinishesWhenTheServerStops(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s, err := web.Listen(config(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
	})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	size := make(chan int, 1)
	go func() {
		_, body := get(t, "http://"+s.Addresses()[0].String()+"/metrics")
		size <- len(body)
	}()
	<-entered
	cancel()
	close(leave)
	if got := <-size; got != 1<<20 {
		t.Errorf("got %d bytes of a scrape in flight, want all", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestListenRefuses(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	broken := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(broken, []byte("tls_server_config: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*web.Config)
		want   string
	}{
		"a busy port":                    {func(c *web.Config) { c.Listen = listenOn("", "127.0.0.1:0", busy.Addr().String()) }, "address already in use"},
		"a busy port for probes":         {func(c *web.Config) { c.Health = busy.Addr().String() }, "--health.listen-address=" + busy.Addr().String()},
		"a busy port for pages":          {func(c *web.Config) { c.Pages = busy.Addr().String() }, "--pages.listen-address=" + busy.Addr().String()},
		"a vsock address without a port": {func(c *web.Config) { c.Listen = listenOn("", "vsock://:ssh") }, "--web.listen-address=vsock://:ssh"},
		"a broken web config file":       {func(c *web.Config) { c.Listen = listenOn(broken, "127.0.0.1:0") }, broken},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(http.NotFoundHandler())
			tc.change(&cfg)
			if _, err := web.Listen(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}
