package watch

import (
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// The labels that Helm sets on every record.
const (
	nameLabel    = "name"
	statusLabel  = "status"
	versionLabel = "version"
)

// objectPrefix starts the object name of every record, versionInfix stands
// between the release's name and the revision's number.
const (
	objectPrefix = "sh.helm.release.v1."
	versionInfix = ".v"
)

// flaw is what is odd about a record: a label that had to be derived from the
// object's name, or the reason why the record is of no use.
type flaw string

// The flaws of a record. The first two are mended from the object's name.
const (
	noNameLabel    flaw = "name"
	noVersionLabel flaw = "version"
	notARecord     flaw = "not_a_record"
)

// Flaws returns every value that Telemetry.RecordFlawed may see for records
// that are mended, then those for records that are skipped.
func Flaws() (mended, skipped []string) {
	return []string{string(noNameLabel), string(noVersionLabel)}, []string{string(notARecord)}
}

// record is one stored revision, read from the metadata of its object. It is
// what the informers store: a fifth of the size of the object, and its revision
// is the one that the index and the sink share.
type record struct {
	// Object is empty, and the same one in all records: client-go asks a
	// stored object for no more than the methods below.
	metav1.Object
	key      release.Key
	revision release.Revision
	flaws    []flaw
}

// GetNamespace, GetName, GetUID and GetResourceVersion implement metav1.Object.
func (r *record) GetNamespace() string       { return r.key.Namespace }
func (r *record) GetName() string            { return r.revision.Object }
func (r *record) GetUID() types.UID          { return types.UID(r.revision.UID) }
func (r *record) GetResourceVersion() string { return r.revision.ResourceVersion }

// usable reports whether the record names a release and a revision.
func (r *record) usable() bool { return !slices.Contains(r.flaws, notARecord) }

// parseRecord reads an object's metadata. Release names may hold dots, so the
// labels are the truth; the object's name is asked only where they are missing
// or make no sense.
func parseRecord(storage release.Storage, obj *metav1.PartialObjectMetadata, keepLabels []string) *record {
	r := &record{
		key: release.Key{Namespace: obj.Namespace},
		revision: release.Revision{
			UID:             string(obj.UID),
			Status:          parseStatus(obj.Labels[statusLabel]),
			Storage:         storage,
			Object:          obj.Name,
			ResourceVersion: obj.ResourceVersion,
			Created:         obj.CreationTimestamp.UTC(),
			Modified:        lastWrite(obj),
			Labels:          pick(obj.Labels, keepLabels),
		},
	}
	nameInObject, numberInObject, named := splitObjectName(obj.Name)
	if storage == release.ConfigMaps && !named {
		// ConfigMaps have no type to select by: anybody may label one owner=helm.
		r.flaws = append(r.flaws, notARecord)
		return r
	}
	r.key.Name = obj.Labels[nameLabel]
	if r.key.Name == "" {
		r.flaws = append(r.flaws, noNameLabel)
		r.key.Name = nameInObject
	}
	number, ok := parseNumber(obj.Labels[versionLabel])
	if !ok {
		r.flaws = append(r.flaws, noVersionLabel)
		number = numberInObject
	}
	r.revision.Number = number
	if r.key.Name == "" || number == 0 {
		r.flaws = []flaw{notARecord}
	}
	return r
}

// splitObjectName splits sh.helm.release.v1.NAME.vNUMBER at the last ".v".
func splitObjectName(object string) (name string, number int, ok bool) {
	rest, ok := strings.CutPrefix(object, objectPrefix)
	if !ok {
		return "", 0, false
	}
	at := strings.LastIndex(rest, versionInfix)
	if at <= 0 {
		return "", 0, false
	}
	number, ok = parseNumber(rest[at+len(versionInfix):])
	if !ok {
		return "", 0, false
	}
	return rest[:at], number, true
}

// parseNumber reads a revision number as Helm writes it: digits, at least 1.
func parseNumber(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, strconv.IntSize-1)
	return int(n), err == nil && n > 0
}

// parseStatus maps a missing label, or a word that Helm does not know, to
// Unknown, which is how Helm itself calls that. It returns the constant, so
// that the label's own string is not kept.
func parseStatus(s string) release.Status {
	for _, status := range release.Statuses() {
		if s == string(status) {
			return status
		}
	}
	return release.Unknown
}

// lastWrite returns the newest time in managedFields. Helm's own modifiedAt
// label is frozen by helm issue 32404.
func lastWrite(obj *metav1.PartialObjectMetadata) time.Time {
	var newest time.Time
	for i := range obj.ManagedFields {
		if t := obj.ManagedFields[i].Time; t != nil && t.After(newest) {
			newest = t.Time
		}
	}
	return newest.UTC()
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
func toRecords(storage release.Storage, keepLabels []string) cache.TransformFunc {
	empty := &metav1.ObjectMeta{}
	return func(in any) (any, error) {
		obj, ok := in.(*metav1.PartialObjectMetadata)
		if !ok {
			return in, nil // a record already, or a tombstone of one
		}
		r := parseRecord(storage, obj, keepLabels)
		r.Object = empty
		return r, nil
	}
}
