package serve

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestErrorLog expects what is wrong with the server to be logged as an error, and not what clients do.
func TestErrorLog(t *testing.T) {
	for line, level := range map[string]string{
		"http: Accept error: accept4: too many open files; retrying in 5ms\n":      "ERROR",
		"http: panic serving 127.0.0.1:1: runtime error\ngoroutine 1 [running]:\n": "ERROR",
		"http: TLS handshake error from 127.0.0.1:1: EOF\n":                        "DEBUG",
	} {
		var out bytes.Buffer
		_, _ = errorLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}.Write([]byte(line))
		if got := out.String(); !strings.Contains(got, "level="+level) || strings.Count(got, "\n") != 1 {
			t.Errorf("%q is logged as %q, want level %s", line, got, level)
		}
	}
}
