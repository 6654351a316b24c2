package e2e_test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// require skips a test where something is missing that not every machine has.
// Where the environment variable REQUIRE names it, in a list separated by
// commas, the test fails instead.
func require(t *testing.T, what string, missing error) {
	t.Helper()
	if missing == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), what) {
		t.Fatalf("%s is required, but: %v", what, missing)
	}
	t.Skipf("this needs %s: %v", what, missing)
}
