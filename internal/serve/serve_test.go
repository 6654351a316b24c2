package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"
)

// patience is how long tests wait for something that takes a moment.
const patience = 20 * time.Second

// served is how a response begins.
const served = "HTTP/1.1 200 OK\r\n"

// running serves a handler until the test ends, and returns its address.
func running(t *testing.T, handler http.Handler) string {
	t.Helper()
	addresses, file := []string{"127.0.0.1:0"}, ""
	s, err := Listen(&toolkit.FlagConfig{WebListenAddresses: &addresses, WebConfigFile: &file}, handler, slog.New(slog.DiscardHandler))
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
	return s.Addresses()[0].String()
}

// dial connects, and sends a text. The connection is closed when the test ends.
func dial(t *testing.T, address, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestABodyIsNotWaitedFor sends requests with bodies that never come. A response that is larger than the buffers of
// net/http would begin after ten seconds otherwise.
func TestABodyIsNotWaitedFor(t *testing.T) {
	var after time.Duration
	answered := make(chan struct{}, 1)
	address := running(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		began := time.Now()
		_, _ = w.Write(make([]byte, 64<<10))
		after = time.Since(began)
		answered <- struct{}{}
	}))
	for _, header := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
		conn := dial(t, address, "GET / HTTP/1.1\r\nHost: localhost\r\n"+header+"\r\n\r\n")
		<-answered
		if after > readTimeout/2 {
			t.Errorf("%s: the handler waited for %s", header, after)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || len(body) != 64<<10 || !response.Close {
			t.Errorf("%s: got %d bytes, %v, close: %t", header, len(body), err, response.Close)
		}
		began := time.Now()
		if _, err := io.Copy(io.Discard, conn); err != nil || time.Since(began) > readTimeout/2 {
			t.Errorf("%s: the connection is closed after %s, %v", header, time.Since(began), err)
		}
	}
}

// TestIdleConnectionsKeepNobodyOut opens more connections than there may be. The others are closed, and whoever comes
// next is served.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	address := running(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	const more = 50
	closed := make(chan error, maxConnections+more)
	for i := range maxConnections + more {
		conn := dial(t, address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		in := bufio.NewReader(conn)
		if line, err := in.ReadString('\n'); err != nil || line != served {
			t.Fatalf("connection %d is not served: %q, %v", i, line, err)
		}
		go func() {
			_, err := io.Copy(io.Discard, in)
			closed <- err
		}()
	}
	for i := range more {
		if err := <-closed; errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d of %d connections are closed, want %d", i, maxConnections+more, more)
		}
	}
}

// TestAResponseThatIsNotReadCostsLittle counts what the kernel takes of a response whose client reads nothing.
func TestAResponseThatIsNotReadCostsLittle(t *testing.T) {
	taken := make(chan int, 1)
	address := running(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
		total := 0
		for {
			n, err := w.Write(make([]byte, 16<<10))
			if total += n; err != nil {
				taken <- total
				return
			}
		}
	}))
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if total := <-taken; total > 1<<20 {
		t.Errorf("the kernel took %d bytes", total)
	}
}

// TestWhichConnectionIsClosed opens one more than there may be.
func TestWhichConnectionIsClosed(t *testing.T) {
	for name, tc := range map[string]struct {
		first, others http.ConnState
		pause         time.Duration // before the last one
		closed        int
	}{
		"the one that was used longest ago": {first: http.StateActive, others: http.StateIdle, pause: longIdle, closed: 1},
		"one that sends no request":         {first: http.StateActive, others: http.StateNew, pause: longIdle, closed: 1},
		"a request, if none waits for long": {first: http.StateActive, others: http.StateNew, closed: 0},
		"the longest request":               {first: http.StateActive, others: http.StateActive, pause: time.Minute, closed: 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newConnections(slog.New(slog.DiscardHandler))
				var ends []net.Conn
				for i := range maxConnections + 1 {
					if i == maxConnections {
						<-time.After(tc.pause)
					}
					mine, theirs := net.Pipe()
					defer mine.Close()
					defer theirs.Close()
					c.track(mine, http.StateNew)
					c.track(mine, []http.ConnState{tc.first, tc.others}[min(i, 1)])
					ends = append(ends, theirs)
					<-time.After(time.Microsecond)
				}
				for i, end := range ends {
					_ = end.SetReadDeadline(time.Now()) // an error if it is closed
					if _, err := end.Read(make([]byte, 1)); (err == io.EOF) != (i == tc.closed) {
						t.Errorf("connection %d: %v", i, err)
					}
				}
			})
		})
	}
}

// TestRequestsThatHangKeepNobodyOut has a request that hangs on every connection.
func TestRequestsThatHangKeepNobodyOut(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	address := running(t, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/slow" {
			entered <- struct{}{}
			<-leave
		}
	}))
	defer close(leave)
	for range maxConnections {
		dial(t, address, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
		<-entered
	}
	for i := range 10 {
		in := bufio.NewReader(dial(t, address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		if line, err := in.ReadString('\n'); err != nil || line != served {
			t.Errorf("connection %d more is not served: %q, %v", i, line, err)
		}
	}
}

// check is what the toolkit does: one password at a time, slowly.
type check struct {
	turn chan struct{}
	took time.Duration // all checks; guarded by turn
	next http.Handler
}

const checkTime = 50 * time.Millisecond

func (c *check) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c.turn <- struct{}{} // time would not pass in a bubble while a mutex is waited for
	<-time.After(checkTime)
	c.took += checkTime
	<-c.turn
	if _, password, _ := req.BasicAuth(); password != "right" {
		http.Error(w, "wrong", http.StatusUnauthorized)
		return
	}
	c.next.ServeHTTP(w, req)
}

// TestWrongPasswordsHoldUpNobody floods the check with wrong passwords.
func TestWrongPasswordsHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPasswords()
		c := &check{turn: make(chan struct{}, 1), next: p.behind(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "scraped") }))}
		door := p.before(c)
		from := func(address, user, password string) (int, time.Duration) {
			req, w, began := httptest.NewRequest(http.MethodGet, "/metrics", nil), httptest.NewRecorder(), time.Now()
			req.RemoteAddr = address + ":1"
			req.SetBasicAuth(user, password)
			door.ServeHTTP(w, req)
			return w.Code, time.Since(began)
		}
		scrape := func(password string) (int, time.Duration) { return from("10.0.0.1", "prometheus", password) }
		if code, _ := scrape("right"); code != http.StatusOK {
			t.Fatalf("got %d with the right password", code)
		}
		began := time.Now()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		var flood sync.WaitGroup
		for i := range 50 {
			flood.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					switch code, took := scrape(fmt.Sprint(i, " ", n)); {
					case code == http.StatusTooManyRequests:
						<-time.After(100 * time.Millisecond)
					case code != http.StatusUnauthorized || took > guessTimeout+checkTime:
						t.Errorf("a wrong password got %d after %s", code, took)
					}
				}
			})
		}
		for n := 0; ctx.Err() == nil; n++ {
			if code, took := scrape("right"); code != http.StatusOK || took > 2*checkTime {
				t.Errorf("the right password got %d after %s", code, took)
			}
			if code, took := from("10.0.0.2", fmt.Sprint("new ", n), "right"); code != http.StatusOK || took > 10*checkTime {
				t.Errorf("a right password that has not been seen got %d after %s", code, took)
			}
			<-time.After(time.Second)
		}
		flood.Wait()
		if limit := time.Since(began)/2 + 124*checkTime; c.took > limit { // 124 checks are of right ones
			t.Errorf("checks took %s of %s", c.took, time.Since(began))
		}
	})
}
