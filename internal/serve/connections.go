package serve

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxConnections is how many connections one address has at a time, and maxStreams how many requests one
	// HTTP/2 connection.
	maxConnections = 512
	maxStreams     = 16
	// sendBuffer is how much of a response the kernel keeps for a client that does not read, in bytes; twice that with
	// its own data. By default it is megabytes, and counts as memory of the container.
	sendBuffer = 128 << 10
)

// longIdle is how long a connection has no request before it is closed for a new one, rather than one that has.
const longIdle = time.Second

// connections bounds the connections of one address. When there is one too many, the one that has had no request for
// longest is closed, and if none has been so for a while, the one whose request takes longest: a client that comes
// back connects again, and whoever holds connections cannot keep others out.
type connections struct {
	log *slog.Logger

	mu     sync.Mutex
	open   map[net.Conn]connection // guarded by mu
	logged time.Time               // guarded by mu
}

// connection is in its state since a time. One that is active has a request, whose header has come in.
type connection struct {
	active bool
	since  time.Time
}

func newConnections(log *slog.Logger) *connections {
	return &connections{log: log, open: make(map[net.Conn]connection)}
}

// track is the ConnState of an http.Server.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateClosed {
		delete(c.open, conn)
		return
	}
	if tcp, ok := below(conn).(*net.TCPConn); ok && state == http.StateNew {
		_ = tcp.SetWriteBuffer(sendBuffer) // without it, the connection only costs more
	}
	now := time.Now()
	if _, known := c.open[conn]; !known && state != http.StateNew {
		return // it has been closed here
	}
	c.open[conn] = connection{state == http.StateActive, now}
	if len(c.open) <= maxConnections {
		return
	}
	last := c.victim(conn, now)
	delete(c.open, last)
	_ = below(last).Close() // nobody waits for it; that of TLS would write
	if now.Sub(c.logged) > time.Minute {
		c.logged = now
		c.log.Warn("Closed a connection for a new one, because there are too many", "most", maxConnections)
	}
}

// victim returns the connection to close for a new one. It requires mu.
func (c *connections) victim(newest net.Conn, now time.Time) net.Conn {
	var idle, oldest net.Conn
	for conn, is := range c.open {
		if conn == newest {
			continue
		}
		if oldest == nil || is.since.Before(c.open[oldest].since) {
			oldest = conn
		}
		if !is.active && (idle == nil || is.since.Before(c.open[idle].since)) {
			idle = conn
		}
	}
	if idle != nil && now.Sub(c.open[idle].since) >= longIdle {
		return idle
	}
	return oldest
}

// below returns the connection that TLS uses, or the connection itself.
func below(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}
