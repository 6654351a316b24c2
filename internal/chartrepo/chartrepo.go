// Package chartrepo asks chart repositories which versions of charts they have.
package chartrepo

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"oras.land/oras-go/v2/registry"
)

const (
	maxName       = 250 // bytes, of repositories and charts
	maxError      = 512 // bytes
	minSecret     = 4   // bytes; a shorter one could be a part of any word
	maxValidator  = 512 // bytes of an ETag or Last-Modified
	maxRetryAfter = 24 * time.Hour
)

// Config is one repository, with the keys of Helm's repositories.yaml.
type Config struct {
	Name     string `yaml:"name"`
	URL      string `yaml:"url"` // https, http, oci, or file: a directory with an index.yaml, or the file itself
	Username string `yaml:"username"`
	Password string `yaml:"password"`
	// The files are read at each question.
	PasswordFile          string `yaml:"passwordFile"` // a line break at its end is not part of the password
	CAFile                string `yaml:"caFile"`       // replaces the system's certificate authorities, as in Helm
	CertFile              string `yaml:"certFile"`
	KeyFile               string `yaml:"keyFile"`
	InsecureSkipTLSVerify bool   `yaml:"insecure_skip_tls_verify"`
	// PassCredentialsAll is accepted, since Helm writes it, and changes nothing: charts are not downloaded.
	PassCredentialsAll bool `yaml:"pass_credentials_all"`
}

// IsOCI tells whether the repository is an OCI registry, which is asked for each chart.
func (c Config) IsOCI() bool { return strings.HasPrefix(strings.ToLower(c.URL), "oci://") }

// Check returns what is wrong with c. It opens no files. The error never holds the password.
func (c Config) Check() error {
	u, err := url.Parse(c.URL)
	switch {
	case c.Name == "" || len(c.Name) > maxName || !printable(c.Name):
		return fmt.Errorf("name: %.250q: required, at most %d bytes of UTF-8 without control characters", c.Name, maxName)
	case c.URL == "":
		return errors.New("url: required")
	case err != nil || !printable(c.URL):
		return errors.New("url: not a URL") // the parser's error quotes it, with its password
	case u.Fragment != "":
		return errors.New("url: must not have a fragment (#…)")
	case c.Password != "" && c.PasswordFile != "":
		return errors.New("password and passwordFile: set one of them")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("certFile and keyFile: set both, or none")
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" {
			return errors.New("url: has no host; write https://HOST/PATH")
		}
		if u.User != nil && (c.Username != "" || c.Password != "" || c.PasswordFile != "") {
			return errors.New("url: holds a user, and so do username or password; leave it out of the URL")
		}
		if _, set := u.User.Password(); set && u.User.Username() == "" {
			return errors.New("url: holds a password without a user; set username and password")
		}
	case "oci":
		if u.User != nil || u.RawQuery != "" || u.ForceQuery {
			return errors.New("url: write oci://HOST/PATH, without user and query; set username and password")
		}
		if (c.Username == "") != (c.Password == "" && c.PasswordFile == "") {
			return errors.New("username and password, or passwordFile: a registry needs both, or none")
		}
		ref := ociReference(u, "chart")
		if err := errors.Join(ref.ValidateRegistry(), ref.ValidateRepository()); err != nil {
			return fmt.Errorf("url: %q: write oci://HOST/PATH; a path has lower case letters, digits and . _ - / between them", c.URL)
		}
	case "file":
		if u.Host != "" && u.Host != "localhost" || !path.IsAbs(u.Path) || u.RawQuery != "" || u.User != nil {
			return errors.New("url: write file:///PATH, with an absolute path")
		}
	default:
		return fmt.Errorf("url: the scheme %.20q is not one of https, http, oci and file; remove repository %.250q", u.Scheme, c.Name)
	}
	return nil
}

// ociReference is where the tags of a chart are.
func ociReference(u *url.URL, chart string) registry.Reference {
	return registry.Reference{Registry: u.Host, Repository: strings.TrimPrefix(strings.Trim(u.Path, "/")+"/"+chart, "/")}
}

