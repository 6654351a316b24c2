package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// secretType is the type of every Secret that Helm keeps a record in.
const secretType = "helm.sh/release.v1"

// source is the metadata watch of one storage in one namespace, or in all of
// them. It tells telemetry whether the watch is alive.
type source struct {
	storage   release.Storage
	namespace string // "" for all
	client    metadata.Interface
	selectors selectors
	history   bool
	telemetry Telemetry
	log       *slog.Logger

	informer cache.SharedIndexInformer
	synced   <-chan struct{} // closed once the initial list has been handled

	mu      sync.Mutex
	failure error  // guarded by mu; nil while the watch is alive
	reason  string // guarded by mu; of failure
}

// selectors are the server's share of the work: what they leave out never
// crosses the network.
type selectors struct{ labels, fields string }

// selectorsFor returns what to ask of the server for one storage. Metadata
// carries no type, so only the server can tell Helm's Secrets from others'.
func selectorsFor(storage release.Storage, denied []string, history bool) selectors {
	s := selectors{labels: "owner=helm"}
	if !history {
		s.labels += ",status!=superseded"
	}
	var terms []fields.Selector
	if storage == release.Secrets {
		terms = append(terms, fields.OneTermEqualSelector("type", secretType))
	}
	for _, namespace := range denied {
		terms = append(terms, fields.OneTermNotEqualSelector("metadata.namespace", namespace))
	}
	s.fields = fields.AndSelectors(terms...).String()
	return s
}

// build makes the informer and registers the handler; it starts nothing.
//
// It is what metadatainformer.NewFilteredMetadataInformer makes, with two
// differences: the outcome of each request is observed, and package
// client-go/informers is not linked in, which would bring every typed client:
// 16 MB of binary and 10 MB of resident memory at start (docs/architecture.md).
func (s *source) build(transform cache.TransformFunc, handler cache.ResourceEventHandler) error {
	resource := s.client.Resource(resource(s.storage)).Namespace(s.namespace)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			s.selectors.apply(&o)
			list, err := resource.List(ctx, o)
			s.observe(ctx, "list", err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			s.selectors.apply(&o)
			w, err := resource.Watch(ctx, o)
			s.observe(ctx, "watch", err)
			if err != nil {
				return nil, err
			}
			return observe(w, func(e watch.Event) {
				if e.Type == watch.Error {
					s.observe(ctx, "watch", apierrors.FromObject(e.Object))
					return
				}
				s.telemetry.WatchHeard(s.storage, s.namespace)
			}), nil
		},
	}
	// A list costs a seventh fewer bytes than a streamed one, and less CPU at
	// both ends, but is held whole for a moment. That is worth it for live
	// revisions, not for a whole history.
	semantics := any(s.client)
	if !s.history {
		semantics = plainList{}
	}
	s.informer = cache.NewSharedIndexInformer(
		cache.ToListWatcherWithWatchListSemantics(lw, semantics), &metav1.PartialObjectMetadata{}, 0, nil)
	if err := s.informer.SetTransform(transform); err != nil {
		return fmt.Errorf("set transform: %w", err)
	}
	// Each failure has been observed already, with its verb.
	if err := s.informer.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {}); err != nil {
		return fmt.Errorf("set watch error handler: %w", err)
	}
	registration, err := s.informer.AddEventHandler(handler)
	if err != nil {
		return fmt.Errorf("add handler: %w", err)
	}
	s.synced = registration.HasSyncedChecker().Done()
	return nil
}

// plainList tells client-go to list before it watches.
type plainList struct{}

// IsWatchListSemanticsUnSupported is how client-go asks.
func (plainList) IsWatchListSemanticsUnSupported() bool { return true }

func (s selectors) apply(o *metav1.ListOptions) {
	o.LabelSelector, o.FieldSelector = s.labels, s.fields
}

// observe records the outcome of a request. It logs when the outcome changes,
// not each time: a missing RBAC rule fails the same way until it is mended.
func (s *source) observe(ctx context.Context, verb string, err error) {
	if ctx.Err() != nil || err == nil && verb == "list" {
		return // a watch follows a list, and is what counts
	}
	reason := watchErrorReason(err)
	if err != nil {
		s.telemetry.WatchFailed(s.storage, reason)
		err = fmt.Errorf("cannot %s %s %s: %w", verb, s.storage, s.where(), err)
	}
	s.mu.Lock()
	changed := reason != s.reason
	s.failure, s.reason = err, reason
	s.mu.Unlock()
	s.telemetry.WatchAlive(s.storage, s.namespace, err == nil)
	if err == nil {
		s.telemetry.WatchHeard(s.storage, s.namespace)
	}
	switch {
	case !changed:
	case err == nil:
		s.log.Info("Watching again", "resource", s.storage, "namespace", s.namespace)
	default:
		s.log.Error("Watch failed, will keep trying", "verb", verb, "resource", s.storage, "namespace", s.namespace, "err", err)
	}
}

// lastFailure returns why the watch is not alive, nil if it is, or if nothing
// has been tried yet.
func (s *source) lastFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

func (s *source) where() string {
	if s.namespace == "" {
		return "in all namespaces"
	}
	return fmt.Sprintf("in namespace %q", s.namespace)
}

// done reports whether the initial list has been handled.
func (s *source) done() bool {
	select {
	case <-s.synced:
		return true
	default:
		return false
	}
}

func resource(storage release.Storage) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: string(storage)}
}

// The reasons of a failed LIST or WATCH.
const (
	reasonForbidden    = "forbidden"
	reasonUnauthorized = "unauthorized"
	reasonExpired      = "expired"
	reasonThrottled    = "throttled"
	reasonUnavailable  = "unavailable"
	reasonOther        = "other"
)

// ErrorReasons returns every reason that Telemetry.WatchFailed may see.
func ErrorReasons() []string {
	return []string{reasonForbidden, reasonUnauthorized, reasonExpired, reasonThrottled, reasonUnavailable, reasonOther}
}

// watchErrorReason returns "" for nil.
func watchErrorReason(err error) string {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return ""
	case apierrors.IsForbidden(err):
		return reasonForbidden
	case apierrors.IsUnauthorized(err):
		return reasonUnauthorized
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return reasonExpired
	case apierrors.IsTooManyRequests(err):
		return reasonThrottled
	case !errors.As(err, &status), apierrors.IsServiceUnavailable(err), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return reasonUnavailable
	}
	return reasonOther
}
