//go:build unix

package relay

import "syscall"

// setBacklog changes how many connections a listening socket holds that nobody has accepted.
func setBacklog(fd uintptr, n int) error { return syscall.Listen(int(fd), n) }
