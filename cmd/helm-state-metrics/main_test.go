package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
)

// TestTenantsHaveTheirOwnPlaces takes all places of one kind, and scrapes by the other one.
func TestTenantsHaveTheirOwnPlaces(t *testing.T) {
	const all, some = "/metrics", "/metrics?namespace=a"
	for taken, other := range map[string]string{all: some, some: all} {
		synctest.Test(t, func(t *testing.T) {
			leave := make(chan struct{})
			defer close(leave)
			h := limitScrapes(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
				if req.RequestURI == taken {
					<-leave
				}
			}))
			ask := func(url string) int {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, url, nil))
				return w.Code
			}
			for range 16 {
				go ask(taken)
			}
			synctest.Wait()
			if a, b := ask(taken), ask(other); a != http.StatusServiceUnavailable || b != http.StatusOK {
				t.Errorf("%s answers %d, and %s %d", taken, a, other, b)
			}
		})
	}
}
