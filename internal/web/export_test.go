package web

import "net"

// Routes are what a server serves.
var Routes = newHandler

// Addresses returns where the server listens, in the order of the config.
func (s *Server) Addresses() []net.Addr {
	addresses := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		addresses[i] = l.Addr()
	}
	return addresses
}
