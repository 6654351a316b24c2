// Package release holds the domain: what a Helm release is, as plain values
// that every other room shares.
package release

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
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
	// Stored counts the stored revisions in Newest's storage, superseded ones
	// included.
	Stored int
	// Shadowed counts the revisions that are not shown because the same release
	// has records in a storage that wins.
	Shadowed int
	// Payload is what the newest revision's payload told, nil until it has
	// been read.
	Payload *Payload
}

// Revision is one stored record of a release, as its metadata tells. There are
// as many as Helm keeps, so it holds no text that can be derived.
type Revision struct {
	// UID identifies the record. Uninstall and install make revision 1 again
	// under another UID.
	UID UID
	// Number is the revision's number, at least 1.
	Number int
	// ResourceVersion is the record's version as last seen. All versions of one
	// resource are in order, see the API reference of Kubernetes.
	ResourceVersion uint64
	// Created is when the record was created: when the operation began.
	Created Time
	// Modified is the last write to the record by anyone.
	Modified Time
	Status   Status
	// Storage says where the record is.
	Storage Storage
	// OddObject is the name of the record's object if it is not the one that
	// Helm gives, see Object.
	OddObject string
	// Labels are the record's own labels, only for the keys asked for.
	Labels map[string]string
}

// Object returns the name of the record's object.
func (r *Revision) Object(release string) string {
	if r.OddObject != "" {
		return r.OddObject
	}
	return ObjectName(release, r.Number)
}

// ObjectName returns the name that Helm gives to the object of a record.
func ObjectName(release string, number int) string {
	return "sh.helm.release.v1." + release + ".v" + strconv.Itoa(number)
}

// UID is the UID of an object.
type UID [16]byte

// ParseUID reads a UID as Kubernetes writes it. Any other text, which no API
// server writes, gets a UID of its own.
func ParseUID(s string) UID {
	var uid UID
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
		if _, err := hex.Decode(uid[:], []byte(digits)); err == nil {
			return uid
		}
	}
	sum := sha256.Sum256([]byte(s))
	return UID(sum[:len(uid)])
}

// Time is a moment in Unix seconds, which is as exactly as Kubernetes tells
// it; 0 is unknown.
type Time int64

// TimeOf returns 0 for the zero time.
func TimeOf(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.Unix())
}

// Time returns the zero time for 0.
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t), 0).UTC()
}

// Payload is what one read of a revision's payload told.
type Payload struct {
	// Head is the zero value if Problem is set.
	Head Head
	// Bytes is the size of the payload as stored.
	Bytes int
	// Read is when it was read, and ResourceVersion the record's at that
	// moment: Helm writes a record more than once.
	Read            time.Time
	ResourceVersion uint64
	// Problem is the reason why the payload could not be decoded, empty if it
	// could: one of the reasons of package decode, or no_payload.
	Problem string
}

// Outdated reports whether the record of the newest revision was written after
// its payload was read.
func (r *Release) Outdated() bool {
	return r.Payload != nil && r.Payload.ResourceVersion < r.Newest.ResourceVersion
}

// Head returns the head of the newest revision, false until its payload has been
// decoded.
func (r *Release) Head() (Head, bool) {
	if r.Payload == nil || r.Payload.Problem != "" {
		return Head{}, false
	}
	return r.Payload.Head, true
}

// Chart returns the chart of the newest revision, false until its payload has
// been decoded. A chart without metadata is MISSING, as in Helm's own tables.
func (r *Release) Chart() (Chart, bool) {
	head, ok := r.Head()
	if ok && head.Chart == (Chart{}) {
		return Chart{Name: missing, Version: missing, AppVersion: missing}, true
	}
	return head.Chart, ok
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
