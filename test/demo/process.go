//go:build unix

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
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 15 * time.Second
)

// process is a program that runs until it is stopped.
type process struct {
	name string
	log  string // file with all that it writes
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// start runs a program of bin/ in the background. It gets a process group of its own, for Ctrl-C reaches the whole
// foreground group at once and the exporter is to end before the control plane that it watches.
func (d *demo) start(name string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(d.dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(d.program(name), args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = ownGroup()
	err = p.cmd.Start()
	_ = log.Close() // The process has its own.
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// ownGroup takes a child out of the group that the terminal's Ctrl-C is sent to.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// stop ends the process and returns when it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// failure describes a process that has ended by itself, with the last line it wrote as the likely reason.
func (p *process) failure() error {
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s ended (%s): %s", p.name, p.cmd.ProcessState, lines[len(lines)-1])
}

// watchOver reports on d.ended when the process ends while the demo goes on.
func (d *demo) watchOver(p *process) {
	go func() {
		<-p.done
		d.ended <- p.failure()
	}()
}

// await polls until ok says yes. It gives up when the process ends, ctx is done or it takes unreasonably long.
func (p *process) await(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-p.done:
			return p.failure()
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", p.name, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// startCluster returns when the control plane is ready.
func (d *demo) startCluster(ctx context.Context) (stop func(), err error) {
	d.begin("starting etcd and a Kubernetes API server (about 5 seconds)")
	begin := time.Now()
	// If the demo is killed outright, the control plane at least notices.
	p, err := d.start("cluster", "--dir", filepath.Join(d.dir, "cluster"), "--with-parent")
	if err != nil {
		return nil, err
	}
	err = p.await(ctx, func() bool {
		text, _ := os.ReadFile(p.log)
		return bytes.HasPrefix(text, []byte("ready\n"))
	})
	if err != nil {
		p.stop()
		return nil, err
	}
	d.watchOver(p)
	d.say("      ready after %s", since(begin))
	return p.stop, nil
}

// startExporter returns when the exporter has read every release.
func (d *demo) startExporter(ctx context.Context) (stop func(), err error) {
	d.begin("starting helm-state-metrics on %s", d.address)
	begin := time.Now()
	p, err := d.start("helm-state-metrics", "--kubeconfig="+d.kubeconfig(), "--web.listen-address="+d.address)
	if err != nil {
		return nil, err
	}
	if err := p.await(ctx, func() bool { return answers(ctx, "http://"+d.address+"/readyz") }); err != nil {
		p.stop()
		return nil, err
	}
	d.watchOver(p)
	d.say("      ready after %s", since(begin))
	return p.stop, nil
}

// answers tells whether a GET of url ends with status 200.
func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close()) == nil && resp.StatusCode == http.StatusOK
}
