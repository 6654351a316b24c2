package chartrepo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	maxRedirects   = 5
	maxHeaderBytes = 256 << 10
	maxSecretFile  = 64 << 10
)

// user is who asks. The zero value is nobody's.
type user struct{ name, password string }

// user reads the credentials of the configuration.
func (r *Repository) user(u *url.URL) (user, error) {
	if u.User != nil {
		password, _ := u.User.Password()
		return user{u.User.Username(), password}, nil
	}
	who := user{r.config.Username, r.config.Password}
	if r.config.PasswordFile != "" {
		text, err := readSmall(r.config.PasswordFile)
		if err != nil {
			return user{}, fail(Failed, "passwordFile: %v", err)
		}
		who.password = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	}
	return who, nil
}

func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err == nil && len(text) > maxSecretFile {
		err = fmt.Errorf("%s is larger than %d bytes", file, maxSecretFile)
	}
	return text, err
}

// client returns a client for one question: certificates may change between questions. The caller closes its
// idle connections.
func (r *Repository) client() (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: r.config.InsecureSkipTLSVerify}
	if file := r.config.CAFile; file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fail(Failed, "caFile: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fail(Failed, "caFile: %s has no certificate in PEM", file)
		}
	}
	if r.config.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(r.config.CertFile, r.config.KeyFile)
		if err != nil {
			return nil, fail(Failed, "certFile and keyFile: %v", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return &http.Client{CheckRedirect: checkRedirect, Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            r.dial,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    r.options.HeaderTimeout,
		ResponseHeaderTimeout:  r.options.HeaderTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ForceAttemptHTTP2:      true,
	}}, nil
}

// checkRedirect lets no credentials pass to another server, where net/http does so for subdomains and ports.
func checkRedirect(req *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL
	switch {
	case len(via) > maxRedirects:
		return fail(Failed, "more than %d redirects", maxRedirects)
	case req.URL.Scheme != "https" && (req.URL.Scheme != "http" || from.Scheme == "https"):
		return fail(Failed, "redirected from %s to %s, which is refused", from.Scheme, req.URL.Scheme)
	}
	req.Header.Del("Referer") // it has the query
	for _, earlier := range via {
		if !sameServer(earlier.URL, req.URL) {
			req.Header.Del("Authorization")
		}
	}
	return nil
}

// sameServer tells whether credentials for one URL are for the other, too.
func sameServer(from, to *url.URL) bool {
	upgrade := from.Scheme == "http" && to.Scheme == "https" && from.Port() == ""
	return strings.EqualFold(from.Host, to.Host) && (from.Scheme == to.Scheme || upgrade)
}

// askServer asks for the index.yaml of an HTTP server.
func (r *Repository) askServer(ctx context.Context, u *url.URL, who user, last *Answer) (Reply, error) {
	client, err := r.client()
	if err != nil {
		return Reply{}, err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, indexURL(u).String(), nil)
	if err != nil {
		return Reply{}, err
	}
	if r.options.UserAgent != "" {
		req.Header.Set("User-Agent", r.options.UserAgent)
	}
	if who != (user{}) {
		req.SetBasicAuth(who.name, who.password)
	}
	if last != nil && last.ETag != "" {
		req.Header.Set("If-None-Match", last.ETag)
	}
	if last != nil && last.LastModified != "" {
		req.Header.Set("If-Modified-Since", last.LastModified)
	}
	resp, err := client.Do(req)
	if err != nil {
		return Reply{}, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && last != nil:
		return r.confirmed(last), nil
	case resp.StatusCode != http.StatusOK:
		return Reply{RetryAfter: retryAfter(resp, r.now())}, statusFailure(resp.StatusCode, "index.yaml")
	}
	// The end of an HTTP/1 response without a length is the end of the connection, which may be one that broke.
	endKnown := resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0 || resp.Uncompressed || resp.ProtoMajor > 1
	charts, err := readIndex(ctx, resp.Body, endKnown, r.limits)
	if err != nil {
		return Reply{}, err
	}
	return Reply{Result: OK, Answer: &Answer{
		At: r.now(), Charts: charts,
		ETag: validator(resp.Header.Get("ETag")), LastModified: validator(resp.Header.Get("Last-Modified")),
	}}, nil
}