// Answer is what a repository said when it was last asked. It is immutable.
type Answer struct {
	At           time.Time `json:"at"` // when the repository last confirmed it
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"lastModified,omitempty"`
	// Charts has the versions of each chart as the repository writes them, in its order; in tags "_" is "+".
	// What semver does not understand is left out, and charts without a version.
	Charts map[string][]string `json:"charts"`
}

// Result is how a question ended. It is a label value of metrics.
type Result string

// The results.
const (
	OK           Result = "ok"
	NotModified  Result = "not_modified"
	Unauthorized Result = "unauthorized" // the credentials are missing or wrong
	Forbidden    Result = "forbidden"    // they are not enough
	NotFound     Result = "not_found"
	RateLimited  Result = "rate_limited"
	TooLarge     Result = "too_large"
	Invalid      Result = "invalid" // it is not an index, or not a list of tags
	Failed       Result = "error"   // anything else, such as a timeout
)

// Results returns every result.
func Results() []Result {
	return []Result{OK, NotModified, Unauthorized, Forbidden, NotFound, RateLimited, TooLarge, Invalid, Failed}
}

// Reply is what came of one question.
type Reply struct {
	Answer     *Answer // nil if the repository gave none
	Result     Result
	RetryAfter time.Duration // 0 if the repository did not say
	// Err is nil if Answer is set. Its text is one line of at most 512 bytes of UTF-8, without credentials.
	Err error
}

// Options are the same for all repositories.
type Options struct {
	UserAgent string
	// DockerConfig is Docker's config.json. If it is "", it is where Docker looks for it.
	DockerConfig string
	Timeout      time.Duration // of a question; 0 is 2 minutes
	// HeaderTimeout is how long a server may take to begin its response; 0 is 30 seconds.
	HeaderTimeout time.Duration
}

// limits bound what a repository can cost.
type limits struct {
	text     int64 // bytes of an index, decompressed
	whole    int   // bytes of an index that may be decoded as a whole
	piece    int   // bytes of what an index says about a version
	versions int   // of an index, with those that are left out
	kept     int   // bytes that an answer takes, about

	page, tagBytes int64
	tags, pages    int
}

// Repository asks one repository. It is safe for concurrent use.
type Repository struct {
	config  Config
	options Options
	limits  limits
	now     func() time.Time
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// New returns a Repository of a Config that Check accepts. It starts nothing, and holds nothing open between
// questions.
func New(c Config, o Options) *Repository {
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.HeaderTimeout == 0 {
		o.HeaderTimeout = 30 * time.Second
	}
	dialer := net.Dialer{Timeout: o.HeaderTimeout}
	return &Repository{config: c, options: o, now: time.Now, dial: dialer.DialContext, limits: limits{
		text: 256 << 20, whole: 2 << 20, piece: 1 << 20, versions: 200_000, kept: 64 << 20,
		page: 4 << 20, tagBytes: 16 << 20, tags: 100_000, pages: 10_000,
	}}
}

// Ask asks for the index, or, in an OCI repository, for the tags of one chart; running is a version of it that a
// registry lets pull if it lets anything pull. The last answer to the same question saves the repository from
// giving it again; it may be nil.
func (r *Repository) Ask(ctx context.Context, chart, running string, last *Answer) Reply {
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	u, err := url.Parse(r.config.URL)
	if err != nil {
		return r.failed(fail(Failed, "url: not a URL"))
	}
	user, err := r.user(u)
	if err != nil {
		return r.failed(err)
	}
	u.User = nil
	var reply Reply
	switch u.Scheme {
	case "oci":
		reply, err = r.askRegistry(ctx, u, user, chart, running, last)
	case "file":
		reply, err = r.readFile(ctx, filepath.FromSlash(u.Path), last)
	default:
		reply, err = r.askServer(ctx, u, user, last)
	}
	if err != nil {
		secrets := []string{user.password, base64.StdEncoding.EncodeToString([]byte(user.name + ":" + user.password))}
		for _, values := range u.Query() {
			secrets = append(secrets, values...)
		}
		failed := r.failed(err, secrets...)
		failed.RetryAfter = reply.RetryAfter
		return failed
	}
	return reply
}

// failure is an error with its result. Its text says what to do where that is known.
type failure struct {
	result Result
	text   string
}

func (f *failure) Error() string { return f.text }

func fail(result Result, format string, args ...any) error {
	return &failure{result: result, text: fmt.Sprintf(format, args...)}
}

func (r *Repository) failed(err error, secrets ...string) Reply {
	result, text := Failed, ""
	var f *failure
	switch {
	case errors.As(err, &f):
		result, text = f.result, f.text
	case errors.Is(err, context.Canceled):
		text = "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		text = fmt.Sprintf("no complete answer within %s", r.options.Timeout)
	case errors.Is(err, io.ErrUnexpectedEOF):
		text = "the response is cut off"
	default:
		text = cause(err).Error()
	}
	return Reply{Result: result, Err: errors.New(oneLine(fmt.Sprintf("repository %q: %s", r.config.Name, scrub(text, secrets))))}
}

// cause is the error without the URL that net/http puts in front of it.
func cause(err error) error {
	for u := (*url.Error)(nil); errors.As(err, &u); {
		err = u.Err
	}
	return err
}

var (
	userinfoInText = regexp.MustCompile(`://[^\s"'<>]*@`)
	queryInText    = regexp.MustCompile(`\?[^\s"']*`)
)

// scrub removes credentials from a text: what is known to be secret, and of URLs the user and the query.
func scrub(text string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) >= minSecret {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return queryInText.ReplaceAllString(userinfoInText.ReplaceAllString(text, "://"), "?…")
}

// oneLine makes a text fit for a log line and a page.
func oneLine(text string) string {
	text = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) <= maxError {
		return text
	}
	end := maxError - len("…")
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// printable tells whether a text can be a label value and stand in a line.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// validName tells whether a chart can have the name.
func validName(name string) bool { return name != "" && len(name) <= maxName && printable(name) }
