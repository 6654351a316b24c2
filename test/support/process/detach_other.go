//go:build !unix

package process

import "os/exec"

// Detach does nothing here: process groups belong to Unix.
func Detach(*exec.Cmd) {}
