package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
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
	"github.com/chromedp/chromedp/kb"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
)

var screenshots = flag.String("screenshots", "", "folder to write screenshots of the status page to")

// seeded starts an exporter for two namespaces with releases of several kinds, and returns it and the Helms of both.
func seeded(t *testing.T) (e *exporter, shop, payments helm) {
	t.Helper()
	shop, payments = newHelm(t, "helm4", newNamespace(t, "shop"), "secret"), newHelm(t, "helm3", newNamespace(t, "payments"), "secret")
	shop.run(t, "install storefront chart:web")
	shop.run(t, "upgrade storefront chart:web")
	shop.run(t, "install my.app chart:web")
	payments.run(t, "install cache chart:deprecated")
	payments.run(t, "install ledger chart:web")
	payments.fail(t, "upgrade ledger chart:web --set broken=true", refusedPort)
	e = startExporter(t, shared.admin(), "--namespaces="+shop.namespace+","+payments.namespace)
	e.awaitReady(t)
	return e, shop, payments
}

func TestStatusPageInABrowser(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	e, shop, payments := seeded(t)
	b.open(e.pages + "/")
	b.is(tableOfReleases, "ledger failed 2, cache deployed 1, my.app deployed 1, storefront deployed 2")
	b.is(`document.querySelector(".facets").innerText.replace(/\s+/g, " ").trim()`, "deployed 3 failed 1")

	t.Log("filters apply while one types, and are part of the URL")
	b.do(chromedp.SendKeys(chromedp.CSS("#q"), "STORE"))
	b.is(tableOfReleases, "storefront deployed 2")
	b.is("location.search", "?q=STORE")
	b.do(chromedp.Reload())
	b.is(tableOfReleases, "storefront deployed 2")
	b.is(`document.querySelector("#q").value`, "STORE")
	b.open(e.pages + "/?namespace=" + shop.namespace)
	b.is(tableOfReleases, "my.app deployed 1, storefront deployed 2")
	b.open(e.pages + "/")
	b.click(".facets .failed")
	b.is(tableOfReleases, "ledger failed 2")
	b.is("location.search", "?status=failed")

	t.Log("columns sort")
	b.open(e.pages + "/")
	b.click("th.c-name a")
	b.is(tableOfReleases, "cache deployed 1, ledger failed 2, my.app deployed 1, storefront deployed 2")
	b.click("th.c-name a")
	b.is(tableOfReleases, "storefront deployed 2, my.app deployed 1, ledger failed 2, cache deployed 1")
	b.is(`document.querySelector("th.c-name").ariaSort`, "descending")

	t.Log("a release has a page, which an upgrade changes")
	b.click(`a[href$="/storefront"]`)
	b.is(`document.querySelector("h1").innerText`, "storefront deployed")
	shop.run(t, "upgrade storefront chart:site-settings")
	eventually(t, patience, e.answers("/api/v1/releases/"+shop.namespace+"/storefront", http.StatusOK, `"revision":3`, `"chart":"site-settings"`, `"status":"deployed"`))
	b.do(chromedp.Reload())
	b.is(`document.querySelector("tbody th").innerText`, "3")
	b.is(`document.querySelector("dl").innerText.includes("site-settings") + ""`, "true")
	b.click(`a[href="../../"]`)
	b.is(tableOfReleases, "ledger failed 2, cache deployed 1, my.app deployed 1, storefront deployed 3")
	b.silent(e.pages)

	t.Run("behind the prefix of a proxy", func(t *testing.T) { behindAPrefix(t, b.in(t), e) })
	t.Run("in both themes, on a desk and on a phone", func(t *testing.T) {
		looks(t, b.in(t), map[string]string{"overview": e.pages + "/", "release": e.pages + "/releases/" + payments.namespace + "/ledger"})
	})
	t.Run("by keyboard", func(t *testing.T) {
		b.in(t).open(e.pages + "/")
		b.do(chromedp.KeyEvent(kb.Tab))
		b.is("document.activeElement.innerText", "Skip to the content")
		b.do(chromedp.KeyEvent(kb.Enter))
		b.is("location.hash", "#main")
		b.do(chromedp.KeyEvent(kb.Tab))
		b.is("document.activeElement.id", "q")
		b.is(`getComputedStyle(document.activeElement).outlineStyle`, "solid")
	})
	t.Run("without JavaScript", func(t *testing.T) {
		b.in(t).scripts(false)
		defer b.scripts(true)
		b.open(e.pages + "/?status=deployed")
		b.do(chromedp.SendKeys(chromedp.CSS("#q"), "web"+kb.Enter))
		b.is(tableOfReleases, "my.app deployed 1")
		b.is("location.search", "?q=web&namespace=&chart=&status=deployed")
	})
	b.silent(e.pages)
}

