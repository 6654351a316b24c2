package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWire looks at the bytes between the exporter and the API server: what
// many objects are asked for is metadata, in protobuf, selected by the server;
// a payload crosses only in answer to a GET of one object.
func TestWire(t *testing.T) {
	t.Parallel()
	const (
		all      = "labelSelector=owner=helm"
		ofType   = "&fieldSelector=type=helm.sh/release.v1"
		listed   = "&limit=500&resourceVersion=0"
		followed = "&allowWatchBookmarks=true&resourceVersion=N&watch=true"
		streamed = "&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true"
		v1, v2   = "secrets/sh.helm.release.v1.app.v1?resourceVersion=N", "secrets/sh.helm.release.v1.app.v2?resourceVersion=N"
	)
	for name, test := range map[string]struct {
		refuse func(*http.Request) bool
		want   []string
	}{
		"the list is the beginning of the watch": {nothing, []string{
			"secrets?" + all + ofType + streamed, "configmaps?" + all + streamed, v2, v1,
		}},
		"a server that is too old to stream a list is asked for a plain one": {
			func(r *http.Request) bool { return r.URL.Query().Has("sendInitialEvents") },
			[]string{
				"secrets?" + all + ofType + streamed, "secrets?" + all + ofType + listed, "secrets?" + all + ofType + followed,
				"configmaps?" + all + streamed, "configmaps?" + all + listed, "configmaps?" + all + followed,
				v2, v1,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := newNamespace(t, "wire")
			superseded := write(t, namespace, secretRecord("app", 1, "superseded", sound()))
			newest := write(t, namespace, secretRecord("app", 2, "deployed", sound()))
			p := newProxy(t, test.refuse)
			e := startExporter(t, shared.kubeconfig(t, p.access()),
				"--namespaces="+namespace, "--storage=secrets,configmaps")
			eventually(t, patience, e.shows(shown(newest, "sound", 2), namespace))
			deleteRecord("app", 2)(t, newHelm(t, "helm4", namespace, "secret"))
			eventually(t, patience, e.shows(shown(superseded, "sound"), namespace))

			base := "/api/v1/namespaces/" + namespace + "/"
			eventually(t, patience, func() error { // one of the watches may begin late
				var got []string
				for _, x := range p.exchanges() {
					got = append(got, strings.TrimPrefix(x.about(), base))
				}
				if diff := cmp.Diff(inOrder(test.want), inOrder(got)); diff != "" {
					return fmt.Errorf("requests differ (-want +got):\n%s", diff)
				}
				return nil
			})
			for _, x := range p.exchanges() {
				x.check(t)
			}
		})
	}
}

// inOrder sorts requests, and the parameters of each.
func inOrder(requests []string) []string {
	sorted := make([]string, 0, len(requests))
	for _, request := range requests {
		path, query, _ := strings.Cut(request, "?")
		sorted = append(sorted, path+"?"+strings.Join(slices.Sorted(strings.SplitSeq(query, "&")), "&"))
	}
	slices.Sort(sorted)
	return sorted
}

// about tells a request without what differs from time to time.
func (x *exchange) about() string {
	var told []string
	for key, values := range x.query {
		value := strings.Join(values, "+")
		switch {
		case key == "timeout", key == "timeoutSeconds":
			continue
		case key == "resourceVersion" && value != "0" && value != "":
			value = "N"
		}
		told = append(told, key+"="+value)
	}
	return x.path + "?" + strings.Join(told, "&")
}

// check fails the test if more than metadata was asked for or came back,
// except by a GET of one object.
func (x *exchange) check(t *testing.T) {
	t.Helper()
	single := strings.Contains(x.path, "/sh.helm.release.v1.")
	accept, protocol := "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,", "HTTP/2.0"
	switch {
	case single:
		accept, protocol = "application/vnd.kubernetes.protobuf", "HTTP/1.1"
	case x.query.Get("watch") == "true":
		accept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,"
	}
	if x.method != http.MethodGet || !strings.HasPrefix(x.accept, accept) || single && x.accept != accept {
		t.Errorf("%s %s accepts %q, want %q first", x.method, x.about(), x.accept, accept)
	}
	if x.protocol != protocol {
		t.Errorf("%s is asked over %s, want %s", x.about(), x.protocol, protocol)
	}
	if x.acceptEncoding != "" || x.encoding != "" {
		t.Errorf("%s asks for encoding %q and gets %q, want none", x.about(), x.acceptEncoding, x.encoding)
	}
	if x.status != http.StatusOK {
		return // what the old server refused
	}
	if !strings.HasPrefix(x.contentType, "application/vnd.kubernetes.protobuf") {
		t.Errorf("%s is answered by %q, want protobuf", x.about(), x.contentType)
	}
	// An empty list names no kind in its objects, but in itself.
	body := x.body.bytes()
	if holds := bytes.Contains(body, sound()); holds != single {
		t.Errorf("the answer to %s holds a payload: %t, want %t", x.about(), holds, single)
	}
	if !single && !bytes.Contains(body, []byte("PartialObjectMetadata")) && len(body) > 0 {
		t.Errorf("the answer to %s is not metadata", x.about())
	}
}

// TestSelectors looks at what is asked of the server for the flags that change
// it.
func TestSelectors(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string][]string{
		"": {
			"/api/v1/secrets fields=type=helm.sh/release.v1 labels=owner=helm",
		},
		"--storage=configmaps --namespaces-denylist=not-there": {
			"/api/v1/configmaps fields=metadata.namespace!=not-there labels=owner=helm",
		},
		"--namespaces-denylist=not-there,nor-this --payload=never": {
			"/api/v1/secrets fields=metadata.namespace!=nor-this,metadata.namespace!=not-there,type=helm.sh/release.v1 labels=owner=helm",
		},
		"--namespaces=not-there,nor-this": {
			"/api/v1/namespaces/nor-this/secrets fields=type=helm.sh/release.v1 labels=owner=helm",
			"/api/v1/namespaces/not-there/secrets fields=type=helm.sh/release.v1 labels=owner=helm",
		},
	} {
		t.Run("flags "+flags, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, nothing)
			e := startExporter(t, shared.kubeconfig(t, p.access()), strings.Fields(flags)...)
			e.awaitReady(t)
			eventually(t, patience, func() error { // a watch follows its list
				if diff := cmp.Diff(want, p.watched()); diff != "" {
					return fmt.Errorf("watches differ (-want +got):\n%s", diff)
				}
				return nil
			})
		})
	}
}

// watched tells what is watched, in order.
func (p *proxy) watched() []string {
	var told []string
	for _, x := range p.exchanges() {
		if x.query.Get("watch") == "true" {
			selected := slices.Sorted(strings.SplitSeq(x.query.Get("fieldSelector"), ","))
			told = append(told, fmt.Sprintf("%s fields=%s labels=%s", x.path, strings.Join(selected, ","), x.query.Get("labelSelector")))
		}
	}
	slices.Sort(told)
	return told
}
