package serve

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// large stands for a scrape that does not fit into the buffers of a connection.
func large(w http.ResponseWriter, _ *http.Request) {
	for chunk, left := make([]byte, 64<<10), 200; left > 0; left-- {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestARequestThatIsTakenBackIsNotAnswered(t *testing.T) {
	h := LimitScrapes(http.HandlerFunc(large))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil))
	if w.Body.Len() > 0 {
		t.Errorf("got %d bytes", w.Body.Len())
	}
}

func scrape(h http.Handler) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w
}

// stalled is a client that takes nothing until it is let go.
type stalled struct {
	*httptest.ResponseRecorder
	entered chan<- struct{}
	leave   <-chan struct{}
}

func (s stalled) Write(p []byte) (int, error) {
	s.entered <- struct{}{}
	<-s.leave
	return s.ResponseRecorder.Write(p)
}

func TestStalledClientsHoldNothingButTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := LimitScrapes(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("small")) }))
		const turns = 16
		entered, leave := make(chan struct{}), make(chan struct{})
		done := make(chan struct{})
		for range turns {
			go func() {
				h.ServeHTTP(stalled{httptest.NewRecorder(), entered, leave}, httptest.NewRequest(http.MethodGet, "/metrics", nil))
				done <- struct{}{}
			}()
		}
		for range turns {
			<-entered
		}
		if w := scrape(h); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "16 scrapes") {
			t.Errorf("got %d %q, want 503 that says why", w.Code, w.Body)
		}
		close(leave)
		for range turns {
			<-done
		}
		if w := scrape(h); w.Code != http.StatusOK {
			t.Errorf("got %d once the others are done", w.Code)
		}
	})
}

// reader is a client that takes so many bytes per second, 0 for none, until its deadline.
type reader struct {
	*httptest.ResponseRecorder
	rate     int
	deadline *time.Timer
}

func (r reader) Write(p []byte) (int, error) {
	var taken <-chan time.Time
	if r.rate > 0 {
		taken = time.After(time.Duration(len(p)) * time.Second / time.Duration(r.rate))
	}
	select {
	case <-taken:
		return r.ResponseRecorder.Write(p)
	case <-r.deadline.C:
		return 0, os.ErrDeadlineExceeded
	}
}

// SetWriteDeadline is for http.ResponseController.
func (r reader) SetWriteDeadline(at time.Time) error {
	r.deadline.Reset(time.Until(at))
	return nil
}

// TestWhoWaitsGetsAPlaceInTime lets as many clients scrape as may wait, all the time, so that one that reads at once
// always is the last of a full queue.
func TestWhoWaitsGetsAPlaceInTime(t *testing.T) {
	for name, rate := range map[string]int{"behind clients that read nothing": 0, "behind clients that read 32 kB a second": 32_000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := LimitScrapes(http.HandlerFunc(large))
				ctx, stop := context.WithCancel(t.Context())
				var slow sync.WaitGroup
				defer slow.Wait()
				defer stop()
				for range 16 + 63 {
					slow.Go(func() {
						for ctx.Err() == nil {
							deadline := time.NewTimer(time.Minute)
							h.ServeHTTP(reader{httptest.NewRecorder(), rate, deadline}, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil))
						}
					})
				}
				for range 5 {
					synctest.Wait()
					began := time.Now()
					if w := scrape(h); w.Code != http.StatusOK || time.Since(began) > 4*time.Second {
						t.Fatalf("got %d after %s", w.Code, time.Since(began))
					}
				}
			})
		})
	}
}

// TestWhoReadsSlowlyLoses lets clients ask for everything and read nothing, again and again, over real connections: what
// they are sent does not fit into the buffers of these.
func TestWhoReadsSlowlyLoses(t *testing.T) {
	for name, secondVersion := range map[string]bool{"HTTP/1.1": false, "HTTP/2, in one connection": true} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(LimitScrapes(http.HandlerFunc(large)))
			server.EnableHTTP2 = secondVersion
			server.StartTLS()
			defer server.Close()
			defer server.CloseClientConnections()
			ctx, stop := context.WithCancel(t.Context())
			var slow sync.WaitGroup
			defer slow.Wait()
			defer stop()
			greedy := server.Client().Transport.(*http.Transport).Clone()
			greedy.DisableCompression = true
			for range 17 {
				slow.Go(func() {
					for ctx.Err() == nil {
						hold(ctx, &http.Client{Transport: greedy}, server.URL)
					}
				})
			}
			transport := server.Client().Transport.(*http.Transport).Clone()
			transport.DisableCompression = true
			client, served := &http.Client{Transport: transport, Timeout: 10 * time.Second}, 0
			for start := time.Now(); time.Since(start) < 4*time.Second; served++ {
				response, err := client.Get(server.URL + "/metrics")
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK || secondVersion != (response.ProtoMajor == 2) {
					t.Errorf("a client that reads at once got %s %d, %v", response.Proto, response.StatusCode, err)
				}
			}
			t.Logf("%d scrapes", served)
		})
	}
}

// hold asks for everything, and reads nothing of it for some seconds.
func hold(ctx context.Context, client *http.Client, url string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return
	}
	response, err := client.Do(req)
	if err != nil {
		return
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		select {
		case <-ctx.Done():
		case <-time.After(4 * time.Second):
		}
	}
}
