// Package relay passes TCP connections on to a server. It counts what passes, and can break, delay or stall connections.
package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Relay is a listener whose connections lead to a server. It does not look into them: TLS passes unchanged, and a
// certificate for 127.0.0.1 is valid for every port. Its methods are safe for concurrent use.
type Relay struct {
	address  string // its own; the same for the whole life of the relay
	accepted atomic.Int64
	sent     atomic.Int64
	received atomic.Int64
	delay    atomic.Int64 // in nanoseconds
	running  sync.WaitGroup

	mu       sync.Mutex
	server   string                // guarded by mu
	listener net.Listener          // guarded by mu; nil while off
	open     map[net.Conn]struct{} // guarded by mu
	flow     chan struct{}         // guarded by mu; closed unless the relay is stalled
	waiting  []net.Conn            // guarded by mu; what fills the backlog during a stall
	held     chan struct{}         // guarded by mu; closed when a stalled relay does not accept any more
}

// New returns a relay to the address of a server. It has a port, but nothing listens on it before On.
func New(server string) (*Relay, error) {
	r := &Relay{address: "127.0.0.1:0", server: server, open: make(map[net.Conn]struct{}), flow: make(chan struct{})}
	close(r.flow)
	err := r.On() // The system chooses the port.
	r.Off()
	return r, err
}

// Address returns the address of the relay.
func (r *Relay) Address() string { return r.address }

// Connections returns how many connections have been accepted so far.
func (r *Relay) Connections() int64 { return r.accepted.Load() }

// Received returns how many bytes have come from the server so far.
func (r *Relay) Received() int64 { return r.received.Load() }

// Open returns how many connections are open now.
func (r *Relay) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open) / 2
}

// To has new connections lead to another server.
func (r *Relay) To(server string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = server
}

// Delay holds back by some time whatever is read of either side, from now on.
func (r *Relay) Delay(by time.Duration) { r.delay.Store(int64(by)) }

// Sent returns how many bytes have come from clients so far.
func (r *Relay) Sent() int64 { return r.sent.Load() }

// On starts to accept connections. It must not be called while the relay is on.
func (r *Relay) On() error {
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.address, r.listener = listener.Addr().String(), listener
	r.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // Off has closed it.
			}
			r.accepted.Add(1)
			r.hold()
			r.running.Go(func() { r.pass(client) })
		}
	})
	return nil
}

// Off breaks every connection, and returns when nothing is open or listens. The relay keeps its address.
func (r *Relay) Off() {
	r.mu.Lock()
	if r.listener != nil {
		_ = r.listener.Close()
	}
	r.listener = nil
	for conn := range r.open {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.Resume()
	r.running.Wait()
}

// Reset breaks every connection by a TCP reset, and accepts new ones.
func (r *Relay) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.open {
		_ = conn.(*net.TCPConn).SetLinger(0) // so that what was not sent is dropped, and Close sends a reset
		_ = conn.Close()
	}
}

// Stall keeps all connections, but passes nothing on, and does not answer new ones, like a network that drops packets.
// The relay has to be on.
func (r *Relay) Stall() error {
	r.mu.Lock()
	r.flow, r.held = make(chan struct{}), make(chan struct{})
	listener, held := r.listener.(*net.TCPListener), r.held
	r.mu.Unlock()
	if err := backlog(listener, 0); err != nil {
		return err
	}
	for { // One connection is accepted and held, and the next ones fill the backlog.
		last := false
		select {
		case <-held:
			last = true
		default:
		}
		conn, err := net.DialTimeout("tcp", r.address, 100*time.Millisecond)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			if last {
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.waiting = append(r.waiting, conn)
		r.mu.Unlock()
	}
}

// Resume ends a stall. Everything that came meanwhile is passed on.
func (r *Relay) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range r.waiting {
		_ = conn.Close()
	}
	r.waiting = nil
	select {
	case <-r.flow:
	default:
		if r.listener != nil {
			_ = backlog(r.listener.(*net.TCPListener), syscall.SOMAXCONN)
		}
		close(r.flow)
	}
}

func backlog(listener *net.TCPListener, n int) error {
	conn, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	return errors.Join(conn.Control(func(fd uintptr) { failed = setBacklog(fd, n) }), failed)
}

// hold returns at once unless the relay is stalled.
func (r *Relay) hold() {
	flow := r.flowing()
	select {
	case <-flow:
	default:
		r.mu.Lock()
		close(r.held)
		r.mu.Unlock()
		<-flow
	}
}

// flowing returns a channel that is closed unless the relay is stalled.
func (r *Relay) flowing() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flow
}

// pass copies both ways until either side ends.
func (r *Relay) pass(client net.Conn) {
	r.mu.Lock()
	to := r.server
	r.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil {
		_ = client.Close()
		return
	}
	r.mu.Lock()
	closing := r.listener == nil
	r.open[client], r.open[server] = struct{}{}, struct{}{}
	r.mu.Unlock()
	done := make(chan struct{}, 2)
	for _, d := range []direction{{r, client, &r.sent, server}, {r, server, &r.received, client}} {
		go func() {
			_, _ = io.Copy(d.to, d) // It ends when either side is closed.
			done <- struct{}{}
		}()
	}
	if !closing {
		<-done
	}
	_, _ = client.Close(), server.Close()
	r.mu.Lock()
	delete(r.open, client)
	delete(r.open, server)
	r.mu.Unlock()
}

// direction reads what comes from one side of a connection, counts it, and holds it back during a delay or a stall.
type direction struct {
	relay *Relay
	from  net.Conn
	count *atomic.Int64
	to    net.Conn
}

// Read implements io.Reader.
func (d direction) Read(p []byte) (int, error) {
	n, err := d.from.Read(p)
	d.count.Add(int64(n))
	if delay := d.relay.delay.Load(); delay > 0 {
		<-time.After(time.Duration(delay))
	}
	<-d.relay.flowing()
	return n, err
}
