package metrics

// Blocks returns how many blocks there are, and how many of them, or of those
// that were, wait for a scrape.
func (s *Store) Blocks() (all, dirty int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.layout.blocks), len(s.layout.dirty)
}
