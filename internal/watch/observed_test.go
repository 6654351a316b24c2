package watch

import (
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/watch"
)

// TestAnObservedWatchEndsWithAnEventThatNobodyTakes would not end if the
// watch's goroutine did not: a bubble waits for all of its own.
func TestAnObservedWatchEndsWithAnEventThatNobodyTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := watch.NewFakeWithChanSize(1, false)
		o := observe(source, func(watch.Event) {})
		source.Add(nil)
		synctest.Wait()
		o.Stop()
		o.Stop() // as reflectors do
		if _, open := <-o.ResultChan(); open {
			t.Error("an event after the stop")
		}
	})
}
