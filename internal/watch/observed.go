package watch

import (
	"sync"

	"k8s.io/apimachinery/pkg/watch"
)

// observedWatch passes the events of a watch on and reports each: errors of a
// watch that has begun are events, and so are the bookmarks that tell that it
// lives. It is no watch.Filter because that waits for ever with an event that
// nobody takes once the watch is stopped.
type observedWatch struct {
	watch.Interface
	events  chan watch.Event
	stopped chan struct{}
	stop    sync.Once
}

// observe takes a watch over; what it returns is to be stopped instead.
func observe(w watch.Interface, report func(watch.Event)) watch.Interface {
	o := &observedWatch{Interface: w, events: make(chan watch.Event), stopped: make(chan struct{})}
	go o.pass(report)
	return o
}

func (o *observedWatch) pass(report func(watch.Event)) {
	defer close(o.events)
	for e := range o.Interface.ResultChan() {
		report(e)
		select {
		case o.events <- e:
		case <-o.stopped:
			return
		}
	}
}

// ResultChan implements watch.Interface.
func (o *observedWatch) ResultChan() <-chan watch.Event { return o.events }

// Stop implements watch.Interface.
func (o *observedWatch) Stop() {
	o.stop.Do(func() {
		close(o.stopped)
		o.Interface.Stop()
	})
}
