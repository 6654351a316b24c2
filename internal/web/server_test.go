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

	"github.com/helm-state-metrics/helm-state-metrics/internal/web"
)

// config serves on a free port; its metrics handler is the given one.
func config(metrics http.Handler) web.Config {
	return web.Config{
		Listen:   listenOn("", "127.0.0.1:0"),
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

// serve runs a server until the test ends, and returns its first URL.
func serve(t *testing.T, cfg web.Config) string {
	t.Helper()
	return "http://" + running(t, cfg).Addresses()[0].String()
}

// running runs a server until the test ends.
func running(t *testing.T, cfg web.Config) *web.Server {
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
	url := serve(t, cfg)
	waiting := errors.New("waiting for the initial list")
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/":             {http.StatusOK, `href="metrics"`},
		"/metrics":      {http.StatusOK, "scraped"},
		"/livez":        {http.StatusOK, "ok"},
		"/readyz":       {http.StatusOK, "ok"},
		"/nowhere":      {http.StatusNotFound, ""},
		"/debug/pprof/": {http.StatusNotFound, ""},
	} {
		if status, body := get(t, url+path); status != want.status || !strings.Contains(body, want.body) {
			t.Errorf("%s: got %d %q, want %d with %q", path, status, body, want.status, want.body)
		}
	}
	awaited.Store(&waiting)
	if status, body := get(t, url+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, waiting.Error()) {
		t.Errorf("/readyz: got %d %q, want 503 with what is awaited", status, body)
	}
}

func TestProfilesAreServedOnRequest(t *testing.T) {
	cfg := config(http.NotFoundHandler())
	cfg.PProf = true
	if status, body := get(t, serve(t, cfg)+"/debug/pprof/"); status != http.StatusOK || !strings.Contains(body, "goroutine") {
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
	for _, address := range running(t, cfg).Addresses() {
		if status, body := get(t, "http://"+address.String()+"/livez"); status != http.StatusOK || body != "ok\n" {
			t.Errorf("%s: got %d %q", address, status, body)
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
		listen *toolkit.FlagConfig
		want   string
	}{
		"a busy port":                    {listenOn("", "127.0.0.1:0", busy.Addr().String()), "address already in use"},
		"a vsock address without a port": {listenOn("", "vsock://:ssh"), "--web.listen-address=vsock://:ssh"},
		"a broken web config file":       {listenOn(broken, "127.0.0.1:0"), broken},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(http.NotFoundHandler())
			cfg.Listen = tc.listen
			if _, err := web.Listen(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}
