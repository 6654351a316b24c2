package metrics

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// maxScrapes is how many scrapes are written at once, of everything and as many of single namespaces. Each may
	// hold its own snapshot for as long as its client takes to read it.
	maxScrapes = 16
	// maxWaiting is how many scrapes wait for a place.
	maxWaiting = 64
	// mayRead is how long a client may read while others wait for its place. After that it is cut off: whoever reads
	// slowly loses, not who reads fast.
	mayRead = 2 * time.Second
	// mayWait is how long a scrape waits for a place. Prometheus gives up after ten seconds by default.
	mayWait = 5 * time.Second
)

// places are what scrapes need to be written. The zero value is ready for use.
type places struct {
	mu      sync.Mutex
	taken   []*place      // guarded by mu; in order of time
	waiting int           // guarded by mu
	changed chan struct{} // guarded by mu; closed when a place is free
}

// place is one that is taken.
type place struct {
	since time.Time
	cut   func() // ends the response
	ended bool   // by cut
}

// take waits for a place for a response. It returns nil if there is none in time, or too many wait.
func (p *places) take(ctx context.Context, w http.ResponseWriter) *place {
	mine := &place{cut: func() {
		// The client sees a broken response. An error means that the response cannot be ended before its timeout.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now())
	}}
	ctx, cancel := context.WithTimeout(ctx, mayWait)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.taken) == maxScrapes && p.waiting == maxWaiting {
		return nil
	}
	p.waiting++
	defer func() { p.waiting-- }()
	for len(p.taken) == maxScrapes {
		if !p.wait(ctx) {
			return nil
		}
	}
	mine.since = time.Now()
	p.taken = append(p.taken, mine)
	return mine
}

// wait waits until a place may be free, and cuts off the response that has been written for longest. It reports false
// if the context ended. It requires mu, which it gives back meanwhile.
func (p *places) wait(ctx context.Context) bool {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	changed := p.changed
	var slowest <-chan time.Time
	if i := slices.IndexFunc(p.taken, func(t *place) bool { return !t.ended }); i >= 0 {
		left := time.Until(p.taken[i].since.Add(mayRead))
		if left <= 0 {
			p.taken[i].ended = true
			p.taken[i].cut()
		} else {
			timer := time.NewTimer(left)
			defer timer.Stop()
			slowest = timer.C
		}
	}
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-changed:
	case <-slowest:
	case <-ctx.Done():
		return false
	}
	return true
}

// leave gives a place back.
func (p *places) leave(mine *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = slices.DeleteFunc(p.taken, func(t *place) bool { return t == mine })
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}
