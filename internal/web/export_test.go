package web

import "net"

// Pages are what is served for people.
var Pages = pagesRoutes

// IsOpen is how the server decides whether to warn of the address of the pages.
var IsOpen = isOpen

// Addresses returns where the server listens: for metrics in the order of the config, for probes, and for pages.
func (s *Server) Addresses() []net.Addr {
	addresses := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		addresses[i] = l.Addr()
	}
	return addresses
}
