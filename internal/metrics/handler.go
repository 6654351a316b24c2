package metrics

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// writeSize is how many bytes are written to a connection at once.
const writeSize = 64 << 10

// Handler serves scrapes: the releases of a store, then the telemetry of a gatherer, in one response.
//
// The query parameter name[] selects families by name, and namespace selects the releases of namespaces,
// without the telemetry, which belongs to no namespace. Both may be repeated.
type Handler struct {
	store     *Store
	renderer  *renderer
	telemetry prometheus.Gatherer
	writers   sync.Pool // of *bufio.Writer
}

// NewHandler returns a handler for both.
func NewHandler(store *Store, telemetry prometheus.Gatherer) *Handler {
	return &Handler{
		store: store, renderer: newRenderer(store), telemetry: telemetry,
		writers: sync.Pool{New: func() any { return bufio.NewWriterSize(nil, writeSize) }},
	}
}

// ServeHTTP answers with 503 until the initial lists have been delivered: an empty response would read as the
// end of all releases, and fire or resolve alerts.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil { // without what is invalid, it may ask for everything
		http.Error(w, fmt.Sprintf("invalid query: %v", err), http.StatusBadRequest)
		return
	}
	format := expfmt.NegotiateAccept(req.Header, expfmt.FmtText, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1)
	namespaces, names := query["namespace"], query["name[]"]
	zipped := acceptsGzip(req.Header)
	write, ok := h.prepare(h.choose(names), namespaces, zipped)
	if !ok {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the initial list of releases has not been delivered yet; /readyz says what is pending", http.StatusServiceUnavailable)
		return
	}
	tail, err := h.tail(format, namespaces, names)
	if err != nil {
		http.Error(w, fmt.Sprintf("gather telemetry: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(format))
	w.Header().Set("Vary", "Accept, Accept-Encoding")
	if zipped {
		w.Header().Set("Content-Encoding", "gzip")
	}
	out := h.writers.Get().(*bufio.Writer)
	defer h.writers.Put(out)
	defer out.Reset(nil)
	out.Reset(w)
	if write(out, tail) == nil {
		_ = out.Flush() // it fails if the client has gone away
	}
}

// prepare takes the snapshot for a response and returns what writes it, and false until the initial lists have
// been delivered.
func (h *Handler) prepare(chosen []int, namespaces []string, zipped bool) (write func(w *bufio.Writer, tail []byte) error, ok bool) {
	if zipped && len(namespaces) == 0 {
		e, ok := h.renderer.render()
		return func(w *bufio.Writer, tail []byte) error { return e.writeGzip(w, chosen, tail) }, ok
	}
	releases, ok := h.store.share()
	if len(namespaces) > 0 {
		releases = inNamespaces(releases, namespaces)
	}
	return func(w *bufio.Writer, tail []byte) error {
		if !zipped {
			return writeText(w, h.store.families, chosen, releases, tail)
		}
		// Responses for some namespaces are small and rare, so nothing is kept.
		z, err := gzip.NewWriterLevel(w, gzip.StatelessCompression)
		if err != nil {
			return err
		}
		buffered := bufio.NewWriterSize(z, writeSize)
		err = writeText(buffered, h.store.families, chosen, releases, tail)
		return errors.Join(err, buffered.Flush(), z.Close())
	}, ok
}

// choose returns the families of the given names, all if no name is given.
func (h *Handler) choose(names []string) []int {
	var chosen []int
	for i, f := range h.store.families {
		if len(names) == 0 || slices.Contains(names, f.Name) {
			chosen = append(chosen, i)
		}
	}
	return chosen
}

// duplicate is a family of client_golang's Go collector that OpenMetrics would have twice: a counter of this
// name has the same name, without its suffix _total. go_memstats_heap_alloc_bytes has the same value.
const duplicate = "go_memstats_alloc_bytes"

// tail returns what follows the releases: the telemetry, and the end.
func (h *Handler) tail(format expfmt.Format, namespaces, names []string) ([]byte, error) {
	var b bytes.Buffer
	encoder := expfmt.NewEncoder(&b, format)
	if len(namespaces) == 0 {
		families, err := h.telemetry.Gather()
		if err != nil {
			return nil, err
		}
		for _, f := range families {
			if len(names) > 0 && !slices.Contains(names, f.GetName()) || f.GetName() == duplicate {
				continue
			}
			if err := encoder.Encode(f); err != nil {
				return nil, err
			}
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok {
		if err := closer.Close(); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// acceptsGzip reports whether Accept-Encoding lists gzip, or else an asterisk, with a weight above 0.
func acceptsGzip(header http.Header) bool {
	accepted := false
	for part := range strings.SplitSeq(strings.Join(header.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(part, ";")
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			weight, _ = strconv.ParseFloat(strings.TrimSpace(q), 64) // an invalid weight counts as 0
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "x-gzip":
			return weight > 0
		case "*":
			accepted = weight > 0
		}
	}
	return accepted
}
