package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

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
	*process.Process
	*scraper
	startup
}

func (r *running) stop() error {
	r.close()
	return r.Stop()
}

// start runs an exporter until it exposes every release. The caller stops it.
func (e *experiment) start(ctx context.Context, s subject, kubeconfig string) (*running, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	args := slices.Concat(s.args, []string{"--kubeconfig=" + kubeconfig, "--web.listen-address=" + address})
	cmd := exec.Command(s.program, args...)
	cmd.Env = append(os.Environ(), s.env...)
	process.Detach(cmd)
	p, err := process.Start(cmd)
	if err != nil {
		return nil, err
	}
	r := &running{Process: p, scraper: newScraper(address)}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.observe(ctx, s.family, e.cfg.releases, e.say); err != nil {
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

// startCounted starts an exporter that reaches the API server through a relay, calls the given functions, and stops the
// exporter.
func (e *experiment) startCounted(ctx context.Context, s subject, then ...func(*running) error) (result startup, err error) {
	config, err := clientcmd.LoadFromFile(e.kubeconfig())
	if err != nil {
		return startup{}, err
	}
	server := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
	passing, err := relay.New(strings.TrimPrefix(server.Server, "https://"))
	if err != nil {
		return startup{}, err
	}
	if err := passing.On(); err != nil {
		return startup{}, err
	}
	defer passing.Off()
	server.Server = "https://" + passing.Address()
	through := filepath.Join(e.dir, s.name+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, through); err != nil {
		return startup{}, err
	}
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
