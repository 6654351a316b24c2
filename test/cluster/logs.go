package main

import (
	"fmt"
	"log"
	"os"
	"runtime/debug"

	"k8s.io/klog/v2"
)

// The names of the log files in the home directory.
const (
	apiServerLog = "apiserver.log"
	etcdLog      = "etcd.log"
)

// redirectLogs sends what Kubernetes logs to the file at path, so that the terminal shows only what matters.
//
// klog, its text logger and the flag library look at os.Stderr each time they write, hence the assignment. A panic is
// written by the runtime to the real standard error, and by SetCrashOutput to the file too.
func redirectLogs(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := debug.SetCrashOutput(file, debug.CrashOptions{}); err != nil {
		return err
	}
	os.Stderr = file
	log.SetOutput(file)
	// A start-up hook that fails ends the whole process from inside klog.
	klog.OsExit = func(code int) {
		fmt.Fprintf(terminal, "cluster: the API server gave up (see %s)\n", path)
		os.Exit(code)
	}
	return nil
}
