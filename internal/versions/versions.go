// Package versions follows which chart versions run and which ones repositories have, and shows what is behind: it
// scrapes exporters, asks repositories, and publishes the comparison as metrics and as a page.
package versions

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
)

const (
	// reloadInterval is how often the config file is compared with what was read.
	reloadInterval = 10 * time.Second
	// publishDelay is how long changes are gathered before releases are compared, at least. If that takes long, it is
	// longer: comparing takes a tenth of the time at most.
	publishDelay = 100 * time.Millisecond
	// scrapeTimeout bounds a scrape. One that hangs must leave time for others before the releases go.
	scrapeTimeout = 15 * time.Second
	// retryScrape is when an exporter is scraped again that did not answer: it may be starting.
	retryScrape = 5 * time.Second
	// saveInterval is how often the state file is written at most.
	saveInterval = 10 * time.Second
)

// Asker is a repository.
type Asker interface {
	Ask(ctx context.Context, chart, running string, last *chartrepo.Answer) chartrepo.Reply
}

// Config says what to follow.
type Config struct {
	Exporters []Exporter
	// Client is for the exporters.
	Client *http.Client
	// ScrapeInterval is how often the exporters are scraped, and AskInterval how often a repository is asked.
	ScrapeInterval, AskInterval time.Duration
	// File has repositories and rules.
	File string
	// StateFile keeps answers over restarts; "" for none.
	StateFile string
	// Open returns a repository.
	Open   func(chartrepo.Config) Asker
	Logger *slog.Logger
}

// Tracker follows exporters and repositories while it runs.
type Tracker struct {
	cfg     Config
	log     *slog.Logger
	view    atomic.Pointer[View]
	ready   chan struct{} // closed when everything has been tried once
	reload  chan struct{}
	scrapes chan scraped
	asks    chan asked

	// All that follows belongs to Run.
	text      []byte // that rules were read from
	rules     *outdated.Config
	loaded    time.Time // when rules were
	failure   error     // why the config file could not be read since
	exporters []*exporter
	releases  []outdated.Release // of all exporters
	asking    asking
	logged    map[string]bool // ambiguous charts that the log has named
	changed   bool            // since the last View
	cost      time.Duration   // of the last View
	saved     time.Time
	unsaved   error // why the state file could not be written the last time
}

// exporter is what is known of an Exporter.
type exporter struct {
	Exporter
	name     string
	busy     bool
	tried    bool
	next     time.Time // when to scrape it
	last     time.Time // of the last success
	failure  error     // of the last scrape
	releases []outdated.Release
}

// scraped is what came of a scrape.
type scraped struct {
	*exporter
	got []outdated.Release
	err error
}

// View is what is known at one moment. It is immutable.
type View struct {
	Rows         []outdated.Row
	Clustered    bool // whether releases have a cluster
	Exporters    []ExporterState
	Repositories []RepositoryState
	// Loaded is when the config was read, and Failure why a newer one could not be.
	Loaded  time.Time
	Failure error
	// Pending names what has not been tried yet.
	Pending []string
}

// ExporterState is how an exporter is.
type ExporterState struct {
	Name    string
	Last    time.Time // of the last success
	Failure error     // of the last scrape, nil if it succeeded
}

// New reads the config and the state file. It starts nothing.
func New(cfg Config) (*Tracker, error) {
	t := &Tracker{
		cfg: cfg, log: cfg.Logger, ready: make(chan struct{}), reload: make(chan struct{}, 1), scrapes: make(chan scraped), asks: make(chan asked),
		asking: asking{questions: make(map[outdated.Question]*question)},
	}
	hosts := make(map[string]int)
	for _, e := range cfg.Exporters {
		hosts[e.URL.Host]++
	}
	for _, e := range cfg.Exporters {
		name := e.URL.Host
		if hosts[name] > 1 {
			name += e.URL.Path
		}
		t.exporters = append(t.exporters, &exporter{Exporter: e, name: name})
	}
	if cfg.StateFile != "" {
		var err error
		if t.asking.unused, err = loadState(cfg.StateFile); err != nil {
			t.log.Warn("Cannot use the state file; all repositories are asked anew", "err", err)
		}
	}
	if err := t.load(); err != nil {
		return nil, err
	}
	t.publish()
	return t, nil
}

