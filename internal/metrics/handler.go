package metrics

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

const (
	// maxScrapes is how many scrapes are answered at once. Each may hold its
	// own snapshot for as long as its client takes to read it.
	maxScrapes = 16
	// chunk is how much is written to a connection at once.
	chunk = 64 << 10
)

// Handler serves scrapes: the releases of a store, then the telemetry of a
// gatherer, in one answer.
//
// The query parameter name[] limits the answer to families of these names, and
// namespace to releases of these namespaces, without the telemetry, which is
// nobody's in particular. Both may be repeated.
type Handler struct {
	store     *Store
	telemetry prometheus.Gatherer
	scrapes   chan struct{} // one for each that is being answered
	chunks    sync.Pool     // of *bufio.Writer
}

// NewHandler returns a handler over both.
func NewHandler(store *Store, telemetry prometheus.Gatherer) *Handler {
	return &Handler{
		store: store, telemetry: telemetry,
		scrapes: make(chan struct{}, maxScrapes),
		chunks:  sync.Pool{New: func() any { return bufio.NewWriterSize(nil, chunk) }},
	}
}

// ServeHTTP answers with 503 until the initial list is in: an empty answer
// would be read as the end of all releases, and fire or resolve alerts.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case h.scrapes <- struct{}{}:
		defer func() { <-h.scrapes }()
	default:
		refuse(w, fmt.Sprintf("%d scrapes are being answered already; scrape less often, or from fewer places", maxScrapes))
		return
	}
	query := req.URL.Query()
	format := negotiate(req.Header)
	namespaces, names := query["namespace"], query["name[]"]
	zipped := acceptsGzip(req.Header)
	write, ok := h.prepare(h.choose(names), namespaces, zipped)
	if !ok {
		refuse(w, "the initial list of releases is not in yet; /readyz tells what is awaited")
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
	out := h.chunks.Get().(*bufio.Writer)
	defer h.chunks.Put(out)
	defer out.Reset(nil)
	out.Reset(w)
	if write(out, tail) == nil {
		_ = out.Flush() // a client that went away is not ours to report
	}
}

// prepare takes the snapshot of an answer and returns what writes it, and
// false if the initial list has not been delivered.
func (h *Handler) prepare(chosen []int, namespaces []string, zipped bool) (write func(w io.Writer, tail []byte) error, ok bool) {
	if zipped && len(namespaces) == 0 {
		e, ok := h.store.expose()
		return func(w io.Writer, tail []byte) error { return e.writeGzip(w, chosen, tail) }, ok
	}
	releases, ok := h.store.share()
	return func(w io.Writer, tail []byte) error {
		if !zipped {
			return writeText(w, h.store.families, chosen, releases, namespaces, tail)
		}
		// Answers for some namespaces are small and rare, and deflated anew.
		z, err := gzip.NewWriterLevel(w, gzip.StatelessCompression)
		if err != nil {
			return err
		}
		buffered := bufio.NewWriterSize(z, chunk)
		if err := writeText(buffered, h.store.families, chosen, releases, namespaces, tail); err != nil {
			return err
		}
		if err := buffered.Flush(); err != nil {
			return err
		}
		return z.Close()
	}, ok
}

// choose returns the families of the given names, all if there is none.
func (h *Handler) choose(names []string) []int {
	var chosen []int
	for i, f := range h.store.families {
		if len(names) == 0 || slices.Contains(names, f.Name) {
			chosen = append(chosen, i)
		}
	}
	return chosen
}

// twice is a family of client_golang's Go collector that would be there twice
// in OpenMetrics, where a counter of this name and the suffix _total has the
// same name. go_memstats_heap_alloc_bytes tells the same.
const twice = "go_memstats_alloc_bytes"

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
			if len(names) > 0 && !slices.Contains(names, f.GetName()) || f.GetName() == twice {
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

func refuse(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, why, http.StatusServiceUnavailable)
}
