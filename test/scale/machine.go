//go:build unix

package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine is where figures were taken.
type machine struct {
	Date   string `json:"date"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

func describeMachine() (machine, error) {
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return machine{}, err
	}
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return machine{}, err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return machine{}, err
	}
	m := machine{
		Date: time.Now().UTC().Format(time.DateOnly), Cores: runtime.NumCPU(),
		Kernel: runtime.GOOS + " " + strings.TrimSpace(string(kernel)),
		Go:     runtime.Version() + " " + runtime.GOARCH,
	}
	m.CPU, _ = field(string(cpu), "model name") // which not every architecture has
	if m.CPU == "" {
		m.CPU = "CPU"
	}
	total, _ := field(string(memory), "MemTotal")
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
