package versions

import (
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
)

const (
	// keepUnused is how long an answer is kept that nobody needs.
	keepUnused = 7 * 24 * time.Hour
	// maxAsked is how many questions are asked of one repository at once.
	maxAsked = 4
	// fileInterval is how often an index on disk is asked for: if it has not changed that costs nothing.
	fileInterval = time.Minute
	// retryMin and retryMax bound the backoff of a question that was not answered, and of a repository that failed.
	retryMin = time.Minute
	retryMax = time.Hour
)

// asking knows which questions have been asked, and which answers came.
type asking struct {
	questions    map[outdated.Question]*question
	wanted       map[outdated.Question]string // with a version that runs
	repositories map[string]*repository
	order        []string                    // of repositories, as the config has them
	unused       map[place]*chartrepo.Answer // of before, which no question has taken yet
	dirty        bool                        // since the answers were saved
}

// question is one that is asked again and again.
type question struct {
	of         outdated.Question
	repository *repository
	running    string // a version of the chart that runs
	answer     *chartrepo.Answer
	result     chartrepo.Result // of the last time
	failure    error            // of the last time, nil if it was answered
	tried      bool             // since the start, or shortly before it
	busy       bool
	failures   int // since the last success
	due        time.Time
}

// repository is one that is asked.
type repository struct {
	Asker
	cfg      chartrepo.Config
	busy     int
	pause    time.Time // until when it is left alone
	failures int       // that all of its charts share, since the last success
	results  map[chartrepo.Result]int
	changed  bool             // since the start, so that what it said before is to be asked again
	logged   chartrepo.Result // the last of these failures
}

// asked is what came of a question.
type asked struct {
	*question
	reply chartrepo.Reply
}

// RepositoryState is how a repository is.
type RepositoryState struct {
	Name string
	// Last is the oldest of the last successes of its charts, zero if it has never answered.
	Last time.Time
	// Charts is how many charts it has.
	Charts  int
	Results map[chartrepo.Result]int
	Failure error // of one of its questions that was not answered the last time, nil if there is none
}

// configure takes over repositories. Answers of those that stay are kept.
func (a *asking) configure(repositories []chartrepo.Config, open func(chartrepo.Config) Asker) {
	before := a.repositories
	a.repositories, a.order = make(map[string]*repository), nil
	for _, cfg := range repositories {
		r := before[cfg.Name]
		if r == nil || r.cfg != cfg {
			results := make(map[chartrepo.Result]int)
			if r != nil {
				results = r.results // counters never fall
			}
			r = &repository{Asker: open(cfg), cfg: cfg, results: results, changed: before != nil}
		}
		a.repositories[cfg.Name] = r
		a.order = append(a.order, cfg.Name)
	}
	for of, q := range a.questions {
		if a.repositories[of.Repository] != q.repository {
			a.drop(of)
		}
	}
}

// drop forgets a question, and keeps its answer for another one.
func (a *asking) drop(of outdated.Question) {
	q := a.questions[of]
	delete(a.questions, of)
	if q.answer == nil {
		return
	}
	if a.unused == nil {
		a.unused = make(map[place]*chartrepo.Answer)
	}
	a.unused[q.place()] = q.answer
}

func (q *question) place() place { return placeOf(q.repository.cfg.URL, q.of.Chart) }

// want says which questions are to be asked from now on, in place of others.
func (a *asking) want(questions map[outdated.Question]string, interval time.Duration) {
	a.wanted = questions
	for of, running := range questions {
		q := a.questions[of]
		if q == nil {
			q = &question{of: of, repository: a.repositories[of.Repository]}
			a.questions[of] = q
			if q.answer = a.unused[q.place()]; q.answer != nil {
				delete(a.unused, q.place())
				if !q.repository.changed {
					q.due = q.answer.At.Add(jitter(q.repository.interval(interval)))
					q.tried = q.due.After(time.Now())
				}
			}
		}
		q.running = running
	}
}

// start asks the questions that are due, those first that have waited longest, and returns when the next one is due.
func (a *asking) start(ask func(*question)) time.Duration {
	now := time.Now()
	next := time.Hour
	var due []*question
	for of, q := range a.questions {
		at := q.due
		if q.repository.pause.After(at) {
			at = q.repository.pause
		}
		_, wanted := a.wanted[of]
		switch {
		case q.busy:
		case at.After(now):
			next = min(next, at.Sub(now))
		case !wanted: // the chart does not run any more
			delete(a.questions, of)
			a.dirty = true
		default:
			due = append(due, q)
		}
	}
	slices.SortFunc(due, func(x, y *question) int { return x.due.Compare(y.due) })
	for _, q := range due {
		if q.repository.busy < maxAsked { // otherwise when a reply comes
			q.busy = true
			q.repository.busy++
			ask(q)
		}
	}
	return next
}

