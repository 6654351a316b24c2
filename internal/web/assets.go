package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"
)

//go:embed assets
var assets embed.FS

// asset serves a file of assets/. Browsers ask again each time, and are told
// that theirs is still good.
func asset(w http.ResponseWriter, req *http.Request) {
	name := req.PathValue("name")
	content, err := assets.ReadFile("assets/" + name)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	sum := sha256.Sum256(content)
	w.Header().Set("ETag", fmt.Sprintf("W/%q", hex.EncodeToString(sum[:8]))) // weak: compressed or not
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(w, req, name, time.Time{}, bytes.NewReader(content))
}

// contentSecurityPolicy allows what the pages have, which is nothing inline
// and nothing from elsewhere.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guarded adds the headers that every answer for people and programs has.
// Nothing is to be kept of what is about other people's releases, which is all
// but the assets.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, req)
	})
}
