package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

const (
	// upgraded is how many releases share the upgrades.
	upgraded         = 10
	upgradeNamespace = "upgrades"
	// visiblePatience is how long it may take until an upgrade is visible.
	visiblePatience = 30 * time.Second
)

// upgrades is how long it took until finished upgrades were visible.
type upgrades struct {
	Count    int
	Median   time.Duration
	P99      time.Duration
	Max      time.Duration
	AtOnce   int           // how many the very first scrape showed
	Scrape   time.Duration // median of one scrape, which each of these times includes
	PeakRSS  int64         // of the exporter since its start
	HelmTook time.Duration // median of helm upgrade itself
}

// upgrade runs one upgrade by real Helm after the other, and measures how soon the exporter shows each of them. Scrapes
// begin when Helm has exited, so that they do not compete with it for the CPU, and follow each other without a pause.
// The time ends with the first scrape that shows the chart of the revision and that it is deployed.
func (e *experiment) upgrade(ctx context.Context, r *running) (upgrades, error) {
	for i := range min(upgraded, e.cfg.upgrades) {
		if err := e.helm(ctx, "install", upgradeName(i), "--create-namespace"); err != nil {
			return upgrades{}, err
		}
	}
	result := upgrades{Count: e.cfg.upgrades}
	var delays, scrapes, helms []time.Duration
	progress := time.NewTicker(progressInterval)
	defer progress.Stop()
	for i := range e.cfg.upgrades {
		begin := time.Now()
		if err := e.helm(ctx, "upgrade", upgradeName(i%upgraded), fmt.Sprintf("--set=greeting=number-%d", i)); err != nil {
			return upgrades{}, err
		}
		exit := time.Now()
		delay, took, err := r.untilVisible(ctx, exit, upgradeName(i%upgraded), i/upgraded+2)
		if err != nil {
			return upgrades{}, err
		}
		if len(took) == 1 {
			result.AtOnce++
		}
		delays, scrapes, helms = append(delays, delay), append(scrapes, took...), append(helms, exit.Sub(begin))
		select {
		case <-progress.C:
			e.say("      %d of %d upgrades", i+1, e.cfg.upgrades)
		default:
		}
	}
	result.Median, result.P99, result.Max = quantile(delays, 0.5), quantile(delays, 0.99), quantile(delays, 1)
	result.Scrape, result.HelmTook = quantile(scrapes, 0.5), quantile(helms, 0.5)
	var err error
	result.PeakRSS, err = peakRSS(r.PID())
	return result, err
}

// untilVisible returns how long after exit a scrape showed the revision, and how long each scrape took.
func (r *running) untilVisible(ctx context.Context, exit time.Time, name string, revision int) (delay time.Duration, took []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, visiblePatience)
	defer cancel()
	for {
		s, err := r.scrape(ctx)
		if err != nil {
			return 0, nil, fmt.Errorf("wait for revision %d of %s to be visible: %w", revision, name, err)
		}
		took = append(took, s.took)
		if s.shows(name, upgradeNamespace, revision) {
			return s.end.Sub(exit), took, nil
		}
	}
}

func upgradeName(i int) string { return fmt.Sprintf("web-%d", i) }

// helm runs Helm with a small chart and waits for it. ctx kills it, and Ctrl-C does not.
func (e *experiment) helm(ctx context.Context, verb, release string, flags ...string) error {
	args := append([]string{verb, release, process.Chart("web"), "--namespace=" + upgradeNamespace}, flags...)
	cmd := process.Client(ctx, "helm4", filepath.Join(e.dir, "helm"), e.kubeconfig(), args...)
	process.Detach(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("helm %s %s: %w\n%s", verb, release, err, out)
	}
	return nil
}

// quantile returns the smallest value that the given share of all values does not exceed.
func quantile(values []time.Duration, share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	// Rounded up, except for errors of floating point.
	rank := int(share*float64(len(sorted)) + 0.999999)
	return sorted[max(rank, 1)-1]
}
