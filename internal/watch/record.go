package watch

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// The labels that Helm sets on every record.
const (
	nameLabel    = "name"
	statusLabel  = "status"
	versionLabel = "version"
)

// deviation is how a record differs from what Helm writes.
type deviation uint8

// The deviations of a record, which can be combined.
const (
	noNameLabel    deviation = 1 << iota // the name comes from the object's name
	noVersionLabel                       // the number does
	notARecord                           // neither says: the record is skipped
	otherShard                           // it is another exporter's to expose
)

// skippedReason is the label value of records that are skipped.
const skippedReason = "not_a_record"

// names returns the labels that are missing or invalid.
func (d deviation) names() []string {
	var names []string
	if d&noNameLabel != 0 {
		names = append(names, nameLabel)
	}
	if d&noVersionLabel != 0 {
		names = append(names, versionLabel)
	}
	return names
}

// record is one stored revision, read from the metadata of its object. The informers store it in place of the
// object, which is ten times as large. Its revision is shared with the index, the metrics and the pages.
type record struct {
	// ObjectMeta is empty, and the same one in all records: client-go asks a stored object for no more than the
	// methods below.
	*metav1.ObjectMeta
	// release is shared by all revisions of a release.
	release   unique.Handle[release.Key]
	revision  release.Revision
	deviation deviation
}

func (r *record) key() release.Key { return r.release.Value() }

// GetNamespace, GetName and GetResourceVersion implement metav1.Object.
func (r *record) GetNamespace() string { return r.key().Namespace }
func (r *record) GetName() string      { return r.revision.Object(r.key().Name) }
func (r *record) GetResourceVersion() string {
	return strconv.FormatUint(r.revision.ResourceVersion, 10)
}

// usable reports whether there is a record, and it names a release of this shard and a revision.
func (r *record) usable() bool { return r != nil && r.deviation&(notARecord|otherShard) == 0 }

// parseRecord reads an object's metadata. It goes by the labels, since release names may hold dots, and by the
// object's name only where a label is missing or invalid.
func parseRecord(storage release.Storage, obj *metav1.PartialObjectMetadata, keepLabels []string) *record {
	r := &record{revision: release.Revision{
		UID:             release.ParseUID(string(obj.UID)),
		ResourceVersion: parseResourceVersion(obj.ResourceVersion),
		Created:         release.TimeOf(obj.CreationTimestamp.Time),
		Modified:        release.TimeOf(lastWrite(obj)),
		Status:          parseStatus(obj.Labels[statusLabel]),
		Storage:         storage,
		Labels:          pick(obj.Labels, keepLabels),
	}}
	nameInObject, numberInObject, named := splitObjectName(obj.Name)
	name, number := obj.Labels[nameLabel], 0
	if name == "" {
		r.deviation |= noNameLabel
		name = nameInObject
	}
	var ok bool
	if number, ok = parseNumber(obj.Labels[versionLabel]); !ok {
		r.deviation |= noVersionLabel
		number = numberInObject
	}
	// ConfigMaps have no type to select by, and anybody may label one owner=helm.
	if name == "" || number == 0 || storage == release.ConfigMaps && !named {
		r.deviation = notARecord
	}
	r.release = unique.Make(release.Key{Namespace: obj.Namespace, Name: name})
	r.revision.Number = number
	if obj.Name != release.ObjectName(name, number) {
		r.revision.OtherObject = obj.Name
	}
	return r
}

// splitObjectName splits sh.helm.release.v1.NAME.vNUMBER at the last ".v".
func splitObjectName(object string) (name string, number int, ok bool) {
	rest, prefixed := strings.CutPrefix(object, "sh.helm.release.v1.")
	if at := strings.LastIndex(rest, ".v"); prefixed && at > 0 {
		if number, ok = parseNumber(rest[at+len(".v"):]); ok {
			return rest[:at], number, true
		}
	}
	return "", 0, false
}

// parseNumber reads a revision number as Helm writes it: digits, at least 1.
func parseNumber(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, strconv.IntSize-1)
	return int(n), err == nil && n > 0
}

// parseResourceVersion returns 0 if the version is not a number. Kubernetes promises that it is, see "Resource
// versions" in the reference of its API.
func parseResourceVersion(s string) uint64 {
	version, _ := strconv.ParseUint(s, 10, 64)
	return version
}

// parseStatus returns Unknown, as Helm does, for a missing label and for a status that Helm does not know. It
// returns the constant, so that the label's own string is not kept in memory.
func parseStatus(s string) release.Status {
	all := release.Statuses()
	if i := slices.Index(all, release.Status(s)); i >= 0 {
		return all[i]
	}
	return release.Unknown
}

// lastWrite returns the newest time in managedFields. Helm's own modifiedAt label is frozen by helm issue
// 32404.
func lastWrite(obj *metav1.PartialObjectMetadata) time.Time {
	var newest time.Time
	for i := range obj.ManagedFields {
		if t := obj.ManagedFields[i].Time; t != nil && t.After(newest) {
			newest = t.Time
		}
	}
	return newest
}

// pick returns the given keys of labels, nil if none is set.
func pick(labels map[string]string, keys []string) map[string]string {
	var picked map[string]string
	for _, key := range keys {
		value, ok := labels[key]
		if !ok {
			continue
		}
		if picked == nil {
			picked = make(map[string]string, len(keys))
		}
		picked[key] = value
	}
	return picked
}

// toRecords returns a transform that makes a record of each object.
func toRecords(storage release.Storage, keepLabels []string, isOurs func(release.Key) bool) cache.TransformFunc {
	empty := &metav1.ObjectMeta{}
	return func(in any) (any, error) {
		obj, ok := in.(*metav1.PartialObjectMetadata)
		if !ok {
			return in, nil // a record already, or a tombstone of one
		}
		r := parseRecord(storage, obj, keepLabels)
		r.ObjectMeta = empty
		if !isOurs(r.key()) {
			r.deviation |= otherShard
		}
		return r, nil
	}
}
