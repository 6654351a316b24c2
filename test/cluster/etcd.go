package main

import (
	"context"
	"errors"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
)

// startEtcd starts a single etcd member, with clients at the given address, and waits until it serves.
//
// Durability is given up for speed: nobody needs this data after a power cut.
func startEtcd(ctx context.Context, h *home, address string) (*embed.Etcd, error) {
	clients := []url.URL{{Scheme: "http", Host: address}}
	peers := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}

	cfg := embed.NewConfig()
	cfg.Name = "cluster"
	cfg.Dir = h.path("etcd")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = clients, clients
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peers, peers
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync = true
	// Space for tens of thousands of Helm payloads, and for requests somewhat above the API server's own limit.
	cfg.QuotaBackendBytes = 8 << 30
	cfg.MaxRequestBytes = 4 << 20
	// There is no other member to lose an election to, so it need not wait a second for one.
	cfg.TickMs, cfg.ElectionMs = 20, 100
	// The JSON gateway would dial the port that was asked for, which may be 0.
	cfg.EnableGRPCGateway = false
	cfg.LogLevel = "error"
	cfg.LogOutputs = []string{h.path(etcdLog)}

	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err = <-etcd.Err():
	case <-etcd.Server.StopNotify():
		err = errors.New("it stopped by itself")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	etcd.Close()
	return nil, err
}

// etcdURL returns where a started member listens.
func etcdURL(etcd *embed.Etcd) string { return "http://" + etcd.Clients[0].Addr().String() }