// load reads the config file if it has changed. With an error the old config stays.
func (t *Tracker) load() error {
	text, err := os.ReadFile(t.cfg.File)
	if err == nil && t.rules != nil && t.failure == nil && bytes.Equal(text, t.text) {
		return nil
	}
	var rules *outdated.Config
	if err == nil {
		rules, err = outdated.ParseConfig(text)
	}
	if t.failure = err; err != nil {
		t.failure = fmt.Errorf("--config=%s: %w", t.cfg.File, err)
		return t.failure
	}
	t.rules, t.text, t.loaded = rules, text, time.Now()
	t.logged = nil
	t.asking.configure(rules.Repositories, t.cfg.Open)
	t.gather()
	return nil
}

// Reload makes Run read the config file at once.
func (t *Tracker) Reload() {
	select {
	case t.reload <- struct{}{}:
	default: // it is about to
	}
}

// Ready is closed when every exporter and every repository has been tried once.
func (t *Tracker) Ready() <-chan struct{} { return t.ready }

// View returns what is known now.
func (t *Tracker) View() *View { return t.view.Load() }

// Run follows everything until the context ends.
func (t *Tracker) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before waiting
	file := time.NewTicker(reloadInterval)
	defer file.Stop()
	due, publish := time.NewTimer(0), time.NewTimer(0)
	publishing := true // soon
	for {
		select {
		case <-ctx.Done():
			t.save()
			return nil
		case s := <-t.scrapes:
			t.scraped(s)
		case a := <-t.asks:
			t.asking.replied(a, t.cfg.AskInterval, t.log)
			t.changed = true
		case <-file.C:
			t.reloaded(false)
		case <-t.reload:
			t.reloaded(true)
		case <-due.C:
		case <-publish.C:
			t.publish()
			publishing = false
		}
		scrape := t.scrapeDue(ctx, &running)
		due.Reset(min(scrape, t.asking.start(func(q *question) { t.ask(ctx, q, &running) })))
		if t.changed && !publishing {
			publishing = true
			publish.Reset(max(publishDelay, 9*t.cost))
		}
	}
}

// ask starts a question.
func (t *Tracker) ask(ctx context.Context, q *question, running *sync.WaitGroup) {
	repository, chart, version, last := q.repository, q.of.Chart, q.running, q.answer
	running.Go(func() {
		a := asked{q, repository.Ask(ctx, chart, version, last)}
		select {
		case t.asks <- a:
		case <-ctx.Done():
		}
	})
}

// reloaded reads the config file.
func (t *Tracker) reloaded(asked bool) {
	before, failure := t.loaded, t.failure
	err := t.load()
	switch {
	case err != nil && (asked || failure == nil || err.Error() != failure.Error()):
		t.log.Error("Cannot load the config, the old one stays", "err", err)
		t.changed = true
	case err == nil && t.loaded != before:
		t.log.Info("Config loaded", "repositories", len(t.rules.Repositories), "rules", len(t.rules.Rules))
	}
}

// scrapeDue drops the releases of exporters that have been away for two intervals, and starts the scrapes that are due. It
// returns when to look again.
func (t *Tracker) scrapeDue(ctx context.Context, running *sync.WaitGroup) time.Duration {
	now := time.Now()
	next := t.cfg.ScrapeInterval
	for _, e := range t.exporters {
		if expiry := e.last.Add(2 * t.cfg.ScrapeInterval); e.failure != nil && e.releases != nil {
			if next = min(next, expiry.Sub(now)); !expiry.After(now) {
				e.releases = nil
				t.gather()
			}
		}
		if e.busy {
			continue
		}
		if e.next.After(now) {
			next = min(next, e.next.Sub(now))
			continue
		}
		e.busy, e.next = true, now.Add(t.cfg.ScrapeInterval)
		running.Go(func() {
			limited, cancel := context.WithTimeout(ctx, min(t.cfg.ScrapeInterval/2, scrapeTimeout))
			defer cancel()
			got, err := e.scrape(limited, t.cfg.Client)
			select {
			case t.scrapes <- scraped{e, got, err}:
			case <-ctx.Done():
			}
		})
	}
	return max(next, 0)
}

