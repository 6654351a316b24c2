package process

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"
)

// Until calls check every interval until it returns nil. When ctx is done it returns the last error of check together
// with that of ctx.
func Until(ctx context.Context, interval time.Duration, check func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// Eventually calls check until it returns nil. After the deadline it fails the test with the last error.
func Eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := Until(ctx, 50*time.Millisecond, check); err != nil {
		t.Fatalf("still not so after %s: %v", within, err)
	}
}

// FreeAddress returns an address of the loopback interface on which nothing listens at the moment, for programs that
// cannot choose a port and report it.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
