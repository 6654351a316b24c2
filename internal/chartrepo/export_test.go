package chartrepo

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/Masterminds/semver/v3"
)

// ReadIndex reads an index with the limits that a Repository has, changed.
func ReadIndex(r io.Reader, endKnown bool, change func(*limits)) (map[string][]string, error) {
	l := New(Config{}, Options{}).limits
	if change != nil {
		change(&l)
	}
	return readIndex(context.Background(), r, endKnown, l)
}

// ReadWhole decodes an index at once.
func ReadWhole(text string) (map[string][]string, error) {
	k := newKeeper(New(Config{}, Options{}).limits)
	if err := readWhole([]byte(text), k); err != nil {
		return nil, err
	}
	return k.answer(true)
}

// CheckRedirect decides about redirects.
var CheckRedirect = checkRedirect

// SetLimits changes what a repository may cost.
func (r *Repository) SetLimits(change func(*limits)) { change(&r.limits) }

// SetClock sets the time.
func (r *Repository) SetClock(now func() time.Time) { r.now = now }

// SetDial sets how servers are connected to.
func (r *Repository) SetDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	r.dial = dial
}

// ResultOf returns the result that an error stands for.
func ResultOf(err error) Result { return (&Repository{}).failed(err).Result }

// NoWhole allows no decoding of a whole index.
func NoWhole(l *limits) { l.whole = -1 }

// SmallLimits are reached soon.
func SmallLimits(l *limits) {
	l.page, l.tagBytes, l.tags, l.pages = 64<<10, 16<<10, 50, 60
	l.text, l.whole, l.piece, l.versions, l.kept = 4<<20, 64<<10, 64<<10, 10_000, 256<<10
}

// IsVersion tells whether Helm takes the version.
func IsVersion(version string) bool {
	_, err := semver.NewVersion(version)
	return err == nil
}
