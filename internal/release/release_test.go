package release_test

import (
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

func TestParseUID(t *testing.T) {
	const canonical = "01234567-89ab-cdef-0123-456789abcdef"
	uid := release.ParseUID(canonical)
	if want := (release.UID{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}); uid != want {
		t.Errorf("got %x, want %x", uid, want)
	}
	seen := map[release.UID]string{}
	for _, s := range []string{canonical, "", "uid-1", "uid-2", "01234567-89ab-cdef-0123-456789abcdeg", "0123456789abcdef0123456789abcdef", canonical + "0"} {
		if other, twice := seen[release.ParseUID(s)]; twice {
			t.Errorf("%q and %q are the same UID", s, other)
		}
		seen[release.ParseUID(s)] = s
	}
}

func TestObject(t *testing.T) {
	for want, r := range map[string]release.Revision{
		"sh.helm.release.v1.my.app.v12": {Number: 12},
		"by-hand":                       {Number: 12, OtherObject: "by-hand"},
	} {
		if got := r.Object("my.app"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTime(t *testing.T) {
	if got := release.TimeOf(time.Time{}); got != 0 || !got.Time().IsZero() {
		t.Errorf("the zero time is %v, and %v again", got, got.Time())
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if got := release.TimeOf(at.In(time.FixedZone("", 1800))).Time(); got != at {
		t.Errorf("got %v, want %v", got, at)
	}
}
