package relay_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
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
	r.Stall()
	if answer, err := exchange(r, short); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stalled relay passes on %q, %v", answer, err)
	}
	r.Resume()
	if answer, err := exchange(r, long); err != nil || answer != "the answer" {
		t.Errorf("after the stall the answer is %q, %v", answer, err)
	}
}
