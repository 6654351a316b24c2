// Package process starts the programs that tests run, waits until they are ready, and stops them.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// StopTimeout is how long Stop waits for a process to end before it kills it.
const StopTimeout = 30 * time.Second

// Process is a program that runs in the background. Its methods are safe for concurrent use.
type Process struct {
	Name  string    // of the program, for error messages
	Began time.Time // just before the process was created

	cmd    *exec.Cmd
	output output
	done   chan struct{} // closed when the process has ended
}

// Start starts a command and collects what it writes to standard output and standard error. The caller stops it.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Name: filepath.Base(cmd.Path), cmd: cmd, done: make(chan struct{})}
	p.output.changed = make(chan struct{})
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	p.Began = time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	go func() {
		_ = cmd.Wait() // Stop and Failure report the exit status.
		close(p.done)
	}()
	return p, nil
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns everything the process has written so far.
func (p *Process) Output() string {
	text, _ := p.output.snapshot()
	return string(text)
}

// Done returns a channel that is closed when the process has ended and all its output is collected.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ExitCode waits for the process to end and returns its exit status, or -1 if a signal ended it.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the process. A process that has already ended is not an error.
func (p *Process) Signal(signal os.Signal) { _ = p.cmd.Process.Signal(signal) }

// Kill kills the process and returns when it has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop sends SIGTERM and returns when the process has ended. It returns an error if the process had to be killed after
// StopTimeout, or if its exit status is not 0. A process that had ended before is not an error.
func (p *Process) Stop() error {
	if p.Ended() {
		return nil
	}
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(StopTimeout):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.Name, StopTimeout)
	}
	if p.ExitCode() != 0 {
		return fmt.Errorf("%s ended with %s on SIGTERM, want exit status 0", p.Name, p.cmd.ProcessState)
	}
	return nil
}

// Failure describes a process that has ended by itself. The last line of its output is the likely reason.
func (p *Process) Failure() error {
	<-p.done
	lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
	return fmt.Errorf("%s ended (%s): %s", p.Name, p.cmd.ProcessState, lines[len(lines)-1])
}

// Await calls check every interval until it returns nil. It returns an error when the process ends or ctx is done.
func (p *Process) Await(ctx context.Context, interval time.Duration, check func() error) error {
	ctx, cancel := p.withLifetime(ctx)
	defer cancel()
	return p.explain(ctx, Until(ctx, interval, check))
}

// AwaitLine waits until the output contains a complete line that matches, and returns the match and its groups. It
// returns an error when the process ends or ctx is done.
func (p *Process) AwaitLine(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	ctx, cancel := p.withLifetime(ctx)
	defer cancel()
	for {
		text, changed := p.output.snapshot()
		for line := range strings.Lines(string(text)) {
			// A line without an end is not complete.
			if match := pattern.FindStringSubmatch(line); match != nil && strings.HasSuffix(line, "\n") {
				return match, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, p.explain(ctx, fmt.Errorf("no line of %s matches %s: %w", p.Name, pattern, ctx.Err()))
		}
	}
}

var errEnded = errors.New("the process has ended")

// withLifetime returns a context that is also done when the process ends.
func (p *Process) withLifetime(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		select {
		case <-p.done:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// explain replaces the error of a wait by the failure of the process if that is what ended the wait.
func (p *Process) explain(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errEnded) {
		return p.Failure()
	}
	return err
}

// output collects what a process writes.
type output struct {
	mu      sync.Mutex
	text    []byte        // guarded by mu; only ever appended to
	changed chan struct{} // guarded by mu; closed at the next write
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

// snapshot returns the text so far, and a channel that is closed when there is more.
func (o *output) snapshot() ([]byte, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text[:len(o.text):len(o.text)], o.changed
}
