package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a real browser without a window. Every error and warning of its console, and every request to another
// host, fails the test.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	hosts    []string // that got requests; guarded by mu
	problems []string // errors and warnings of the console; guarded by mu
}

// startBrowser starts Chromium, which ends with the test.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		err = errors.New("no program chromium is installed; on Debian: apt-get install chromium")
	}
	require(t, "chromium", err)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // The sandbox does not work for root.
		chromedp.WindowSize(1280, 900),
		chromedp.UserDataDir(t.TempDir()),
	)
	allocated, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, closeTab := chromedp.NewContext(allocated)
	t.Cleanup(closeTab)
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	for _, enable := range []cdp.Command[cdp.Empty, cdp.Empty]{runtime.Enable, log.Enable} {
		tell(b, enable, cdp.Empty{})
	}
	tell(b, network.Enable, network.EnableParams{})
	return b
}

// in attributes errors of the browser to a subtest until it ends.
func (b *browser) in(t *testing.T) *browser {
	t.Helper()
	outer := b.t
	b.t = t
	t.Cleanup(func() { b.t = outer })
	return b
}

// hear collects the events of a tab.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err == nil && !slices.Contains(b.hosts, u.Host) {
			b.hosts = append(b.hosts, u.Host)
		}
	case *runtime.EventConsoleAPICalled:
		b.problems = append(b.problems, fmt.Sprintf("console.%s", e.Type))
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		b.problems = append(b.problems, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
	}
}

// silent fails the test if there was an error or a warning, or a request to another host than that of the given URL.
func (b *browser) silent(base string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, problem := range b.problems {
		b.t.Errorf("the browser complains: %s", problem)
	}
	if want := strings.Split(base, "/")[2]; len(b.hosts) != 1 || b.hosts[0] != want {
		b.t.Errorf("the browser asked %q, want %q alone", b.hosts, want)
	}
}

// do runs actions in the browser, within patience.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if _, err := try(b, chromedp.Steps(steps...)); err != nil {
		b.t.Fatal(err)
	}
}

func try[T any](b *browser, action chromedp.Action[T]) (T, error) {
	limited, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Run(limited, action)
}

// tell sends a command of the protocol.
func tell[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	limited, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(limited, command, params); err != nil {
		b.t.Fatal(err)
	}
}

// open loads a page.
func (b *browser) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url), chromedp.WaitReady(chromedp.CSS("footer")))
}

// value evaluates an expression in JavaScript.
func value[T any](b *browser, expression string) T {
	b.t.Helper()
	got, err := try(b, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return got
}

// is waits until an expression has the wanted value.
func (b *browser) is(expression, want string) {
	b.t.Helper()
	eventually(b.t, patience, func() error {
		got, err := try(b, chromedp.Evaluate[string](expression))
		if err == nil && got != want {
			err = fmt.Errorf("%s is %q, want %q", expression, got, want)
		}
		return err
	})
}

// click clicks on a link and waits for the next page.
func (b *browser) click(selector string) {
	b.t.Helper()
	limited, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	resp, err := chromedp.RunResponse(limited, chromedp.Click(chromedp.CSS(selector)))
	if err != nil || resp.Status >= 400 {
		b.t.Fatalf("click on %s: %v %v", selector, resp, err)
	}
}

// theme makes the browser prefer light or dark.
func (b *browser) theme(name string) {
	b.t.Helper()
	tell(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
}

// scripts turns JavaScript on or off.
func (b *browser) scripts(on bool) {
	b.t.Helper()
	tell(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
}

// tableOfReleases is an expression for what the status page lists: each release with its status and its newest
// revision.
const tableOfReleases = `[...document.querySelectorAll("tbody tr")].map(row =>
	["name", "status", "revision"].map(c => row.querySelector(".c-" + c).textContent.trim()).join(" ")).join(", ")`