// behindAPrefix opens the pages as kubectl proxy serves them.
func behindAPrefix(t *testing.T, b *browser, e *exporter) {
	const prefix = "/api/v1/namespaces/monitoring/services/http:helm-state-metrics:http/proxy"
	target := expect.Value(url.Parse(e.pages))(t)
	server := httptest.NewServer(http.StripPrefix(prefix, httputil.NewSingleHostReverseProxy(target)))
	defer server.Close()
	b.mu.Lock()
	before := b.hosts
	b.hosts = nil
	b.mu.Unlock()
	b.open(server.URL + prefix + "/")
	b.do(chromedp.SendKeys(chromedp.CSS("#q"), "my.app"))
	b.is(tableOfReleases, "my.app deployed 1")
	b.click(`a[href$="/my.app"]`)
	b.is(`document.querySelector("h1").innerText`, "my.app deployed")
	b.click(`a[href="../../"]`)
	b.click(".facets .failed")
	b.is(tableOfReleases, "ledger failed 2")
	b.is(`getComputedStyle(document.querySelector(".facets")).listStyleType`, "none") // The style sheet is loaded.
	b.is("location.pathname", prefix+"/")
	b.silent(server.URL)
	b.mu.Lock()
	b.hosts = before
	b.mu.Unlock()
}

// poorContrast lists the texts whose contrast is below 4.5 to 1, the limit of WCAG 2 at level AA.
const poorContrast = `(() => {
	const channels = color => color.match(/[\d.]+/g).map(Number);
	const luminance = color => channels(color).slice(0, 3).map(c => c / 255)
		.map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
		.reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
	const back = e => {
		for (; e; e = e.parentElement) {
			const color = getComputedStyle(e).backgroundColor;
			if ((channels(color)[3] ?? 1) > 0) return color;
		}
		return "rgb(255, 255, 255)";
	};
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	const poor = [];
	let seen = 0;
	while (texts.nextNode()) {
		const text = texts.currentNode.textContent.trim(), e = texts.currentNode.parentElement;
		if (!text || !e.checkVisibility()) continue;
		seen++;
		const [a, b] = [luminance(getComputedStyle(e).color), luminance(back(e))].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(text);
	}
	return seen < 20 ? "only " + seen + " texts" : poor.join(", ");
})()`

// looks checks how pages look, and writes screenshots if the flag says so.
func looks(t *testing.T, b *browser, pages map[string]string) {
	for _, theme := range []string{"light", "dark"} {
		b.theme(theme)
		for _, device := range []struct {
			name          string
			width, height int64
		}{{"desk", 1280, 720}, {"phone", 390, 844}} {
			b.do(chromedp.EmulateViewport(device.width, device.height))
			for page, url := range pages {
				b.open(url)
				b.is(poorContrast, "")
				if wide := value[int64](b, "document.documentElement.scrollWidth"); wide > device.width {
					t.Errorf("%s, %s, %s: the page is %d pixels wide on %d", page, theme, device.name, wide, device.width)
				}
				if *screenshots != "" {
					png := expect.Value(try(b, chromedp.CaptureScreenshot()))(t)
					expect.NoError(t, os.WriteFile(filepath.Join(*screenshots, strings.Join([]string{page, theme, device.name}, "-")+".png"), png, 0o600))
				}
			}
		}
	}
	b.do(chromedp.EmulateViewport(1280, 900))
	b.theme("light")
}

// browser is a real one without a window. Messages on its console and requests to other hosts fail the test.
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
	expect.NoError(t, chromedp.Listen(ctx, b.hear))
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

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	expect.Value(try(b, chromedp.Steps(steps...)))(b.t)
}

func try[T any](b *browser, action chromedp.Action[T]) (T, error) {
	limited, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Run(limited, action)
}

func tell[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	limited, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	expect.Value(chromedp.Call(limited, command, params))(b.t)
}

func (b *browser) open(address string) {
	b.t.Helper()
	b.do(chromedp.Navigate(address), chromedp.WaitReady(chromedp.CSS("footer")))
}

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

func (b *browser) theme(name string) {
	b.t.Helper()
	tell(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
}

func (b *browser) scripts(on bool) {
	b.t.Helper()
	tell(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
}

// tableOfReleases is an expression for the releases on the status page, with their statuses and newest revisions.
const tableOfReleases = `[...document.querySelectorAll("tbody tr")].map(row =>
	["name", "status", "revision"].map(c => row.querySelector(".c-" + c).textContent.trim()).join(" ")).join(", ")`
