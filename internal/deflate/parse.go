package deflate

// blockTokens is how many tokens share codes, at most.
const blockTokens = 1 << 14

// run is how many literals in a row may go without a look for a match.
const run = 16

// parser makes tokens of a text.
type parser struct {
	finder
	at     int // what comes before is in tokens
	lits   int // where the literals before at begin
	length int // of the match before lits

	tokens [blockTokens]token
	counts histogram // of the tokens, and of the end
}

// reset begins a text.
func (p *parser) reset(text []byte) {
	p.finder.reset(text)
	p.at, p.lits, p.length = 0, 0, 0
}

// parse returns the tokens of the next block. They are valid until the next
// call.
func (p *parser) parse() []token {
	p.counts.reset()
	text := p.text
	n, i := 0, p.at
	for n < len(p.tokens) && i < len(text) {
		if (!p.inField(i) || i-p.lits >= run) && i+word <= len(text) {
			if source, length := p.find(i); length > 0 {
				n = p.match(n, i, source, length)
				i = p.lits
				continue
			}
		}
		p.tokens[n] = literal(text[i])
		p.counts.lengths[text[i]]++
		n++
		i++
	}
	p.at = i
	return p.tokens[:n]
}

// inField reports whether i is in a number, or in a word but not at its
// beginning. These are what lines differ in: a match that begins there may be
// had from a few lines ago only, and keeps the better one from being seen that
// begins where they end.
func (p *parser) inField(i int) bool {
	c := p.text[i]
	return c-'0' < 10 || c == '.' || i > p.lits && isLetter(c) && isLetter(p.text[i-1])
}

func isLetter(c byte) bool { return c|0x20-'a' < 26 || c == '_' }

// match adds a match for what is at i as token n, and returns the number of
// the next.
func (p *parser) match(n, i, source, length int) int {
	distance, end := p.take(i, source, length), i+length
	// Literals that are the same before it are had for nothing.
	first := max(p.lits, distance, end-maxMatch, i-n)
	for i > first && p.text[i-1] == p.text[i-1-distance] {
		i--
		n--
		p.counts.lengths[p.text[i]]--
	}
	// So is a whole match: what goes farther than the nearest line that is the
	// same shows only behind where that ends.
	if before := i - p.length; i == p.lits && n > 0 && before >= distance && end-before <= maxMatch &&
		same(p.text[before-distance:i-distance], p.text[before:i]) {
		i = before
		n--
		p.counts.remove(p.tokens[n])
	}
	p.lits, p.length = end, end-i
	p.tokens[n] = match(end-i, distance)
	p.counts.add(p.tokens[n])
	return n + 1
}
