//go:build unix

package main

import "fmt"

// unit says what the numbers of a row count.
type unit string

const (
	inBytes   unit = "bytes"
	inSeconds unit = "seconds"
	inTimes   unit = "times"
	inNumbers unit = ""
)

// format writes a number for people, with three digits or so.
func (u unit) format(v float64) string {
	switch u {
	case inBytes:
		return scaled(v, 1000, "B", "kB", "MB", "GB")
	case inSeconds:
		if v == 0 {
			return "0 s"
		}
		return scaled(v*1e9, 1000, "ns", "µs", "ms", "s")
	case inTimes:
		return fmt.Sprintf("%.0f×", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// scaled picks the first unit that leaves less than its size, or the last one.
func scaled(v, size float64, units ...string) string {
	for len(units) > 1 && v >= size {
		v /= size
		units = units[1:]
	}
	digits := 0
	if v < 10 && v != float64(int(v)) {
		digits = 2
	} else if v < 100 && v != float64(int(v)) {
		digits = 1
	}
	return fmt.Sprintf("%.*f %s", digits, v, units[0])
}
