// Package relay passes TCP connections on to a server. It counts what passes, and can break or stall connections.
package relay

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Relay is a listener whose connections lead to a server. It does not look into them: TLS passes unchanged, and a
// certificate for 127.0.0.1 is valid for every port. Its methods are safe for concurrent use.
type Relay struct {
	address  string // its own; the same for the whole life of the relay
	server   string
	accepted atomic.Int64
	sent     atomic.Int64
	received atomic.Int64
	running  sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener          // guarded by mu; nil while off
	open     map[net.Conn]struct{} // guarded by mu
	flow     chan struct{}         // guarded by mu; closed unless the relay is stalled
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

// Stall keeps all connections and accepts new ones, but passes nothing on, like a network that drops packets.
func (r *Relay) Stall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow = make(chan struct{})
}

// Resume ends a stall. Everything that came meanwhile is passed on.
func (r *Relay) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.flow:
	default:
		close(r.flow)
	}
}

// pass copies both ways until either side ends.
func (r *Relay) pass(client net.Conn) {
	server, err := net.Dial("tcp", r.server)
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

// direction reads what comes from one side of a connection, counts it, and holds it back during a stall.
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
	d.relay.mu.Lock()
	flow := d.relay.flow
	d.relay.mu.Unlock()
	<-flow
	return n, err
}
