//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// pollInterval is how often a condition is looked at, unless it is what is measured.
	pollInterval = 50 * time.Millisecond
	// patience bounds the wait for anything that is not making progress of its own.
	patience    = 10 * time.Minute
	stopTimeout = 15 * time.Second
)

// process is a program that runs in the background until it is stopped.
type process struct {
	name  string
	log   string // file with all that it writes
	cmd   *exec.Cmd
	began time.Time     // just before the process was made
	done  chan struct{} // closed when it has ended
}

// launch starts a program, with settings besides our own. It gets a process group of its own, for Ctrl-C reaches the whole foreground group at once
// and what watches the control plane is to end before it.
func launch(name, program, log string, env []string, args ...string) (*process, error) {
	p := &process{name: name, log: log, done: make(chan struct{})}
	output, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.SysProcAttr = ownGroup()
	p.began = time.Now()
	err = p.cmd.Start()
	_ = output.Close() // The process has its own.
	if err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// ownGroup takes a child out of the group that the terminal's Ctrl-C is sent to.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func (p *process) pid() int { return p.cmd.Process.Pid }

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

// wrote tells whether the process has written a line so far.
func (p *process) wrote(line string) bool {
	text, _ := os.ReadFile(p.log)
	return bytes.Contains(append([]byte("\n"), text...), []byte("\n"+line+"\n"))
}

// failure describes a process that has ended by itself, with the last line it wrote as the likely reason.
func (p *process) failure() error {
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s ended (%s): %s", p.name, p.cmd.ProcessState, lines[len(lines)-1])
}

// await looks at ok until it says yes. It gives up when the process ends, ctx is done or it takes unreasonably long.
func (p *process) await(ctx context.Context, every time.Duration, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		yes, err := ok()
		if yes || err != nil {
			return err
		}
		select {
		case <-p.done:
			return p.failure()
		case <-ctx.Done():
			return fmt.Errorf("wait for %s until %s: %w", p.name, what, ctx.Err())
		case <-tick.C:
		}
	}
}
