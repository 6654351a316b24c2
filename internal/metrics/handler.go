package metrics

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// Handler serves scrapes: the releases of a store, then the telemetry of a
// gatherer, in one answer.
type Handler struct {
	store     *Store
	telemetry prometheus.Gatherer
	gzip      sync.Pool // of *gzip.Writer
}

// NewHandler returns a handler over both.
func NewHandler(store *Store, telemetry prometheus.Gatherer) *Handler {
	return &Handler{store: store, telemetry: telemetry}
}

// ServeHTTP answers with 503 until the initial list is in: an empty answer
// would be read as the end of all releases, and fire or resolve alerts.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	releases, ok := h.store.snapshot()
	if !ok {
		http.Error(w, "the initial list of releases is not in yet; /readyz tells what is awaited", http.StatusServiceUnavailable)
		return
	}
	telemetry, err := h.telemetry.Gather()
	if err != nil {
		http.Error(w, fmt.Sprintf("gather telemetry: %v", err), http.StatusInternalServerError)
		return
	}
	format := negotiate(req.Header)
	w.Header().Set("Content-Type", string(format))
	w.Header().Add("Vary", "Accept")
	w.Header().Add("Vary", "Accept-Encoding")
	var out io.Writer = w
	if acceptsGzip(req.Header) {
		w.Header().Set("Content-Encoding", "gzip")
		z, _ := h.gzip.Get().(*gzip.Writer)
		if z == nil {
			z = gzip.NewWriter(nil)
		}
		z.Reset(w)
		defer h.gzip.Put(z)
		defer z.Close()
		out = z
	}
	buffered := bufio.NewWriterSize(out, 64<<10)
	defer buffered.Flush() // a client that went away is not ours to report
	for i := range h.store.families {
		f := &h.store.families[i]
		line := appendHeader(buffered.AvailableBuffer(), f)
		for _, r := range releases {
			line = f.append(line, r)
			if _, err := buffered.Write(line); err != nil {
				return
			}
			line = buffered.AvailableBuffer()
		}
		if _, err := buffered.Write(line); err != nil {
			return
		}
	}
	_ = writeTelemetry(buffered, format, telemetry)
}

// writeTelemetry ends an exposition with the exporter's own families.
func writeTelemetry(w io.Writer, format expfmt.Format, families []*dto.MetricFamily) error {
	encoder := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok {
		return closer.Close()
	}
	return nil
}

// negotiate picks OpenMetrics if the client prefers it to text, else text,
// whatever else it asks for: protobuf is not offered.
func negotiate(header http.Header) expfmt.Format {
	var offered []string
	for part := range strings.SplitSeq(header.Get("Accept"), ",") {
		if !strings.Contains(part, "protobuf") {
			offered = append(offered, part)
		}
	}
	format := expfmt.NegotiateIncludingOpenMetrics(http.Header{"Accept": {strings.Join(offered, ",")}})
	if format.FormatType() == expfmt.TypeOpenMetrics {
		return expfmt.NewFormat(expfmt.TypeOpenMetrics)
	}
	return expfmt.NewFormat(expfmt.TypeTextPlain)
}

// acceptsGzip reports whether gzip is listed with a weight above 0, or
// covered by an asterisk.
func acceptsGzip(header http.Header) bool {
	wildcard := false
	for part := range strings.SplitSeq(strings.Join(header.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(part, ";")
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			weight, _ = strconv.ParseFloat(strings.TrimSpace(q), 64) // what is no number is no wish
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "x-gzip":
			return weight > 0
		case "*":
			wildcard = weight > 0
		}
	}
	return wildcard
}
