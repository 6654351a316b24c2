package release

import "time"

// Detail is all that is known of one release, for people who ask about it.
type Detail struct {
	Key
	// Shown is the release as metrics show it, nil if it is not shown.
	Shown *Release
	// Absence says why it is not shown, if it is not.
	Absence string
	// Revisions are the stored revisions, the shown one first and then by
	// number, the highest first. Those of a storage that loses come last.
	Revisions []*Revision
	// Failure is why the payload of the newest revision, as it is now, has not
	// been read, nil if nothing has gone wrong so far.
	Failure *Failure
}

// Failure is an attempt that failed and is made again.
type Failure struct {
	At    time.Time
	Error string
}
