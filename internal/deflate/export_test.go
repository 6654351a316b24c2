package deflate

// Age has the encoder's next text overflow the numbers that tell texts apart.
func (e *Encoder) Age() { e.parser.base = 1<<31 - 1 }
