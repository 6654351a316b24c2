//go:build unix

package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/tools/clientcmd"
)

// relay passes TCP connections on to the API server and counts what crosses them. It does not look inside: TLS goes
// through as it is, and the server's certificate holds for 127.0.0.1 whatever the port.
type relay struct {
	listener net.Listener
	server   string // address of the API server
	received atomic.Int64
	sent     atomic.Int64
	running  sync.WaitGroup
}

// openRelay starts a relay to the API server of a kubeconfig, and writes another kubeconfig that leads through it.
func openRelay(ctx context.Context, kubeconfig, through string) (r *relay, err error) {
	cfg, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, err
	}
	r = &relay{}
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for _, cluster := range cfg.Clusters {
		server, err := url.Parse(cluster.Server)
		if err != nil {
			return nil, err
		}
		r.server = server.Host
		server.Host = r.listener.Addr().String()
		cluster.Server = server.String()
	}
	if r.server == "" {
		return nil, errors.New("relay: the kubeconfig names no cluster")
	}
	if err := clientcmd.WriteToFile(*cfg, through); err != nil {
		return nil, err
	}
	r.running.Go(func() { r.accept(ctx) })
	return r, nil
}

func (r *relay) accept(ctx context.Context) {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		r.running.Go(func() { r.pass(ctx, client) })
	}
}

// pass serves one connection until both sides are done with it.
func (r *relay) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.server)
	if err != nil {
		return // The client sees its connection end, and says so.
	}
	defer server.Close()
	// Neither side notices by itself when the run is interrupted.
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = server.Close()
	})
	defer stop()
	var up sync.WaitGroup
	up.Go(func() { pump(server, client, &r.sent) })
	pump(client, server, &r.received)
	_ = client.Close()
	up.Wait()
}

// pump copies until the source ends, and then ends the destination. Bytes are counted as they pass: io.Copy would
// tell only when a watch is over.
func pump(to, from net.Conn, count *atomic.Int64) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			count.Add(int64(n))
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// close ends the relay once its clients are gone.
func (r *relay) close() {
	_ = r.listener.Close()
	r.running.Wait()
}