func (t *Tracker) scraped(s scraped) {
	if s.err != nil && s.failure == nil {
		t.log.Warn("Cannot scrape the exporter", "exporter", s.name, "err", s.err)
	}
	s.busy, s.tried, s.failure = false, true, s.err
	now := time.Now()
	if s.err != nil {
		s.next = now.Add(min(retryScrape, t.cfg.ScrapeInterval))
	} else {
		s.releases, s.last = s.got, now
	}
	t.gather()
}

// gather takes the releases of all exporters together, and what is to be asked about them. What several exporters
// have, as replicas do, is that of the first that answers.
func (t *Tracker) gather() {
	type key struct{ cluster, namespace, name string }
	seen := make(map[key]bool)
	t.releases, t.changed = nil, true
	for _, e := range slices.SortedStableFunc(slices.Values(t.exporters), func(a, b *exporter) int { return cmp.Compare(number(a.failure != nil), number(b.failure != nil)) }) {
		for _, r := range e.releases {
			if k := (key{r.Cluster, r.Namespace, r.Name}); !seen[k] {
				seen[k] = true
				t.releases = append(t.releases, r)
			}
		}
	}
	t.asking.want(t.rules.Questions(t.releases), t.cfg.AskInterval)
}

// publish compares, and shows what came of it.
func (t *Tracker) publish() {
	start := time.Now()
	view := &View{Clustered: t.clustered(), Rows: t.rules.Compare(t.releases, t.asking.known), Repositories: t.asking.states(), Loaded: t.loaded, Failure: t.failure}
	for _, e := range t.exporters {
		view.Exporters = append(view.Exporters, ExporterState{e.name, e.last, e.failure})
		if !e.tried {
			view.Pending = append(view.Pending, "exporter "+e.name)
		}
	}
	if len(view.Pending) == 0 {
		view.Pending = t.asking.pending()
	}
	logged := make(map[string]bool)
	for i := range view.Rows {
		r := &view.Rows[i]
		if r.Reason != outdated.Ambiguous || logged[r.Chart] {
			continue
		}
		if logged[r.Chart] = true; !t.logged[r.Chart] {
			t.log.Warn("Cannot tell where a chart comes from", "chart", r.Chart, "detail", r.Detail)
		}
	}
	t.logged = logged
	t.view.Store(view)
	t.changed, t.cost = false, time.Since(start)
	if len(view.Pending) == 0 {
		select {
		case <-t.ready:
		default:
			close(t.ready)
		}
	}
	if time.Since(t.saved) > saveInterval {
		t.save()
	}
}

// clustered reports whether an exporter has a cluster.
func (t *Tracker) clustered() bool {
	return slices.ContainsFunc(t.cfg.Exporters, func(e Exporter) bool { return e.Cluster != "" })
}

// save writes the state file if answers have come since it was written. A failure is logged once.
func (t *Tracker) save() {
	if t.cfg.StateFile == "" || !t.asking.dirty {
		return
	}
	t.saved = time.Now()
	err := saveState(t.cfg.StateFile, t.asking.answers())
	if err != nil && t.unsaved == nil {
		t.log.Error("Cannot write the state file; after a restart all repositories are asked", "err", err)
	}
	t.asking.dirty, t.unsaved = err != nil, err
}

// WhyNotReady returns what has not been tried yet, nil if all has.
func (t *Tracker) WhyNotReady() error {
	select {
	case <-t.ready:
		return nil
	default:
	}
	return errors.New("waiting for the first answer of " + strings.Join(t.View().Pending, ", "))
}
