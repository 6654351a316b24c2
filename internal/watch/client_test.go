package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// failing is a round tripper that fails.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func errorOf(rt http.RoundTripper, req *http.Request) error {
	resp, err := rt.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close() // it is empty
	}
	return err
}

// TestNoErrorIsRepeatedByClientGo asks client-go's own functions about each error that they know.
func TestNoErrorIsRepeatedByClientGo(t *testing.T) {
	for _, err := range []error{
		io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded, fmt.Errorf("read: %w", syscall.ECONNRESET),
		errors.New("http: can't write HTTP request on broken connection"),
		errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=1"),
		errors.New("http2: client connection lost"), errors.New("read tcp: use of closed network connection"),
	} {
		req, bad := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://cluster.invalid", nil)
		if bad != nil {
			t.Fatal(bad)
		}
		got := errorOf(transport{failing{err}}, req)
		if got == nil {
			t.Fatalf("%v is no error any more", err)
		}
		got = &url.Error{Op: "Get", URL: req.URL.String(), Err: got} // as http.Client returns it
		if utilnet.IsProbableEOF(got) || utilnet.IsTimeout(got) || utilnet.IsConnectionReset(got) || utilnet.IsHTTP2ConnectionLost(got) {
			t.Errorf("client-go knows %q", got)
		}
		if !strings.Contains(got.Error(), "no response: ") || !isUnavailable(got) {
			t.Errorf("%q does not say that the API server is away", got)
		}
	}
}

func TestTheEndOfAContextStaysOne(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://cluster.invalid", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errorOf(transport{failing{context.Canceled}}, req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
