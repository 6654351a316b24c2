package e2e_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// relay passes TCP connections on to the API server, as long as it is on. It
// keeps its port while it is off, at which nothing listens then.
type relay struct {
	address string
	backend string

	mu       sync.Mutex
	listener net.Listener          // guarded by mu; nil while off
	open     map[net.Conn]struct{} // guarded by mu
	accepted int                   // guarded by mu; how many connections
	flow     chan struct{}         // guarded by mu; closed unless nothing is passed on
	running  sync.WaitGroup
}

// newRelay returns a relay to the control plane that is off.
func newRelay(t *testing.T) *relay {
	t.Helper()
	backend, err := url.Parse(shared.config.Host)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: "127.0.0.1:0", backend: backend.Host, open: make(map[net.Conn]struct{}), flow: make(chan struct{})}
	close(r.flow)
	r.on(t) // this chooses the port
	r.off()
	t.Cleanup(r.off)
	return r
}

// access is the administrator's way through the relay.
func (r *relay) access() access {
	return access{server: "https://" + r.address, ca: shared.config.CAData}
}

func (r *relay) on(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.address, r.listener = listener.Addr().String(), listener
	r.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // it was turned off
			}
			r.mu.Lock()
			r.accepted++
			r.mu.Unlock()
			r.running.Go(func() { r.pass(client) })
		}
	})
}

// off breaks every connection, and returns when that is done.
func (r *relay) off() {
	r.mu.Lock()
	if r.listener != nil {
		_ = r.listener.Close()
	}
	r.listener = nil
	for conn := range r.open {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.resume()
	r.running.Wait()
}

// stall keeps all connections, and takes new ones, but passes nothing on, as a
// network that drops packets.
func (r *relay) stall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow = make(chan struct{})
}

// resume passes on again, what has come meanwhile included.
func (r *relay) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.flow:
	default:
		close(r.flow)
	}
}

// connections returns how many have been accepted so far.
func (r *relay) connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted
}

// Read implements io.Reader for one direction of a connection.
func (d direction) Read(p []byte) (int, error) {
	n, err := d.from.Read(p)
	d.relay.mu.Lock()
	flow := d.relay.flow
	d.relay.mu.Unlock()
	<-flow
	return n, err
}

// direction is what comes from one side of a connection.
type direction struct {
	relay *relay
	from  net.Conn
}

// pass copies both ways until either side ends.
func (r *relay) pass(client net.Conn) {
	server, err := net.Dial("tcp", r.backend)
	if err != nil {
		_ = client.Close()
		return
	}
	r.mu.Lock()
	closing := r.listener == nil
	r.open[client], r.open[server] = struct{}{}, struct{}{}
	r.mu.Unlock()
	done := make(chan struct{}, 2)
	for to, from := range map[net.Conn]net.Conn{client: server, server: client} {
		go func() {
			_, _ = io.Copy(to, direction{r, from}) // it ends when one of them is closed
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
