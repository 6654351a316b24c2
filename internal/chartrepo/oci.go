package chartrepo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// askRegistry asks an OCI registry for the tags of a chart.
func (r *Repository) askRegistry(ctx context.Context, u *url.URL, who user, chart, running string, last *Answer) (Reply, error) {
	answer := &Answer{At: r.now(), Charts: map[string][]string{}}
	ref := ociReference(u, chart)
	if strings.Contains(chart, "/") || !validName(chart) || ref.ValidateRepository() != nil {
		return Reply{Answer: answer, Result: NotFound}, nil
	}
	client, err := r.client()
	if err != nil {
		return Reply{}, err
	}
	defer client.CloseIdleConnections()
	bounded := &boundedTransport{next: client.Transport, max: r.limits.page, now: r.now}
	client.Transport = bounded
	credential, err := r.credential(ref.Host(), who)
	if err != nil {
		return Reply{}, err
	}
	registryClient := &auth.Client{Client: client, Credential: credential, Cache: auth.NewCache()}
	if r.options.UserAgent != "" {
		registryClient.SetUserAgent(r.options.UserAgent)
	}
	repository := &remote.Repository{
		Client: registryClient, Reference: ref, PlainHTTP: isLoopback(u.Hostname()),
		TagListMaxPages: r.limits.pages, MaxMetadataBytes: r.limits.page + 1,
	}
	versions, err := r.tags(ctx, repository)
	if err == nil {
		if len(versions) > 0 {
			answer.Charts[chart] = versions
		}
		answer.At = r.now()
		return Reply{Answer: answer, Result: OK}, nil
	}
	status := statusOf(err)
	switch status {
	case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed:
		if pulls(ctx, repository, running) {
			return Reply{}, fail(Forbidden, "the registry lets the user pull %s but not list its tags (%d)", ref, status)
		}
		// Registries say so of charts that the user may not see any more, too. So it takes back no answer.
		if status == http.StatusNotFound && (last == nil || len(last.Charts[chart]) == 0) {
			return Reply{Answer: answer, Result: NotFound}, nil
		}
	}
	return Reply{RetryAfter: bounded.retryAfter}, ociFailure(err, status, ref)
}

// tags lists the versions that a registry has of a chart.
func (r *Repository) tags(ctx context.Context, repository *remote.Repository) ([]string, error) {
	var versions []string
	var count, size int64
	err := repository.Tags(ctx, "", func(tags []string) error {
		for _, tag := range tags {
			count, size = count+1, size+int64(len(tag))
			if count > int64(r.limits.tags) || size > r.limits.tagBytes {
				return fail(TooLarge, "%s has more than %d tags, or %d bytes of them", repository.Reference, r.limits.tags, r.limits.tagBytes)
			}
			// A tag is a version of Helm's if it has all three numbers: others are digests, or "latest".
			version := strings.ReplaceAll(tag, "_", "+")
			if _, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v")); err == nil && len(version) <= maxVersion {
				versions = append(versions, strings.Clone(version))
			}
		}
		return nil
	})
	return versions, err
}

// pulls tells whether the registry serves the manifest of a version.
func pulls(ctx context.Context, repository *remote.Repository, version string) bool {
	ref := repository.Reference
	ref.Reference = strings.ReplaceAll(version, "+", "_")
	if ref.Reference == "" || ref.ValidateReferenceAsTag() != nil {
		return false
	}
	scheme := "https"
	if repository.PlainHTTP {
		scheme = "http"
	}
	req, err := http.NewRequestWithContext(auth.AppendRepositoryScope(ctx, ref, auth.ActionPull), http.MethodHead,
		fmt.Sprintf("%s://%s/v2/%s/manifests/%s", scheme, ref.Host(), ref.Repository, ref.Reference), nil)
	if err != nil {
		return false
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	resp, err := repository.Client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// statusOf returns the status that an error of oras stands for, 0 if it is none. That a token service has no such
// page tells nothing about the chart.
func statusOf(err error) int {
	var response *errcode.ErrorResponse
	switch {
	case errors.As(err, &response):
		if strings.HasSuffix(response.URL.Path, "/tags/list") || response.StatusCode != http.StatusNotFound {
			return response.StatusCode
		}
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return http.StatusUnauthorized
	}
	return 0
}

// ociFailure explains an error of oras, in words that a registry cannot choose.
func ociFailure(err error, status int, ref registry.Reference) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var response *errcode.ErrorResponse
	switch {
	case status == 0 && errors.As(err, &response):
		return fail(Failed, "the token service of %s: %d %s", ref.Registry, response.StatusCode, http.StatusText(response.StatusCode))
	case status != 0:
		return statusFailure(status, "tags of "+ref.String())
	case errors.Is(err, errdef.ErrTooManyPages):
		return fail(TooLarge, "the tags of %s: too many pages", ref)
	case errors.As(err, &syntax), errors.As(err, &kind):
		return fail(Invalid, "the tags of %s: the response is not a list of tags", ref)
	}
	return err
}

// credential returns the credentials of the configuration, or Docker's. No other host gets them, but for the
// token service that the registry names.
func (r *Repository) credential(host string, who user) (auth.CredentialFunc, error) {
	if who != (user{}) {
		return auth.StaticCredential(host, auth.Credential{Username: who.name, Password: who.password}), nil
	}
	store, err := r.store()
	if err != nil {
		return nil, fail(Failed, "Docker's config.json: %v", err)
	}
	if store == nil {
		return nil, nil
	}
	docker := credentials.Credential(store)
	return func(ctx context.Context, hostport string) (auth.Credential, error) {
		if hostport != host {
			return auth.EmptyCredential, nil
		}
		return docker(ctx, hostport)
	}, nil
}

func (r *Repository) store() (*credentials.DynamicStore, error) {
	if r.options.DockerConfig != "" {
		return credentials.NewStore(r.options.DockerConfig, credentials.StoreOptions{})
	}
	if _, err := os.UserHomeDir(); err != nil && os.Getenv("DOCKER_CONFIG") == "" {
		return nil, nil // a container's user without a home has no credentials
	}
	return credentials.NewStoreFromDocker(credentials.StoreOptions{})
}

// isLoopback tells whether a registry speaks plain HTTP, as Docker decides it.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// boundedTransport fails when a response is too large, and notes how long a registry asks to wait.
type boundedTransport struct {
	next       http.RoundTripper
	max        int64
	now        func() time.Time
	retryAfter time.Duration
}

func (t *boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	t.retryAfter = retryAfter(resp, t.now())
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: t.max}
	return resp, nil
}

func (t *boundedTransport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fail(TooLarge, "a response of the registry is larger than the limit")
	}
	return n, err
}