// indexURL appends index.yaml to the path, and keeps the query, as Helm does.
func indexURL(u *url.URL) *url.URL {
	joined := *u
	joined.Path, joined.RawPath = strings.TrimSuffix(u.Path, "/")+"/index.yaml", ""
	if u.RawPath != "" {
		joined.RawPath = strings.TrimSuffix(u.RawPath, "/") + "/index.yaml"
	}
	return &joined
}

// confirmed is the reply of a repository whose last answer still holds.
func (r *Repository) confirmed(last *Answer) Reply {
	again := *last
	again.At = r.now()
	return Reply{Answer: &again, Result: NotModified}
}

// validator returns what is sent back with the next question, unless it is longer or stranger than any.
func validator(value string) string {
	if len(value) > maxValidator || !printable(value) {
		return ""
	}
	return value
}

// statusFailure explains a response that has not what was asked for.
func statusFailure(status int, what string) error {
	text := strings.TrimSpace(fmt.Sprintf("%s: %d %s", what, status, http.StatusText(status)))
	switch status {
	case http.StatusUnauthorized:
		return fail(Unauthorized, "%s: check the repository's username and password", text)
	case http.StatusForbidden:
		return fail(Forbidden, "%s: the repository's user may not read it", text)
	case http.StatusNotFound, http.StatusGone:
		return fail(NotFound, "%s: check the repository's url", text)
	case http.StatusTooManyRequests:
		return fail(RateLimited, "%s", text)
	case http.StatusNotModified:
		return fail(Failed, "%s: there is no earlier answer", text)
	}
	return fail(Failed, "%s", text)
}

// retryAfter returns how long a server asks to wait.
func retryAfter(resp *http.Response, now time.Time) time.Duration {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	value := strings.TrimSpace(resp.Header.Get("Retry-After"))
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		wait = time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(value); err == nil {
		wait = date.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// readFile reads an index on disk.
func (r *Repository) readFile(ctx context.Context, file string, last *Answer) (Reply, error) {
	before, err := os.Stat(file)
	if err == nil && before.IsDir() {
		file = filepath.Join(file, "index.yaml")
		before, err = os.Stat(file)
	}
	var f *os.File
	if err == nil {
		if !before.Mode().IsRegular() {
			return Reply{}, fail(Invalid, "%s is not a file", file)
		}
		if etag, modified := fileValidators(before); last != nil && last.ETag == etag && last.LastModified == modified {
			return r.confirmed(last), nil
		}
		f, err = os.Open(file)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Reply{}, fail(NotFound, "%v", err)
	case errors.Is(err, os.ErrPermission):
		return Reply{}, fail(Forbidden, "%v", err)
	case err != nil:
		return Reply{}, err
	}
	defer f.Close()
	if before, err = f.Stat(); err != nil {
		return Reply{}, err
	}
	charts, err := readIndex(ctx, f, true, r.limits)
	if err != nil {
		return Reply{}, err
	}
	after, err := f.Stat()
	if err != nil {
		return Reply{}, err
	}
	etag, modified := fileValidators(before)
	if now, then := fileValidators(after); now != etag || then != modified {
		return Reply{}, fail(Failed, "%s changed while it was read", file)
	}
	return Reply{Result: OK, Answer: &Answer{At: r.now(), ETag: etag, LastModified: modified, Charts: charts}}, nil
}

// fileValidators tell whether a file has changed.
func fileValidators(info os.FileInfo) (etag, modified string) {
	return fmt.Sprintf(`"%x-%x"`, info.Size(), info.ModTime().UnixNano()), info.ModTime().UTC().Format(http.TimeFormat)
}
