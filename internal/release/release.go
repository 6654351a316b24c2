// Package release holds the domain: what a Helm release is, as plain values
// that every other room shares.
package release

import (
	"cmp"
	"strings"
	"time"
)

// Key identifies a release: the namespace its records are stored in, and its
// name.
type Key struct {
	Namespace string
	Name      string
}

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Storage is the kind of object that Helm keeps records in.
type Storage string

// The storages that the Kubernetes API serves. Each is the name of its
// resource.
const (
	Secrets    Storage = "secrets"
	ConfigMaps Storage = "configmaps"
)

// Release is what is known of one release at one moment. A Release is never
// changed once it is published: each change makes a new one, and all readers
// share it by pointer.
type Release struct {
	Key
	// Newest is the revision with the highest number: the one that is shown.
	// It is shared and immutable too.
	Newest *Revision
	// Deployed is the number of the newest revision whose status is deployed,
	// 0 if there is none.
	Deployed int
	// Tracked counts the revisions tracked in Newest's storage: every stored
	// one if superseded revisions are tracked too, else the others only.
	Tracked int
	// Shadowed counts the tracked revisions that are not shown because the
	// same release has records in a storage that wins.
	Shadowed int
	// Payload is what the newest revision's payload told, nil until it has
	// been read.
	Payload *Payload
}

// Revision is one stored record of a release, as its metadata tells.
type Revision struct {
	// UID identifies the record. Uninstall and install make revision 1 again
	// under another UID.
	UID string
	// Number is the revision's number, at least 1.
	Number int
	Status Status
	// Storage and Object (the record's object name) say where the record is.
	Storage Storage
	Object  string
	// ResourceVersion is the record's version as last seen.
	ResourceVersion string
	// Created is when the record was created: when the operation began.
	Created time.Time
	// Modified is the last write to the record by anyone, zero if unknown.
	Modified time.Time
	// Labels are the record's own labels, only for the keys asked for.
	Labels map[string]string
}

// Payload is what one read of a revision's payload told.
type Payload struct {
	// Head is the zero value if Problem is set.
	Head Head
	// Bytes is the size of the payload as stored.
	Bytes int
	// Read is when it was read, and ResourceVersion the record's at that
	// moment: Helm writes a record more than once, and it is read once.
	Read            time.Time
	ResourceVersion string
	// Problem is the reason why the payload could not be decoded, empty if it
	// could. It is one of the reasons of package decode.
	Problem string
}

// Chart returns the chart of the newest revision, false if no payload of it
// has told yet. A chart without metadata is MISSING, as in Helm's own tables.
func (r *Release) Chart() (Chart, bool) {
	if r.Payload == nil || r.Payload.Problem != "" {
		return Chart{}, false
	}
	if chart := r.Payload.Head.Chart; chart != (Chart{}) {
		return chart, true
	}
	return Chart{Name: missing, Version: missing, AppVersion: missing}, true
}

// missing stands for what a chart without metadata does not tell.
const missing = "MISSING"

// Head is what the first kilobytes of a payload tell. No other field of a
// payload is ever kept.
type Head struct {
	FirstDeployed time.Time // zero if absent
	LastDeployed  time.Time // zero if absent
	Description   string    // may be cut, see package decode
	Chart         Chart
}

// Chart is a chart's metadata. The zero value stands for a chart without any.
type Chart struct {
	Name       string
	Version    string
	AppVersion string
	Deprecated bool
}
