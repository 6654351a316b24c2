package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/prometheus"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/relay"
)

const (
	// startInterval is how often an exporter that starts is asked whether it is ready. The cost of more frequent
	// requests would be measured too.
	startInterval = 10 * time.Millisecond
	// patience limits the time that a start may take.
	patience = 10 * time.Minute
)

// subject is an exporter to start.
type subject struct {
	name    string
	program string
	args    []string
	env     []string // in addition to that of this process
	family  string   // its start is over when every release has a series of this family
	serves  int      // how many releases it exposes
	token   string   // for scrapes, empty for none
}

// startup is what one start of an exporter took. Times begin just before the process is created.
type startup struct {
	List     time.Duration // until the initial list was in
	Ready    time.Duration // until /readyz said ok
	Complete time.Duration // until the end of the first scrape that had every release
	CPU      time.Duration // user and system, until then
	PeakRSS  int64         // until then, in bytes
	Received int64         // bytes from the API server until then, if a relay counted them
	Sent     int64         // bytes to it
}

// running is an exporter that has started.
type running struct {
	*process.Process
	*scraper
	startup
	pages string // the address
}

func (r *running) stop() error {
	r.close()
	return r.Stop()
}

// start runs an exporter until it exposes every release. The caller stops it.
func (e *experiment) start(ctx context.Context, s subject, kubeconfig string) (*running, error) {
	metrics, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	health, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	pages, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	args := slices.Concat(s.args, []string{
		"--kubeconfig=" + kubeconfig, "--web.listen-address=" + metrics, "--health.listen-address=" + health, "--pages.listen-address=" + pages,
	})
	cmd := exec.Command(s.program, args...)
	cmd.Env = append(os.Environ(), s.env...)
	process.Detach(cmd)
	p, err := process.Start(cmd)
	if err != nil {
		return nil, err
	}
	r := &running{Process: p, scraper: newScraper(metrics, health, s.token), pages: pages}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.observe(ctx, s.family, s.serves, e.say); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

// observe waits for each stage of the start.
func (r *running) observe(ctx context.Context, family string, releases int, say func(string, ...any)) (err error) {
	reported := r.Began
	err = r.Await(ctx, startInterval, func() error {
		waiting := r.readiness(ctx)
		if time.Since(reported) > progressInterval {
			reported = time.Now()
			say("      %s: %v", r.Name, waiting)
		}
		if r.List == 0 && !errors.Is(waiting, errInitialList) {
			r.List = time.Since(r.Began)
		}
		return waiting
	})
	if err != nil {
		return err
	}
	r.Ready = time.Since(r.Began)
	err = r.Await(ctx, startInterval, func() error {
		s, err := r.scrape(ctx)
		r.Complete = s.end.Sub(r.Began)
		if count := prometheus.Count(s.text, family); err == nil && count != releases {
			err = fmt.Errorf("%s has %d series, want %d", family, count, releases)
		}
		return err
	})
	if err != nil {
		return err
	}
	if r.CPU, err = cpuTime(r.PID()); err != nil {
		return err
	}
	r.PeakRSS, err = peakRSS(r.PID())
	return err
}

// relay returns a relay to the API server, and the path of a kubeconfig for it.
func (e *experiment) relay(name string) (*relay.Relay, string, error) {
	config, err := clientcmd.LoadFromFile(e.kubeconfig())
	if err != nil {
		return nil, "", err
	}
	server := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
	passing, err := relay.New(strings.TrimPrefix(server.Server, "https://"))
	if err != nil {
		return nil, "", err
	}
	if err := passing.On(); err != nil {
		return nil, "", err
	}
	server.Server = "https://" + passing.Address()
	through := filepath.Join(e.dir, name+".kubeconfig")
	return passing, through, clientcmd.WriteToFile(*config, through)
}

// startCounted starts an exporter behind a relay, calls the given functions, and stops the exporter.
func (e *experiment) startCounted(ctx context.Context, s subject, then ...func(*running) error) (result startup, err error) {
	passing, through, err := e.relay(s.name)
	if err != nil {
		return startup{}, err
	}
	defer passing.Off()
	r, err := e.start(ctx, s, through)
	if err != nil {
		return startup{}, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	r.Received, r.Sent = passing.Received(), passing.Sent()
	for _, do := range then {
		if err := do(r); err != nil {
			return startup{}, err
		}
	}
	return r.startup, nil
}

// scraper scrapes one exporter as Prometheus does: compressed, over one connection. It is for one goroutine.
type scraper struct {
	metrics, health string // addresses
	token           string // empty for none
	client          *http.Client
	wire            bytes.Buffer
	text            bytes.Buffer
	gzip            gzip.Reader
}

// scrape is one answer. Its text is valid until the next scrape.
type scrape struct {
	text []byte
	wire int           // bytes of the body as sent
	took time.Duration // from the request to the last byte of the answer
	end  time.Time
}

func newScraper(metrics, health, token string) *scraper {
	// The client must not decompress the answer, whose size is measured.
	return &scraper{metrics: metrics, health: health, token: token, client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
}

func (s *scraper) close() { s.client.CloseIdleConnections() }

// get reads a page into the buffer wire.
func (s *scraper) get(ctx context.Context, url string, header http.Header) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+url, nil)
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

// readiness asks /readyz, and returns nil or an error that says what the exporter waits for.
func (s *scraper) readiness(ctx context.Context) error {
	status, err := s.get(ctx, s.health+"/readyz", nil)
	switch {
	case err != nil: // The exporter does not listen yet.
		return errors.Join(errInitialList, err)
	case status == http.StatusOK:
		return nil
	case strings.Contains(s.wire.String(), initialList):
		return errInitialList
	default:
		return errors.New(strings.TrimSpace(s.wire.String()))
	}
}

// initialList is in the answer of /readyz until the initial list has been delivered.
const initialList = "waiting for the initial list"

var errInitialList = errors.New(initialList)

// scrape asks for /metrics, compressed, and decompresses the answer after the time has been taken.
func (s *scraper) scrape(ctx context.Context) (scrape, error) {
	begin := time.Now()
	header := http.Header{"Accept-Encoding": {"gzip"}}
	if s.token != "" {
		header.Set("Authorization", "Bearer "+s.token)
	}
	status, err := s.get(ctx, s.metrics+"/metrics", header)
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

// sum adds up the values of a family's series.
func (s scrape) sum(family string) (float64, error) {
	sum := 0.0
	for line := range bytes.Lines(s.text) {
		if !bytes.HasPrefix(line, []byte(family+"{")) && !bytes.HasPrefix(line, []byte(family+" ")) {
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

// shows reports whether a revision is exposed completely: its chart, and that it is deployed.
func (s scrape) shows(name, namespace string, revision int) bool {
	info := fmt.Sprintf(`name=%q,namespace=%q,revision="%d"} 1`, name, namespace, revision)
	status := fmt.Sprintf(`helm_release_status{name=%q,namespace=%q,status="deployed"} 1`, name, namespace)
	return bytes.Contains(s.text, []byte(info)) && bytes.Contains(s.text, []byte(status))
}

// scraping is how long an exporter is scraped without a pause to compute the means. It has to be long because /proc
// counts CPU in steps of 10 ms.
const scraping = 2 * time.Second

// steady is what scrapes cost an exporter while nothing changes.
type steady struct {
	Series  int
	Text    int           // bytes of one scrape
	Wire    int           // bytes of it compressed
	Took    time.Duration // mean
	CPU     time.Duration // mean
	PeakRSS int64         // of the process since its start
	Fetches int           // GETs of payloads since its start
}

func (r *running) scrapeRepeatedly(ctx context.Context) (steady, error) {
	last, err := r.scrape(ctx) // It renders what has not been rendered yet.
	if err != nil {
		return steady{}, err
	}
	before, err := cpuTime(r.PID())
	if err != nil {
		return steady{}, err
	}
	var count int
	var took time.Duration
	for begin := time.Now(); time.Since(begin) < scraping; count++ {
		if last, err = r.scrape(ctx); err != nil {
			return steady{}, err
		}
		took += last.took
	}
	after, err := cpuTime(r.PID())
	if err != nil {
		return steady{}, err
	}
	s := steady{
		Series: prometheus.Count(last.text, ""), Text: len(last.text), Wire: last.wire,
		Took: took / time.Duration(count), CPU: (after - before) / time.Duration(count),
	}
	fetches, err := last.sum("helm_state_metrics_payload_fetches_total")
	if err != nil {
		return steady{}, err
	}
	s.Fetches = int(fetches)
	s.PeakRSS, err = peakRSS(r.PID())
	return s, err
}
