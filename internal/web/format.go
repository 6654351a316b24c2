package web

import (
	"fmt"
	"time"
)

// exact writes a time for people who compare it with a log.
func exact(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// ago writes how long ago a time was, in one unit.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return ""
	case d < -time.Minute:
		return "in the future"
	case d < time.Minute: // a little ahead is another machine's clock
		return fmt.Sprintf("%d s ago", max(d, 0)/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d d ago", d/(24*time.Hour))
}

// payloadLimit is how many bytes of data Kubernetes takes in one object.
const payloadLimit = 1 << 20

// size writes a number of bytes.
func size(n int) string {
	switch {
	case n == 0:
		return ""
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}

// isLarge reports whether a payload is near the limit.
func isLarge(n int) bool { return n > payloadLimit*8/10 }
