//go:build unix

package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// startInterval is how often an exporter that starts is asked whether it is ready. To ask more often would be
// measured too.
const startInterval = 10 * time.Millisecond

// subject is an exporter to start.
type subject struct {
	name    string
	program string
	args    []string
	env     []string // besides our own
	family  string   // its start is over when every release has a series of this family
}

// startup is what one start of an exporter took. Times count from just before its process was made.
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
	*process
	*scraper
	startup
}

func (r *running) stop() {
	r.close()
	r.process.stop()
}

// start runs an exporter until it exposes every release. The caller stops it.
func (e *experiment) start(ctx context.Context, s subject, kubeconfig string) (*running, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	args := slices.Concat(s.args, []string{"--kubeconfig=" + kubeconfig, "--web.listen-address=" + address})
	p, err := launch(s.name, s.program, filepath.Join(e.dir, s.name+".log"), s.env, args...)
	if err != nil {
		return nil, err
	}
	r := &running{process: p, scraper: newScraper(address)}
	if err := r.observe(ctx, s.family, e.cfg.releases, e.say); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// observe waits for each stage of the start.
func (r *running) observe(ctx context.Context, family string, releases int, say func(string, ...any)) (err error) {
	told := r.began
	err = r.await(ctx, startInterval, "it is ready", func() (bool, error) {
		ready, awaits := r.readiness(ctx)
		if time.Since(told) > progressInterval {
			told = time.Now()
			say("      %s is %s", r.name, strings.TrimSpace(awaits))
		}
		if r.List == 0 && !strings.Contains(awaits, initialList) {
			r.List = time.Since(r.began)
		}
		return ready, nil
	})
	if err != nil {
		return err
	}
	r.Ready = time.Since(r.began)
	err = r.await(ctx, startInterval, fmt.Sprintf("%s has %d series", family, releases), func() (bool, error) {
		s, err := r.scrape(ctx)
		r.Complete = s.end.Sub(r.began)
		return s.series(family) == releases, err
	})
	if err != nil {
		return err
	}
	if r.CPU, err = cpuTime(r.pid()); err != nil {
		return err
	}
	r.PeakRSS, err = peakRSS(r.pid())
	return err
}

// startCounted starts an exporter whose way to the API server leads through a relay, does with it what else is to be
// done, and stops it again.
func (e *experiment) startCounted(ctx context.Context, s subject, then ...func(*running) error) (startup, error) {
	through := filepath.Join(e.dir, s.name+".kubeconfig")
	relay, err := openRelay(ctx, e.kubeconfig(), through)
	if err != nil {
		return startup{}, err
	}
	defer relay.close()
	r, err := e.start(ctx, s, through)
	if err != nil {
		return startup{}, err
	}
	defer r.stop()
	r.Received, r.Sent = relay.received.Load(), relay.sent.Load()
	for _, do := range then {
		if err := do(r); err != nil {
			return startup{}, err
		}
	}
	return r.startup, nil
}

// freeAddress is one that nobody listens on right now.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
