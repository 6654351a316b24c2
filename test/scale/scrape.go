//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// scraper scrapes one exporter, as Prometheus does: gzip, and a connection that stays open. It is not safe for
// concurrent use; its buffers are used again by the next scrape.
type scraper struct {
	address string
	client  *http.Client
	wire    bytes.Buffer
	text    bytes.Buffer
	gzip    gzip.Reader
}

// scrape is one answer. Its text is valid until the next one.
type scrape struct {
	text []byte
	wire int           // bytes of the body as sent
	took time.Duration // from the request to the last byte of the answer
	end  time.Time
}

func newScraper(address string) *scraper {
	// The answer is to be counted as it comes, so the client must not inflate it.
	return &scraper{address: address, client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
}

func (s *scraper) close() { s.client.CloseIdleConnections() }

// get reads a page into the wire buffer.
func (s *scraper) get(ctx context.Context, path string, header http.Header) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header = header
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	s.wire.Reset()
	_, err = s.wire.ReadFrom(resp.Body)
	return resp.StatusCode, err
}

// readiness asks /readyz, and returns what it awaits. An exporter that does not listen yet awaits everything.
func (s *scraper) readiness(ctx context.Context) (ready bool, awaits string) {
	status, err := s.get(ctx, "/readyz", nil)
	if err != nil {
		return false, initialList
	}
	return status == http.StatusOK, s.wire.String()
}

// initialList is in what /readyz says until the initial list has been delivered.
const initialList = "waiting for the initial list"

// scrape asks for /metrics, compressed, and inflates the answer once it has been timed.
func (s *scraper) scrape(ctx context.Context) (scrape, error) {
	begin := time.Now()
	status, err := s.get(ctx, "/metrics", http.Header{"Accept-Encoding": {"gzip"}})
	end := time.Now()
	if err != nil {
		return scrape{}, fmt.Errorf("scrape: %w", err)
	}
	if status != http.StatusOK {
		return scrape{}, fmt.Errorf("scrape: status %d: %s", status, s.wire.Bytes())
	}
	result := scrape{wire: s.wire.Len(), took: end.Sub(begin), end: end}
	if err := s.gzip.Reset(&s.wire); err != nil {
		return scrape{}, fmt.Errorf("scrape: %w", err)
	}
	s.text.Reset()
	if _, err := io.Copy(&s.text, &s.gzip); err != nil {
		return scrape{}, fmt.Errorf("scrape: %w", err)
	}
	result.text = s.text.Bytes()
	return result, nil
}

// series counts the series of a family, or of all of them if it is "".
func (s scrape) series(family string) int {
	count := 0
	for line := range bytes.Lines(s.text) {
		if line[0] != '#' && (family == "" || bytes.HasPrefix(line, []byte(family+"{"))) {
			count++
		}
	}
	return count
}

// sum adds up the values of a family's series.
func (s scrape) sum(family string) (float64, error) {
	sum := 0.0
	for line := range bytes.Lines(s.text) {
		if !bytes.HasPrefix(line, []byte(family+"{")) {
			continue
		}
		fields := strings.Fields(string(line))
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return 0, fmt.Errorf("value of %s: %w", family, err)
		}
		sum += value
	}
	return sum, nil
}

// shows tells whether a revision is known in full: its chart, and that it is deployed.
func (s scrape) shows(name, namespace string, revision int) bool {
	info := fmt.Sprintf(`name=%q,namespace=%q,revision="%d"} 1`, name, namespace, revision)
	status := fmt.Sprintf(`helm_release_status{name=%q,namespace=%q,status="deployed"} 1`, name, namespace)
	return bytes.Contains(s.text, []byte(info)) && bytes.Contains(s.text, []byte(status))
}
