package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine describes where the figures were measured.
type machine struct {
	Date   string `json:"date"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

func describeMachine() (machine, error) {
	var text [3]string
	for i, path := range []string{"/proc/cpuinfo", "/proc/meminfo", "/proc/sys/kernel/osrelease"} {
		content, err := os.ReadFile(path)
		if err != nil {
			return machine{}, err
		}
		text[i] = string(content)
	}
	cpu, memory, kernel := text[0], text[1], text[2]
	m := machine{
		Date: time.Now().UTC().Format(time.DateOnly), Cores: runtime.NumCPU(),
		Kernel: runtime.GOOS + " " + strings.TrimSpace(kernel),
		Go:     runtime.Version() + " " + runtime.GOARCH,
	}
	m.CPU, _ = field(cpu, "model name") // Some architectures do not have it.
	if m.CPU == "" {
		m.CPU = "CPU"
	}
	total, _ := field(memory, "MemTotal")
	kib, err := strconv.ParseInt(strings.TrimSuffix(total, " kB"), 10, 64)
	if err != nil {
		return machine{}, fmt.Errorf("/proc/meminfo: %w", err)
	}
	m.Memory = fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
	return m, nil
}

func (m machine) String() string {
	return fmt.Sprintf("%d × %s, %s, %s, %s", m.Cores, m.CPU, m.Memory, m.Kernel, m.Go)
}

// tick is the unit of the times in /proc/PID/stat: USER_HZ, which is 100 on every architecture that Go supports.
const tick = 10 * time.Millisecond

// cpuTime returns the CPU time that a process has used so far, in user and in system mode.
func cpuTime(pid int) (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The program's name comes second, in parentheses, and may contain anything. utime and stime are fields 14 and 15.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s has only %d fields", path, len(fields))
	}
	var total time.Duration
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		total += time.Duration(n) * tick
	}
	return total, nil
}

// peakRSS returns the largest resident set of a process so far, in bytes.
func peakRSS(pid int) (int64, error) { return memory(pid, "VmHWM") }

// resetPeak makes peakRSS begin again.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// memory returns a size that /proc says about a process, in bytes.
func memory(pid int, name string) (int64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	value, ok := field(string(text), name)
	if !ok {
		return 0, fmt.Errorf("%s has no %s", path, name)
	}
	kib, err := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return kib << 10, nil
}

// field finds "name : value" in a file of /proc.
func field(text, name string) (string, bool) {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
