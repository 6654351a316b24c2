package metrics

// Blocks returns how many blocks there are, and how many of them wait to be
// rendered.
func (s *Store) Blocks() (all, dirty int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blocks {
		if b.dirty != 0 {
			dirty++
		}
	}
	return len(s.blocks), dirty
}
