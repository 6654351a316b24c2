// Package release has the values that all other packages share: what a Helm release is.
package release

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
)

// Key identifies a release by the namespace of its records and its name.
type Key struct {
	Namespace string
	Name      string
}

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Shard returns which of a number of shards the release belongs to, from 0: FNV-1a of namespace/name, modulo the
// number. It is the same in all versions.
func (k Key) Shard(total int) int {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(k.String())) // it never fails
	return int(hash.Sum64() % uint64(total))
}

// Storage is the kind of object that Helm keeps records in, as the name of its resource.
type Storage string

// The storages.
const (
	Secrets    Storage = "secrets"
	ConfigMaps Storage = "configmaps"
)

// Release is what is known of one release at one moment. It is immutable, and shared by pointer: each change
// makes a new one.
type Release struct {
	Key
	// Newest is the revision with the highest number, which is shown.
	Newest *Revision
	// Deployed is the number of the newest revision whose status is deployed, 0 if there is none.
	Deployed int
	// Stored counts the stored revisions in Newest's storage, superseded ones included.
	Stored int
	// Shadowed counts those in a storage that is not shown, because Newest is in another one.
	Shadowed int
	// Payload is that of Newest, nil until it has been read.
	Payload *Payload
}

// Revision is one stored record of a release, without its payload. There can be 100,000 of them, so it is
// small. It is immutable, too.
type Revision struct {
	// UID identifies the record: an install after an uninstall makes another revision 1.
	UID    UID
	Number int // at least 1
	// ResourceVersion is the record's last version. Those of one resource are in order, see "Resource versions"
	// in the reference of the Kubernetes API.
	ResourceVersion uint64
	Created         Time // when the operation began
	Modified        Time // the last write by anyone
	Status          Status
	Storage         Storage
	// OtherObject is the name of the record's object if it is not ObjectName.
	OtherObject string
	// Labels are the record's own labels, only those to expose.
	Labels map[string]string
}

// Object returns the name of the record's object.
func (r *Revision) Object(release string) string {
	if r.OtherObject != "" {
		return r.OtherObject
	}
	return ObjectName(release, r.Number)
}

// ObjectName returns the name that Helm gives to the object of a record.
func ObjectName(release string, number int) string {
	return "sh.helm.release.v1." + release + ".v" + strconv.Itoa(number)
}

// UID is the UID of an object.
type UID [16]byte

// ParseUID parses a UID. A text that is not a UUID, which no API server writes, gets a UID of its own, too.
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

// Time is in Unix seconds, as precise as in Kubernetes; 0 is unknown.
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

// Payload is what was read of a revision's payload.
type Payload struct {
	// Head is the zero value if Problem is set.
	Head Head
	// Bytes is the size of the payload as stored.
	Bytes int
	// Read is when it was read, and ResourceVersion the record's version then: Helm writes a record more than
	// once.
	Read            time.Time
	ResourceVersion uint64
	// Problem is why it could not be decoded, empty if it could: a reason of package decode, or no_payload.
	Problem string
}

// Outdated reports whether the record of the newest revision was written after its payload was read.
func (r *Release) Outdated() bool {
	return r.Payload != nil && r.Payload.ResourceVersion < r.Newest.ResourceVersion
}

// Head returns the head of the newest revision, false until its payload has been decoded.
func (r *Release) Head() (Head, bool) {
	if r.Payload == nil || r.Payload.Problem != "" {
		return Head{}, false
	}
	return r.Payload.Head, true
}

// Chart returns the chart of the newest revision, false until its payload has been decoded. A chart without
// metadata is MISSING, as in Helm's own tables.
func (r *Release) Chart() (Chart, bool) {
	head, ok := r.Head()
	if ok && head.Chart == (Chart{}) {
		return Chart{Name: "MISSING", Version: "MISSING", AppVersion: "MISSING"}, true
	}
	return head.Chart, ok
}

// Head is what is kept of a payload: fields from its first kilobytes.
type Head struct {
	FirstDeployed time.Time // zero if absent
	LastDeployed  time.Time // zero if absent
	Description   string    // may be cut, see decode.Decoder.Head
	Chart         Chart
}

// Chart is a chart's metadata. The zero value stands for a chart without any.
type Chart struct {
	Name       string
	Version    string
	AppVersion string
	Deprecated bool
}

// Status is a status of Helm. One that Helm does not know is Unknown.
type Status string

// The statuses of Helm 3 and Helm 4.
const (
	Unknown         Status = "unknown"
	Deployed        Status = "deployed"
	Uninstalled     Status = "uninstalled"
	Superseded      Status = "superseded"
	Failed          Status = "failed"
	Uninstalling    Status = "uninstalling"
	PendingInstall  Status = "pending-install"
	PendingUpgrade  Status = "pending-upgrade"
	PendingRollback Status = "pending-rollback"
)

// Statuses returns every status, in alphabetical order.
func Statuses() []Status {
	return []Status{
		Deployed, Failed, PendingInstall, PendingRollback, PendingUpgrade,
		Superseded, Uninstalled, Uninstalling, Unknown,
	}
}
