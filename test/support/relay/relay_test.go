package relay_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/relay"
)

// exchange sends "ping" through a relay and returns the answer.
func exchange(r *relay.Relay, timeout time.Duration) (string, error) {
	conn, err := net.Dial("tcp", r.Address())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "ping"); err != nil {
		return "", err
	}
	answer := make([]byte, len("the answer"))
	_, err = io.ReadFull(conn, answer)
	return string(answer), err
}

func TestRelay(t *testing.T) {
	server := expect.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer server.Close()
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(conn, make([]byte, len("ping")))
			_, _ = io.WriteString(conn, "the answer")
			_ = conn.Close()
		}
	}()
	r := expect.Value(relay.New(server.Addr().String()))(t)
	t.Cleanup(r.Off)
	const long, short = 30 * time.Second, 50 * time.Millisecond

	if _, err := exchange(r, long); err == nil {
		t.Error("a relay that is off lets a connection through")
	}
	expect.NoError(t, r.On())
	if answer, err := exchange(r, long); err != nil || answer != "the answer" {
		t.Fatalf("the answer is %q, %v", answer, err)
	}
	if r.Sent() != 4 || r.Received() != 10 || r.Connections() != 1 {
		t.Errorf("it counts %d bytes sent, %d received and %d connections, want 4, 10 and 1", r.Sent(), r.Received(), r.Connections())
	}
	held := expect.Value(net.Dial("tcp", r.Address()))(t)
	defer held.Close()
	expect.Value(io.WriteString(held, "ping"))(t) // It may or may not reach the server before the stall.
	expect.NoError(t, r.Stall())
	if conn, err := net.DialTimeout("tcp", r.Address(), short); err == nil {
		_ = conn.Close()
		t.Error("a stalled relay accepts a connection")
	}
	r.Resume()
	if answer := expect.Value(io.ReadAll(held))(t); string(answer) != "the answer" {
		t.Errorf("after the stall a connection from before gets %q", answer)
	}
	if answer, err := exchange(r, long); err != nil || answer != "the answer" {
		t.Errorf("after the stall the answer is %q, %v", answer, err)
	}
	r.Delay(short)
	began := time.Now()
	if _, err := exchange(r, long); err != nil || time.Since(began) < 2*short {
		t.Errorf("a delay of %s each way took %s, %v", short, time.Since(began), err)
	}
	r.Delay(0)
	open := func(n int) {
		t.Helper()
		process.Eventually(t, long, func() error { return expect.Same("connections are open", n, r.Open()) })
	}
	open(0)
	broken := expect.Value(net.Dial("tcp", r.Address()))(t)
	defer broken.Close()
	open(1)
	r.Reset()
	if _, err := broken.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that was reset says %v", err)
	}
	r.To(r.Address() + "0") // There is no such port.
	if _, err := exchange(r, long); err == nil {
		t.Error("a relay to nowhere lets a connection through")
	}
}
