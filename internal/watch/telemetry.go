package watch

import (
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// Sink is told what the releases are. Calls come one at a time, in the order
// in which things happened, and must not block.
type Sink interface {
	// Set says that a release is now so. The value is shared and immutable.
	Set(r *release.Release)
	// Remove says that a release is gone.
	Remove(key release.Key)
	// Synced says, once, that every initial list has been delivered.
	Synced()
}

// Telemetry is told what the watcher does. Its methods are called from many
// goroutines and must not block.
type Telemetry interface {
	// WatchEvent counts an event; its type is one of EventTypes.
	WatchEvent(storage release.Storage, eventType string)
	// WatchAlive says whether the watch of a storage in a namespace ("" is
	// all of them) stands.
	WatchAlive(storage release.Storage, namespace string, alive bool)
	// WatchHeard says that a watch was begun, or that an event of it came:
	// servers send a bookmark every minute or two if nothing else.
	WatchHeard(storage release.Storage, namespace string)
	// WatchFailed counts a failed LIST or WATCH; the reason is one of
	// ErrorReasons.
	WatchFailed(storage release.Storage, reason string)
	// RecordFlawed counts a record seen with one of Flaws.
	RecordFlawed(flaw string)
	// PayloadFetched counts a GET; the result is one of FetchResults. The
	// size is that of the payload in bytes, as stored.
	PayloadFetched(result string, bytes int, took time.Duration)
	// PayloadDecoded counts a decoding; the reason is one of DecodeReasons,
	// or "" if it went well.
	PayloadDecoded(reason string, took time.Duration)
}

// The types of watch events.
const (
	eventAdd    = "add"
	eventUpdate = "update"
	eventDelete = "delete"
)

// EventTypes returns every type that Telemetry.WatchEvent may see.
func EventTypes() []string { return []string{eventAdd, eventUpdate, eventDelete} }

// The results of a GET.
const (
	fetchOK        = "ok"
	fetchNotFound  = "not_found" // gone meanwhile, or replaced by another record
	fetchForbidden = "forbidden"
	fetchError     = "error"
)

// FetchResults returns every result that Telemetry.PayloadFetched may see.
func FetchResults() []string {
	return []string{fetchOK, fetchNotFound, fetchForbidden, fetchError}
}

// reasonNoPayload joins the reasons of package decode: the record has no
// payload key at all.
const reasonNoPayload = "no_payload"

// DecodeReasons returns every reason that Telemetry.PayloadDecoded may see.
func DecodeReasons() []string { return append(decode.Reasons(), reasonNoPayload) }
