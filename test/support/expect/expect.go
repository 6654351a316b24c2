// Package expect checks results in tests with one line each.
package expect

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// NoError fails the test at once if there is an error.
func NoError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Value returns the first of two results. If the second one is an error it fails the test at once. It is used as in
//
//	text := expect.Value(os.ReadFile(path))(t)
func Value[T any](value T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		NoError(t, err)
		return value
	}
}

// Equal fails the test if two values differ, and lets it go on. The message says what differs.
func Equal(t testing.TB, message string, want, got any, options ...cmp.Option) {
	t.Helper()
	if err := Same(message, want, got, options...); err != nil {
		t.Error(err)
	}
}

// Same returns an error with the differences between two values, if there are any. The message says what differs.
func Same(message string, want, got any, options ...cmp.Option) error {
	if diff := cmp.Diff(want, got, options...); diff != "" {
		return fmt.Errorf("%s (-want +got):\n%s", message, diff)
	}
	return nil
}
