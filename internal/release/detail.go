package release

import "time"

// Detail is all that is known of one release, for people who ask about it.
type Detail struct {
	Key
	// Shown is the release as metrics show it, nil if it is not shown.
	Shown *Release
	// Absence is why it is not shown, if it is not.
	Absence Absence
	// Revisions are the stored revisions, the shown one first and then by number, the highest first. Those of a
	// storage that is not shown come last.
	Revisions []*Revision
	// Failure is why the payload of the newest revision, as it is now, has not been read, nil if nothing has
	// gone wrong so far.
	Failure *Failure
}

// Failure is an attempt that failed and will be retried.
type Failure struct {
	At    time.Time
	Error string
}

// Absence is why a release is not shown.
type Absence struct {
	Cause AbsenceCause
	// Err is why the list failed, for ListFailed.
	Err error
	// Storages are where no record was found, for NoRecord.
	Storages []Storage
	// Shard is the shard that has it, for OtherShard.
	Shard int
	// Limit is how many releases of its namespace are shown, for OverLimit.
	Limit int
}

// AbsenceCause is the kind of an Absence.
type AbsenceCause string

// The causes of an absence.
const (
	NoRecord            AbsenceCause = "no record"             // no storage that is watched has a record of it
	NamespaceNotWatched AbsenceCause = "namespace not watched" // its namespace is not among those to watch
	NamespaceDenied     AbsenceCause = "namespace denied"      // its namespace is among those to leave out
	OtherShard          AbsenceCause = "other shard"           // another exporter would show it
	OverLimit           AbsenceCause = "over limit"            // its namespace has too many releases that were created before it
	ListFailed          AbsenceCause = "list failed"           // it is unknown: the records could not be listed
)

// Problem is something that keeps what is shown from being complete and current.
type Problem struct {
	Kind      ProblemKind
	Storage   Storage
	Namespace string // "" means all namespaces
	// Err is why, for NeverListed and WatchDown.
	Err error
	// Dropped is how many releases are not shown, for ReleasesDropped.
	Dropped int
}

// ProblemKind is the kind of a Problem.
type ProblemKind string

// The kinds of problems.
const (
	NeverListed       ProblemKind = "never listed"       // the records have never been listed: releases are missing
	WatchDown         ProblemKind = "watch down"         // the watch is down: what is shown may be stale
	PayloadsForbidden ProblemKind = "payloads forbidden" // payloads may not be read: new charts and versions stay unknown
	ReleasesDropped   ProblemKind = "releases dropped"   // the namespace has more releases than are shown
)