// replied takes a reply.
func (a *asking) replied(got asked, interval time.Duration, log *slog.Logger) {
	q, r, reply := got.question, got.repository, got.reply
	r.busy--
	r.results[reply.Result]++
	now := time.Now()
	q.busy, q.tried = false, true
	before := q.result
	q.result, q.failure = reply.Result, reply.Err
	if reply.Answer != nil {
		q.answer, q.failures, a.dirty = reply.Answer, 0, true
		r.failures, r.logged = 0, ""
		q.due = now.Add(jitter(r.interval(interval)))
		return
	}
	q.due = now.Add(backoff(q.failures, interval))
	q.failures++
	isNew := before != reply.Result
	if isOfAll(reply.Result) {
		// Its other charts would get the same. Those that were asked at the same time count once.
		if !r.pause.After(now) {
			r.pause = now.Add(backoff(r.failures, interval))
			r.failures++
		}
		if until := now.Add(reply.RetryAfter); until.After(r.pause) {
			r.pause = until
		}
		isNew = r.logged != reply.Result
		r.logged = reply.Result
	}
	if isNew {
		log := log.With("repository", q.of.Repository, "result", reply.Result, "err", reply.Err)
		if q.of.Chart != "" {
			log = log.With("chart", q.of.Chart)
		}
		if q.answer != nil {
			log = log.With("last_answer", q.answer.At)
		}
		log.Warn("Cannot ask the repository")
	}
}

// isOfAll reports whether a failure is the repository's, not that of one chart.
func isOfAll(result chartrepo.Result) bool {
	return result == chartrepo.Failed || result == chartrepo.Unauthorized || result == chartrepo.RateLimited
}

// backoff returns how long to wait after some failures and one more.
func backoff(failures int, interval time.Duration) time.Duration {
	return jitter(min(retryMin<<min(failures, 6), retryMax, interval))
}

// interval returns how often a repository is asked.
func (r *repository) interval(usual time.Duration) time.Duration {
	if strings.HasPrefix(r.cfg.URL, "file:") {
		return min(usual, fileInterval)
	}
	return usual
}

// jitter spreads what would come at the same time.
func jitter(d time.Duration) time.Duration {
	return d*9/10 + time.Duration(rand.Int64N(int64(d)/5+1))
}

// known is what the answers say.
func (a *asking) known(of outdated.Question, chart string) ([]string, outdated.State) {
	q := a.questions[of]
	switch {
	case q == nil:
		return nil, outdated.NotAsked
	case q.answer != nil:
		return q.answer.Charts[chart], outdated.Answered
	case q.isPending():
		return nil, outdated.NotAsked
	}
	return nil, outdated.Failed
}

// isPending reports whether a question has not been tried, and is not left out because its repository fails.
func (q *question) isPending() bool { return !q.tried && !q.repository.pause.After(time.Now()) }

// pending names the questions that have not been tried.
func (a *asking) pending() []string {
	var names []string
	for of, q := range a.questions {
		if q.isPending() {
			names = append(names, strings.TrimSpace("repository "+of.Repository+" "+of.Chart))
		}
	}
	slices.Sort(names)
	return names
}

// answers returns all that is known, for the state file.
func (a *asking) answers() map[place]*chartrepo.Answer {
	maps.DeleteFunc(a.unused, func(_ place, answer *chartrepo.Answer) bool { return time.Since(answer.At) > keepUnused })
	all := maps.Clone(a.unused)
	if all == nil {
		all = make(map[place]*chartrepo.Answer)
	}
	for _, q := range a.questions {
		if q.answer != nil {
			all[q.place()] = q.answer
		}
	}
	return all
}

// states returns how the repositories are, in the order of the config.
func (a *asking) states() []RepositoryState {
	var states []RepositoryState
	for _, name := range a.order {
		r := a.repositories[name]
		s := RepositoryState{Name: name, Results: maps.Clone(r.results)}
		for of, q := range a.questions {
			if of.Repository != name {
				continue
			}
			if q.failure != nil {
				s.Failure = q.failure
			}
			if q.answer == nil {
				continue
			}
			s.Charts += len(q.answer.Charts)
			if s.Last.IsZero() || q.answer.At.Before(s.Last) {
				s.Last = q.answer.At
			}
		}
		states = append(states, s)
	}
	return states
}
