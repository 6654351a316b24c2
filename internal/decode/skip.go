package decode

// skip reads past the next value, whatever its size, and checks its syntax. It
// does not recurse: the document's nesting costs a bit per level.
func (s *scanner) skip() {
	outer := s.depth
	c := s.next()
	for s.err == nil {
		switch c {
		case '{':
			s.push(false)
			if c = s.next(); c != '}' {
				c = s.skipKey(c)
				continue
			}
			s.depth--
		case '[':
			s.push(true)
			if c = s.next(); c != ']' {
				continue
			}
			s.depth--
		default:
			s.skipScalar(c)
		}
		if s.depth == outer {
			return
		}
		c = s.skipEnds(outer)
		if s.depth == outer {
			return
		}
	}
}

// skipEnds reads past all that ends after a value, and returns the first byte
// of the value that comes then, if one comes before the depth is outer.
func (s *scanner) skipEnds(outer int) byte {
	for s.err == nil {
		c, array := s.next(), s.inArray()
		switch {
		case c == ',' && array:
			return s.next()
		case c == ',':
			return s.skipKey(s.next())
		case c == ']' && array, c == '}' && !array:
			s.depth--
			if s.depth == outer {
				return 0
			}
		default:
			s.fail(ErrJSON, "want a comma or an end")
		}
	}
	return 0
}

// skipKey reads past a member's name that starts with c, and the colon, and
// returns the first byte of the value.
func (s *scanner) skipKey(c byte) byte {
	if c != '"' {
		s.fail(ErrJSON, "want a member's name")
		return 0
	}
	s.skipString()
	if s.next() != ':' {
		s.fail(ErrJSON, "want a colon")
		return 0
	}
	return s.next()
}

// skipScalar reads past a value that starts with c and is no object or array.
func (s *scanner) skipScalar(c byte) {
	switch c {
	case '"':
		s.skipString()
	case 't':
		s.literal("rue")
	case 'f':
		s.literal("alse")
	case 'n':
		s.literal("ull")
	default:
		s.number(c)
	}
}

// literal reads the rest of true, false or null.
func (s *scanner) literal(rest string) {
	for i := range len(rest) {
		if s.raw() != rest[i] {
			s.fail(ErrJSON, "want true, false or null")
			return
		}
	}
}

// number reads past a number that starts with c.
func (s *scanner) number(c byte) {
	if c == '-' {
		c = s.raw()
	}
	if c == '0' {
		c = s.raw()
	} else {
		c = s.digits(c)
	}
	if c == '.' {
		c = s.digits(s.raw())
	}
	if c == 'e' || c == 'E' {
		c = s.raw()
		if c == '+' || c == '-' {
			c = s.raw()
		}
		s.digits(c)
	}
	s.back()
}

// digits reads past at least one digit and returns the byte that follows.
func (s *scanner) digits(c byte) byte {
	if c < '0' || c > '9' {
		s.fail(ErrJSON, "want a value")
		return 0
	}
	for c >= '0' && c <= '9' {
		c = s.raw()
	}
	return c
}
