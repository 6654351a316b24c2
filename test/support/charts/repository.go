// Package charts serves chart repositories and an OCI registry that Helm itself fills, and breaks them as tests ask.
package charts

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server is an HTTP server that counts its answers and has at most one fault at a time. Its methods are safe for
// concurrent use.
type Server struct {
	*httptest.Server

	mu                 sync.Mutex
	fault              Fault       // guarded by mu; nil for none
	username, password string      // guarded by mu; empty for none
	answers            map[int]int // guarded by mu; by status
	requests           int         // guarded by mu
}

// newServer returns a server that the caller starts when it has its place: then requests may come.
func newServer(handler http.Handler) *Server {
	s := &Server{answers: make(map[int]int)}
	s.Server = httptest.NewUnstartedServer(s.wrap(handler))
	return s
}

// Require makes the server ask for a name and a password, which a registry accepts for a token.
func (s *Server) Require(username, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.username, s.password = username, password
}

// Break gives the server a fault instead of the one that it had. nil mends it.
func (s *Server) Break(fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Answers returns how many requests have been answered with a status, or how many requests there were if it is 0.
func (s *Server) Answers(status int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status != 0 {
		return s.answers[status]
	}
	return s.requests
}

// Address returns the host and port.
func (s *Server) Address() string { return s.Listener.Addr().String() }

func (s *Server) wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counted := &counter{ResponseWriter: w}
		s.mu.Lock()
		fault := s.fault
		s.requests++
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.answers[counted.status]++
		}()
		switch {
		case fault != nil:
			fault(counted, r, handler)
		default:
			handler.ServeHTTP(counted, r)
		}
	})
}

// authorized reports whether a request has the password, if there is one.
func (s *Server) authorized(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	username, password, _ := r.BasicAuth()
	return s.password == "" || username == s.username && password == s.password
}

// counter remembers the status of an answer.
type counter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	return c.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// NewRepository serves a directory as static file servers do: with strong ETags, Last-Modified and gzip. The caller
// closes it.
func NewRepository(dir string) *Server {
	var s *Server
	s = newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.authorized(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="charts"`)
			http.Error(w, "a password is needed", http.StatusUnauthorized)
			return
		}
		file := filepath.Join(dir, filepath.FromSlash(path.Clean("/"+r.URL.Path)))
		content, err := os.ReadFile(file)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		var modified time.Time
		if info, err := os.Stat(file); err == nil {
			modified = info.ModTime()
		}
		etag := fmt.Sprintf("%x", sha256.Sum256(content))
		w.Header().Set("Content-Type", "application/octet-stream")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			etag += "-gzip"
			w.Header().Set("Content-Encoding", "gzip")
			content = compress(content)
		}
		w.Header().Set("ETag", strconv.Quote(etag))
		http.ServeContent(w, r, file, modified, bytes.NewReader(content))
	}))
	s.Start()
	return s
}

func compress(content []byte) []byte {
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	_, _ = z.Write(content) // A bytes.Buffer never fails.
	_ = z.Close()
	return compressed.Bytes()
}

// Fault answers a request in place of the handler.
type Fault func(w http.ResponseWriter, r *http.Request, handler http.Handler)

// Status answers with a status, and headers as name and value in turn.
func Status(status int, headers ...string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		http.Error(w, http.StatusText(status), status)
	}
}

// Text answers with a text.
func Text(text string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { _, _ = io.WriteString(w, text) }
}

// Spaces answers with a text, and then with a number of spaces.
func Spaces(text string, number int) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		_, err := io.WriteString(w, text)
		block := bytes.Repeat([]byte(" "), 64<<10)
		for ; number > 0 && err == nil; number -= len(block) {
			_, err = w.Write(block[:min(number, len(block))])
		}
	}
}

// Half breaks off in the middle of the answer.
func Half(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	whole := httptest.NewRecorder()
	r = r.Clone(r.Context())
	r.Header.Del("If-None-Match")
	r.Header.Del("If-Modified-Since")
	handler.ServeHTTP(whole, r)
	for name, values := range whole.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(whole.Body.Len()))
	_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
	_ = http.NewResponseController(w).Flush() // Otherwise nothing of it would be sent.
	panic(http.ErrAbortHandler)
}

// Slow waits for a channel before it answers.
func Slow(until <-chan struct{}) Fault {
	return func(w http.ResponseWriter, r *http.Request, handler http.Handler) {
		select {
		case <-until:
			handler.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}
}

// Redirect redirects to the same path of another server.
func Redirect(base string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, base+r.URL.Path, http.StatusFound)
	}
}
