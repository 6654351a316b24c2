package decode

import (
	"bytes"
	"encoding/base64"
	"io"
)

// maxPayload bounds the text that is read of one payload. The API server
// stores at most a mebibyte; the bound only keeps a reader without an end from
// being read without an end.
const maxPayload = 32 << 20

// armor reads the bytes under a payload's base64. It keeps the start of the
// text, so that a pass over that start can be followed by another one.
type armor struct {
	payload  io.Reader
	text     []byte // the buffer, a multiple of 4 long
	pos, end int    // text[pos:end] is still to be decoded
	cut      int    // where this pass ends; 0 for a pass over the whole payload
	read     int    // bytes read so far, with line breaks
	some     bool   // there was anything but line breaks
	padded   bool   // the last quantum had padding: nothing may follow
	invalid  bool   // the next character is not base64
	err      error  // what ended the payload
}

func (a *armor) start(payload io.Reader) {
	*a = armor{payload: payload, text: a.text}
}

// rewind starts a pass. A cut must not be more than the buffer holds; only
// after passes that had one can another pass start.
func (a *armor) rewind(cut int) {
	a.pos, a.cut = 0, cut
	a.padded, a.invalid = false, false
}

// Read decodes as many whole quanta as there are. What precedes a character
// that is not base64 is still returned. p must have room for one quantum.
func (a *armor) Read(p []byte) (int, error) {
	if a.invalid {
		return 0, ErrBase64
	}
	if a.end-a.pos < 4 || a.cut > a.end {
		a.more()
	}
	end := a.end
	if a.cut > 0 {
		end = min(end, a.cut)
	}
	size := min((end-a.pos)/4, len(p)/3) * 4
	if size == 0 {
		return 0, a.ended(end)
	}
	if a.padded {
		return 0, ErrBase64
	}
	quanta := a.text[a.pos : a.pos+size]
	n, err := base64.StdEncoding.Decode(p, quanta)
	if err != nil {
		a.invalid = true
		if n == 0 {
			return 0, ErrBase64
		}
		return n, nil
	}
	a.pos += size
	a.padded = quanta[size-1] == '='
	return n, nil
}

// ended tells why there is no whole quantum left before end.
func (a *armor) ended(end int) error {
	switch {
	case a.read > maxPayload:
		return ErrLimit
	case a.cut > 0 && end == a.cut:
		return io.EOF
	case a.err != io.EOF:
		return readerError{a.err}
	case !a.some:
		return ErrEmpty
	case a.pos < end:
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

// more reads text until the cut is reached, or, in a pass over the whole
// payload, until there is a quantum. It drops line breaks, as Go's base64
// does.
func (a *armor) more() {
	want := a.cut
	if a.cut == 0 {
		a.end = copy(a.text, a.text[a.pos:a.end])
		a.pos = 0
		want = 4
	}
	for idle := 0; a.end < want && a.err == nil && a.read <= maxPayload; idle++ {
		room := a.text[a.end:]
		if a.cut > 0 {
			room = a.text[a.end:a.cut]
		}
		n, err := a.payload.Read(room)
		kept := dropLineBreaks(room[:n])
		a.end += kept
		a.read += n
		a.some = a.some || kept > 0
		a.err = err
		if n > 0 {
			idle = 0
		} else if err == nil && idle > 100 {
			a.err = io.ErrNoProgress
		}
	}
}

// dropLineBreaks moves the other characters together and returns how many
// there are.
func dropLineBreaks(text []byte) int {
	if bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') < 0 {
		return len(text)
	}
	kept := 0
	for _, c := range text {
		if c != '\n' && c != '\r' {
			text[kept] = c
			kept++
		}
	}
	return kept
}
