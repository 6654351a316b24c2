package serve

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// maxScrapes is how many scrapes are answered at once. Each may hold its own snapshot for as long as its client
	// takes to read it.
	maxScrapes = 16
	// maxWaiting is how many scrapes wait for a place, and waitTimeout how long. Prometheus gives up after ten seconds by
	// default.
	maxWaiting  = 64
	waitTimeout = 5 * time.Second
	// scrapeTimeout is how long a client may take to read its response while nobody waits for its place.
	scrapeTimeout = time.Minute
	// While others wait, it may be maxLag behind one that reads minRate bytes per second, and less if more than
	// maxScrapes wait: so the last of maxWaiting gets a place in time, even if all before it read nothing.
	maxLag  = 2 * time.Second
	minRate = 1 << 20
)

// LimitScrapes returns a handler that answers a few scrapes at a time. Whoever waits is answered in the order of arrival,
// and whoever reads slowly is cut off for it. If too many wait, or one for too long, it answers 503.
func LimitScrapes(next http.Handler) http.Handler {
	scrapes := newPlaces()
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mine := scrapes.take(req.Context(), w)
		if mine == nil {
			w.Header().Set("Retry-After", "1")
			http.Error(w, fmt.Sprintf("already answering %d scrapes; scrape less often, or from fewer places", maxScrapes), http.StatusServiceUnavailable)
			return
		}
		defer scrapes.leave(mine)
		if req.Context().Err() != nil { // the client has taken the request back, as floods over HTTP/2 do
			return
		}
		next.ServeHTTP(mine, req)
	})
}

// places are what scrapes need to be written. Whoever waits gets one in the order of arrival. Whoever reads slowly loses
// its place to those who wait.
type places struct {
	free    *semaphore.Weighted // it is first in, first out
	waiting atomic.Int64

	mu    sync.Mutex
	taken map[*place]struct{} // guarded by mu
}

func newPlaces() *places {
	return &places{free: semaphore.NewWeighted(maxScrapes), taken: make(map[*place]struct{})}
}

// take waits for a place for a response. It returns nil if there is none in time, or too many wait.
func (p *places) take(ctx context.Context, w http.ResponseWriter) *place {
	if !p.free.TryAcquire(1) && !p.await(ctx) {
		return nil
	}
	mine := &place{ResponseWriter: w, waiting: &p.waiting}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken[mine] = struct{}{}
	return mine
}

// await waits for a place, and limits the time of those who have one. It reports false if none is free in time, or too
// many wait.
func (p *places) await(ctx context.Context) bool {
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > maxWaiting {
		return false
	}
	p.mu.Lock()
	for one := range p.taken {
		one.limit()
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	return p.free.Acquire(ctx, 1) == nil
}

// leave gives a place back.
func (p *places) leave(mine *place) {
	p.mu.Lock()
	delete(p.taken, mine)
	p.mu.Unlock()
	p.free.Release(1)
}

// place is one that is taken. It is what the response is written to.
type place struct {
	http.ResponseWriter
	waiting *atomic.Int64 // how many wait for a place

	mu      sync.Mutex
	began   time.Time     // guarded by mu; of the write in flight, zero while the response is rendered
	spent   time.Duration // guarded by mu; in earlier writes
	written int           // guarded by mu; bytes that the client has taken
}

// Write implements io.Writer.
func (p *place) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.began = time.Now()
	p.mu.Unlock()
	p.limit()
	n, err := p.ResponseWriter.Write(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written += n
	p.spent += time.Since(p.began)
	p.began = time.Time{}
	return n, err
}

// limit sets until when the client may take what is being written. Then the response breaks off, which the client sees.
func (p *place) limit() {
	p.mu.Lock() // until the end: the last one to know how many wait sets the limit
	defer p.mu.Unlock()
	if p.began.IsZero() {
		return
	}
	limit := scrapeTimeout
	if waiting := p.waiting.Load(); waiting > 0 {
		limit = maxLag*maxScrapes/time.Duration(max(waiting, maxScrapes)) + time.Duration(p.written)*time.Second/minRate
	}
	// An error means that the timeout of the server has to do.
	_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(p.began.Add(limit - p.spent))
}
