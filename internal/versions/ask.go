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
	// maxAsked is how many questions are asked at once, and maxAskedOfOne of one repository.
	maxAsked      = 8
	maxAskedOfOne = 4
	// retryMin and retryMax bound the backoff of a question that was not answered.
	retryMin = time.Minute
	retryMax = time.Hour
)

// asking knows which questions have been asked, and which answers came.
type asking struct {
	questions    map[outdated.Question]*question
	wanted       map[outdated.Question]string // with a version that runs
	repositories map[string]*repository
	order        []string                    // of repositories, as the config has them
	kept         map[place]*chartrepo.Answer // of before, which no question has taken yet
	busy         int
	dirty        bool // since the answers were saved
}

// question is one that is asked again and again.
type question struct {
	of         outdated.Question
	repository *repository
	running    string // a version of the chart that runs
	answer     *chartrepo.Answer
	failure    error // of the last time, nil if it was answered
	tried      bool
	busy       bool
	failures   int // since the last success
	due        time.Time
}

// repository is one that is asked.
type repository struct {
	Asker
	cfg     chartrepo.Config
	busy    int
	pause   time.Time // until when it wants no question
	results map[chartrepo.Result]int
	changed bool             // since the start, so that what it said before is to be asked again
	logged  chartrepo.Result // the failure that the log has told of, "" after a success
}

// asked is what came of a question.
type asked struct {
	*question
	reply chartrepo.Reply
}

// RepositoryState is how a repository is.
type RepositoryState struct {
	Name string
	// Last is the oldest of the last successes of all questions to it, zero if it has never answered.
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
	if a.kept == nil {
		a.kept = make(map[place]*chartrepo.Answer)
	}
	a.kept[q.place()] = q.answer
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
			if q.answer = a.kept[q.place()]; q.answer != nil {
				delete(a.kept, q.place())
				q.tried = true
				if !q.repository.changed {
					q.due = q.answer.At.Add(jitter(interval))
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
		if a.busy < maxAsked && q.repository.busy < maxAskedOfOne { // otherwise when a reply comes
			q.busy = true
			a.busy++
			q.repository.busy++
			ask(q)
		}
	}
	return next
}

// replied takes a reply.
func (a *asking) replied(got asked, interval time.Duration, log *slog.Logger) {
	q, r, reply := got.question, got.repository, got.reply
	a.busy--
	r.busy--
	r.results[reply.Result]++
	q.busy, q.tried = false, true
	now := time.Now()
	if reply.RetryAfter > 0 {
		r.pause = now.Add(reply.RetryAfter)
	}
	if q.failure = reply.Err; reply.Answer != nil {
		q.answer, q.failure, q.failures, r.logged, a.dirty = reply.Answer, nil, 0, "", true
		q.due = now.Add(jitter(interval))
		return
	}
	q.due = now.Add(jitter(min(retryMin<<min(q.failures, 6), retryMax, interval)))
	q.failures++
	if r.logged != reply.Result {
		r.logged = reply.Result
		log.Warn("Cannot ask the repository, will retry; what it said before is kept", "repository", q.of.Repository, "chart", q.of.Chart,
			"result", reply.Result, "err", reply.Err)
	}
}

// jitter spreads what would come at the same time.
func jitter(d time.Duration) time.Duration {
	return d*9/10 + time.Duration(rand.Int64N(int64(d)/5+1))
}

// known is what the answers say.
func (a *asking) known(of outdated.Question, chart string) ([]string, outdated.State) {
	q := a.questions[of]
	switch {
	case q == nil || !q.tried:
		return nil, outdated.NotAsked
	case q.answer == nil:
		return nil, outdated.Failed
	}
	return q.answer.Charts[chart], outdated.Answered
}

// pending names the questions that have not been tried.
func (a *asking) pending() []string {
	var names []string
	for of, q := range a.questions {
		if !q.tried {
			names = append(names, strings.TrimSpace("repository "+of.Repository+" "+of.Chart))
		}
	}
	slices.Sort(names)
	return names
}

// answers returns all that is known, for the state file.
func (a *asking) answers() map[place]*chartrepo.Answer {
	all := make(map[place]*chartrepo.Answer)
	for at, answer := range a.kept {
		if time.Since(answer.At) < keepUnused {
			all[at] = answer
		}
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
		first := true
		for of, q := range a.questions {
			if of.Repository != name || !q.tried {
				continue
			}
			if q.failure != nil {
				s.Failure = q.failure
			}
			var last time.Time
			if q.answer != nil {
				last = q.answer.At
				s.Charts += len(q.answer.Charts)
			}
			if first || last.Before(s.Last) {
				s.Last = last
			}
			first = false
		}
		states = append(states, s)
	}
	return states
}
