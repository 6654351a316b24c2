package e2e_test

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
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
	b.open(e.url + "/")
	b.is(tableOfReleases, "ledger failed 2, cache deployed 1, my.app deployed 1, storefront deployed 2")
	b.is(`document.querySelector(".facets").innerText.replace(/\s+/g, " ").trim()`, "deployed 3 failed 1")

	t.Log("filters apply while one types, and are part of the URL")
	b.do(chromedp.SendKeys(chromedp.CSS("#q"), "STORE"))
	b.is(tableOfReleases, "storefront deployed 2")
	b.is("location.search", "?q=STORE")
	b.do(chromedp.Reload())
	b.is(tableOfReleases, "storefront deployed 2")
	b.is(`document.querySelector("#q").value`, "STORE")
	b.open(e.url + "/?namespace=" + shop.namespace)
	b.is(tableOfReleases, "my.app deployed 1, storefront deployed 2")
	b.open(e.url + "/")
	b.click(".facets .failed")
	b.is(tableOfReleases, "ledger failed 2")
	b.is("location.search", "?status=failed")

	t.Log("columns sort")
	b.open(e.url + "/")
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
	b.silent(e.url)

	t.Run("behind the prefix of a proxy", func(t *testing.T) { behindAPrefix(t, b.in(t), e) })
	t.Run("in both themes, on a desk and on a phone", func(t *testing.T) {
		looks(t, b.in(t), map[string]string{"overview": e.url + "/", "release": e.url + "/releases/" + payments.namespace + "/ledger"})
	})
	t.Run("by keyboard", func(t *testing.T) {
		b.in(t).open(e.url + "/")
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
		b.open(e.url + "/?status=deployed")
		b.do(chromedp.SendKeys(chromedp.CSS("#q"), "web"+kb.Enter))
		b.is(tableOfReleases, "my.app deployed 1")
		b.is("location.search", "?q=web&namespace=&chart=&status=deployed")
	})
	b.silent(e.url)
}

// behindAPrefix opens the pages as kubectl proxy serves them.
func behindAPrefix(t *testing.T, b *browser, e *exporter) {
	const prefix = "/api/v1/namespaces/monitoring/services/http:helm-state-metrics:http/proxy"
	target, err := url.Parse(e.url)
	if err != nil {
		t.Fatal(err)
	}
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
					png, err := try(b, chromedp.CaptureScreenshot())
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(*screenshots, strings.Join([]string{page, theme, device.name}, "-")+".png"), png, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	b.do(chromedp.EmulateViewport(1280, 900))
	b.theme("light")
}
