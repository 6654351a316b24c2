package serve

import (
	"context"
	"crypto/sha256"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxPasswords is how many headers with a valid password are remembered.
	maxPasswords = 1024
	// maxGuesses is how many requests wait for the check of a password that is not known to be valid, of which
	// maxGuessesOfOne come from one address, and guessTimeout for how long.
	maxGuesses      = 16
	maxGuessesOfOne = 2
	guessTimeout    = 5 * time.Second
)

// passwords keeps requests with wrong passwords from holding up those with the right one. The toolkit checks one
// password at a time, which takes 50 ms of CPU and more, and forgets the valid ones when it sees many others. So of
// passwords that are not known to be valid one is checked at a time, for half of the time.
type passwords struct {
	turn chan struct{}

	mu      sync.Mutex
	valid   map[[sha256.Size]byte]bool // by the digest of the header Authorization; guarded by mu
	waiting map[string]int             // by address; guarded by mu
	all     int                        // that wait; guarded by mu
}

func newPasswords() *passwords {
	return &passwords{
		turn: make(chan struct{}, 1), valid: make(map[[sha256.Size]byte]bool), waiting: make(map[string]int),
	}
}

// limitGuesses puts one half of the limit before the toolkit's check of passwords, and the other half behind it: a request
// goes through before, the check, behind, and the handler.
func limitGuesses(server *http.Server, next http.Handler) {
	p := newPasswords()
	server.Handler = p.behind(next)
	// The toolkit puts its check before our handler when it begins to serve. This is called after that, and before the
	// first request.
	server.BaseContext = func(net.Listener) context.Context {
		server.Handler = withoutBody(p.before(server.Handler))
		return context.Background()
	}
}

// leaveKey is the key of a function in the context of a request: it ends its turn.
type leaveKey struct{}

// before returns a handler that comes before the check of the password.
func (p *passwords) before(check http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, _, has := req.BasicAuth(); !has || p.isValid(req) {
			check.ServeHTTP(w, req)
			return
		}
		leave, ok := p.take(req)
		if !ok {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many passwords are waiting to be checked", http.StatusTooManyRequests)
			return
		}
		defer leave()
		check.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), leaveKey{}, leave)))
	})
}

// behind returns a handler that comes behind it: who gets here has a valid password.
func (p *passwords) behind(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if leave, ok := req.Context().Value(leaveKey{}).(func()); ok {
			leave()
			p.remember(req)
		}
		next.ServeHTTP(w, req)
	})
}

// take waits for a turn. It returns what ends it, and false if too many wait, or for too long.
func (p *passwords) take(req *http.Request) (leave func(), ok bool) {
	address, _, _ := net.SplitHostPort(req.RemoteAddr)
	if !p.wait(address, 1) {
		return nil, false
	}
	defer p.wait(address, -1)
	late := time.NewTimer(guessTimeout)
	defer late.Stop()
	select {
	case p.turn <- struct{}{}:
	case <-late.C:
		return nil, false
	case <-req.Context().Done():
		return nil, false
	}
	began := time.Now()
	return sync.OnceFunc(func() {
		time.AfterFunc(time.Since(began), func() { <-p.turn }) // a pause as long as the check was
	}), true
}

// wait changes the number of those who wait. It returns false, and changes nothing, if too many would.
func (p *passwords) wait(address string, change int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if change > 0 && (p.all == maxGuesses || p.waiting[address] == maxGuessesOfOne) {
		return false
	}
	p.all += change
	if p.waiting[address] += change; p.waiting[address] == 0 {
		delete(p.waiting, address)
	}
	return true
}

func digest(req *http.Request) [sha256.Size]byte {
	return sha256.Sum256([]byte(req.Header.Get("Authorization")))
}

func (p *passwords) isValid(req *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.valid[digest(req)]
}

func (p *passwords) remember(req *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.valid) == maxPasswords {
		clear(p.valid)
	}
	p.valid[digest(req)] = true
}
