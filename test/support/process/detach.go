//go:build unix

package process

import (
	"os/exec"
	"syscall"
)

// Detach puts a command into a process group of its own. Ctrl-C reaches the whole foreground group at once; a detached
// process is stopped by the program that started it, in the right order.
func Detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
