package metrics

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxScrapes is how many scrapes are written at once, of everything and as many of single namespaces. Each may
	// hold its own snapshot for as long as its client takes to read it.
	maxScrapes = 16
	// maxWaiting is how many scrapes wait for a place.
	maxWaiting = 64
	// mayStall is how long a client may take for one write, and mayRead for all, while others wait for its place. After
	// that it is cut off: whoever reads slowly loses, not who reads fast.
	mayStall = 2 * time.Second
	mayRead  = 10 * time.Second
	// mayWait is how long a scrape waits for a place. Prometheus gives up after ten seconds by default.
	mayWait = 5 * time.Second
)

// places are what scrapes need to be written. The zero value is ready for use.
type places struct {
	mu      sync.Mutex
	taken   []*place      // guarded by mu
	waiting int           // guarded by mu
	changed chan struct{} // guarded by mu; closed when a place is free
}

// place is one that is taken. It is what the response is written to.
type place struct {
	http.ResponseWriter
	since time.Time
	wrote atomic.Int64 // when the last write began or was done, in nanoseconds; 0 before the first
	ended bool         // cut off
}

// Write implements io.Writer.
func (p *place) Write(b []byte) (int, error) {
	p.wrote.Store(time.Now().UnixNano())
	n, err := p.ResponseWriter.Write(b)
	p.wrote.Store(time.Now().UnixNano())
	return n, err
}

// until returns when the response may be cut off. Before the first write it is being rendered.
func (p *place) until() time.Time {
	until := p.since.Add(mayRead)
	if wrote := p.wrote.Load(); wrote != 0 {
		if stalled := time.Unix(0, wrote).Add(mayStall); stalled.Before(until) {
			return stalled
		}
	}
	return until
}

// take waits for a place for a response. It returns nil if there is none in time, or too many wait.
func (p *places) take(ctx context.Context, w http.ResponseWriter) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.taken) == maxScrapes && !p.await(ctx) {
		return nil
	}
	mine := &place{ResponseWriter: w, since: time.Now()}
	p.taken = append(p.taken, mine)
	return mine
}

// await waits until a place is free. It reports false if none is in time, or too many wait. It requires mu, which it
// gives back meanwhile.
func (p *places) await(ctx context.Context) bool {
	if p.waiting == maxWaiting {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, mayWait)
	defer cancel()
	p.waiting++
	defer func() { p.waiting-- }()
	for len(p.taken) == maxScrapes {
		if !p.wait(ctx) {
			return false
		}
	}
	return true
}

// wait waits until a place may be free, and cuts off a response whose time is over. It reports false if the context
// ended. It requires mu, which it gives back meanwhile.
func (p *places) wait(ctx context.Context) bool {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	changed := p.changed
	var slowest *place
	for _, t := range p.taken {
		if !t.ended && (slowest == nil || t.until().Before(slowest.until())) {
			slowest = t
		}
	}
	var over <-chan time.Time
	if slowest != nil {
		left := time.Until(slowest.until())
		if left <= 0 {
			slowest.ended = true
			// The client sees a broken response. An error means that it cannot be ended before its timeout.
			_ = http.NewResponseController(slowest.ResponseWriter).SetWriteDeadline(time.Now())
		}
		timer := time.NewTimer(max(left, mayStall/10))
		defer timer.Stop()
		over = timer.C
	}
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-changed:
	case <-over:
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
