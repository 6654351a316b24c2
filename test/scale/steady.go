//go:build unix

package main

import (
	"context"
	"time"
)

// scraping is how long an exporter is scraped without a pause, which the means are taken over: /proc counts CPU in
// steps of 10 ms.
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

// scrapeRepeatedly measures scrapes.
func (r *running) scrapeRepeatedly(ctx context.Context) (steady, error) {
	last, err := r.scrape(ctx) // what has not been rendered yet is, now
	if err != nil {
		return steady{}, err
	}
	before, err := cpuTime(r.pid())
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
	after, err := cpuTime(r.pid())
	if err != nil {
		return steady{}, err
	}
	s := steady{
		Series: last.series(""), Text: len(last.text), Wire: last.wire,
		Took: took / time.Duration(count), CPU: (after - before) / time.Duration(count),
	}
	fetches, err := last.sum("helm_state_metrics_payload_fetches_total")
	if err != nil {
		return steady{}, err
	}
	s.Fetches = int(fetches)
	s.PeakRSS, err = peakRSS(r.pid())
	return s, err
}
