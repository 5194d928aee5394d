package browser

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/catflap/catflap/internal/testenv"
)

const (
	pageTimeout = 5 * time.Minute // of all that a test does with one page
	waitTimeout = 2 * time.Minute // for something to appear on it: only what never does takes so long
)

// flags has Chromium run as root without a display, and ask nobody on the network for anything.
func flags(dir string) []chromedp.ExecAllocatorOption {
	list := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath("chromium"), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.UserDataDir(dir),
	}
	for _, name := range []string{"disable-background-networking", "disable-component-update", "disable-sync", "disable-quic", "disable-dev-shm-usage", "hide-scrollbars", "no-proxy-server"} {
		list = append(list, chromedp.Flag(name, true))
	}
	return list
}

// shared is one browser for all tests, which each have a profile of their own in it.
var shared struct {
	sync.Mutex
	ctx context.Context
}

func sharedBrowser(tb testing.TB) context.Context {
	tb.Helper()
	testenv.Require(tb, "chromium")
	shared.Lock()
	defer shared.Unlock()
	if shared.ctx != nil {
		return shared.ctx
	}
	dir, err := os.MkdirTemp("", "catflap-browser-")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop, err := start(flags(dir))
	if err != nil {
		tb.Fatal(err)
	}
	shared.ctx = ctx
	atEnd = append(atEnd, func() {
		stop()
		os.RemoveAll(dir)
	})
	return ctx
}

// start starts a browser; stop ends it and waits for that.
func start(opts []chromedp.ExecAllocatorOption) (ctx context.Context, stop func(), err error) {
	ctx, cancelAllocator := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(ctx)
	stop = func() {
		chromedp.Cancel(ctx)
		cancel()
		cancelAllocator()
	}
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, nil, fmt.Errorf("chromium does not start: %w", err)
	}
	return ctx, stop, nil
}

// look is how the page is looked at.
type look struct {
	width, height int64
	dark          bool
}

var (
	desktop = look{1280, 900, false}
	night   = look{1280, 900, true}
	phone   = look{390, 844, false}
)

// tab is a page, which notes what goes wrong in it.
type tab struct {
	testing.TB
	ctx context.Context

	mu     sync.Mutex
	errors []string
}

// open shows a page in a profile of its own. Errors on the page's console, exceptions and violations of the content
// security policy fail the test at its end.
func open(tb testing.TB, l look, url string) *tab {
	tb.Helper()
	return openIn(tb, sharedBrowser(tb), l, url)
}

func openIn(tb testing.TB, browser context.Context, l look, url string) *tab {
	tb.Helper()
	t := &tab{TB: tb}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	if err := chromedp.Do(ctx); err != nil {
		tb.Fatal(err)
	}
	timed, stop := context.WithTimeout(ctx, pageTimeout)
	t.ctx = timed
	heard := make(chan struct{})
	messages := chromedp.Console(timed)
	go func() {
		defer close(heard)
		for m, err := range messages {
			if err != nil {
				return
			}
			t.note(m)
		}
	}()
	tb.Cleanup(func() {
		stop()
		<-heard
		chromedp.Cancel(ctx)
		cancel()
		for _, e := range t.errors {
			tb.Errorf("the page complains: %s", e)
		}
	})
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	t.do(
		func(ctx context.Context, g *chromedp.Target) (chromedp.Void, error) {
			_, err := cdp.Call(ctx, g, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.width < 500})
			return chromedp.Void{}, err
		},
		func(ctx context.Context, g *chromedp.Target) (chromedp.Void, error) {
			_, err := cdp.Call(ctx, g, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
			return chromedp.Void{}, err
		},
		chromedp.Navigate(url))
	return t
}

func (t *tab) note(m chromedp.ConsoleMessage) {
	switch m.Type {
	case chromedp.ConsoleWarning, chromedp.ConsoleError, chromedp.ConsoleException:
		t.mu.Lock()
		t.errors = append(t.errors, fmt.Sprintf("%s: %s %s:%d", m.Type, m.Text, m.URL, m.Line))
		t.mu.Unlock()
	}
}

// expected forgets the complaints with a text in them, which a test causes on purpose.
func (t *tab) expected(part string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rest []string
	for _, e := range t.errors {
		if !strings.Contains(e, part) {
			rest = append(rest, e)
		}
	}
	t.errors = rest
}

func (t *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(t.ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

func await(p *runtime.EvaluateParams) { chromedp.EvalAwaitPromise(p) }

// eval returns the value of an expression, which may be a promise.
func eval[T any](t *tab, js string) T {
	t.Helper()
	v, err := chromedp.Run(t.ctx, chromedp.Evaluate[T](js, await))
	if err != nil {
		t.Fatalf("%s: %v", js, err)
	}
	return v
}

// until waits for an expression, or promise, to be true, and says what it has waited for if it never is.
func (t *tab) until(what, js string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, waitTimeout)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](js, await))
		if err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			t.keep("failed", false)
			t.Fatalf("waited for %s: %s is %v, %v", what, js, ok, err)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// click presses what a selector finds, as a pointer does.
func (t *tab) click(css string) {
	t.Helper()
	t.do(chromedp.Click(chromedp.CSS(css)))
}

// visit changes the address's fragment, as a link on the page does.
func (t *tab) visit(hash string) {
	t.Helper()
	eval[string](t, fmt.Sprintf("location.hash = %q", hash))
}

// settle waits until what was asked for has been painted.
func (t *tab) settle() {
	t.Helper()
	eval[bool](t, `new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(() => done(true))), 250))`)
}

func (t *tab) png(whole bool) []byte {
	t.Helper()
	png, err := chromedp.Run(t.ctx, func(ctx context.Context, g *chromedp.Target) ([]byte, error) {
		res, err := cdp.Call(ctx, g, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng, CaptureBeyondViewport: &whole})
		return res.Data, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return png
}

// artefacts is the folder that pictures are kept in, if the environment names one.
const artefacts = "CATFLAP_ARTEFACTS"

// keep keeps a picture of the page, or of the whole of it, as an artefact.
func (t *tab) keep(name string, whole bool) {
	t.Helper()
	if os.Getenv(artefacts) != "" {
		t.keepFile(name+".png", t.png(whole))
	}
}

// keepFile keeps a file as an artefact.
func (t *tab) keepFile(name string, b []byte) {
	t.Helper()
	dir := os.Getenv(artefacts)
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name = strings.NewReplacer("/", "-", ",_", "-").Replace(t.Name()) + "-" + name
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}
