//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// upgraded is how many releases share the upgrades.
	upgraded         = 10
	upgradeNamespace = "upgrades"
	// visiblePatience is how long an upgrade may stay unseen before that is a failure.
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

// upgrade runs real Helm against the filled cluster, one upgrade after the other, and looks how soon the exporter
// shows each. Scrapes begin when Helm has exited, so that they do not compete with it for the CPU, and go on back to
// back; a time counts until the end of the first scrape that shows the revision as deployed, chart and all.
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
	result.PeakRSS, err = peakRSS(r.pid())
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

// helm runs Helm with the small chart of the tests. It keeps its files in the run's directory and knows nothing of the
// user's settings. Like the background processes it is out of the terminal's reach; ctx kills it.
func (e *experiment) helm(ctx context.Context, verb, release string, flags ...string) error {
	chart := filepath.Join(e.cfg.root, "test", "charts", "web")
	args := append([]string{verb, release, chart, "--namespace=" + upgradeNamespace}, flags...)
	cmd := exec.CommandContext(ctx, e.cfg.program("helm4"), args...)
	cmd.SysProcAttr = ownGroup()
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "HELM_") {
			cmd.Env = append(cmd.Env, setting)
		}
	}
	home := filepath.Join(e.dir, "helm")
	cmd.Env = append(cmd.Env,
		"KUBECONFIG="+e.kubeconfig(),
		"HELM_CACHE_HOME="+filepath.Join(home, "cache"),
		"HELM_CONFIG_HOME="+filepath.Join(home, "config"),
		"HELM_DATA_HOME="+filepath.Join(home, "data"),
		// Where it remembers what the API server offers.
		"KUBECACHEDIR="+filepath.Join(home, "kube"),
	)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("helm %s %s: %w\n%s", verb, release, err, out)
	}
	return nil
}

// quantile is the smallest of the values that a share of them does not exceed.
func quantile(values []time.Duration, share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	// Rounded up, but not by what is only the error of floating point.
	rank := int(share*float64(len(sorted)) + 0.999999)
	return sorted[max(rank, 1)-1]
}
