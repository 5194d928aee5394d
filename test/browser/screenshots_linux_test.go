package browser

import (
	"bytes"
	"flag"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

var update = flag.Bool("update", false, "write the screenshots that the README shows")

// A screenshot in the repository is as large as it needs to be read, and not so large that clones feel it.
const mostScreenshot = 300_000 // bytes

// TestScreenshots takes the README's pictures of real traffic: a page, and a transfer over a slow link that loses
// segments by rules, so that the pictures tell the same story each time.
func TestScreenshots(t *testing.T) {
	l := serve(t)
	p := l.page(t, look{1280, 860, false}, loopbackPage)
	l.sh(t, `"$CATFLAP" netem set delay 15ms && "$CATFLAP" netem set out delay 15ms rate 10mbit &&
		"$CATFLAP" netem add drop tcp data 60 from server && "$CATFLAP" netem add drop tcp data 250..251 from server`)
	t.Cleanup(l.clear(t))
	known := p.known()
	l.sh(t, "curl -so /dev/null "+cats+"/bytes/900000 & curl -so /dev/null "+cats+"/bytes/30000 & wait")
	p.until("the overview's numbers", `document.querySelectorAll('#path .drop').length > 0`)
	p.click("#show-history")
	p.settle()
	p.screenshot("overview")
	p.largest(known)
	p.until("the transfer's end", `document.getElementById('conn-state').textContent === 'CLOSED'`)
	p.settle()
	eval[bool](p, `(async () => { const { ladder } = await import('./main.js'); const at = ladder.rows.find((r) => r.e?.retransmit); ladder.scroll.scrollTop = at.y - 300; return true; })()`)
	p.settle()
	p.screenshot("transfer")
	p.do(chromedp.KeyEvent("d"), chromedp.KeyEvent("d"))
	p.until("the dark", `document.documentElement.dataset.theme === 'dark'`)
	p.settle()
	p.screenshot("transfer-dark")
	p.click(`#ladder .row[data-retransmit]`)
	p.until("the packet's bytes", `document.querySelectorAll('#packet .byte').length > 20`)
	eval[bool](p, `(() => { const li = [...document.querySelectorAll('#packet .fields li')].find((l) => l.firstChild.textContent === 'Sequence number'); li.focus(); return true; })()`)
	p.settle()
	p.screenshot("packet-dark")
	p.do(chromedp.KeyEvent("d"), chromedp.KeyEvent("\x1b"))
	p.visit("#/")
	p.until("the overview", `!document.getElementById('overview').hidden`)
	p.tour(l)
	p.screenshot("tour")
}

// largest shows the connection that has carried most, of those that were not there before.
func (p *tab) largest(known []int) {
	p.Helper()
	id := `(async () => { const { model } = await import('./model.js'); const c = model.connections.filter((c) => !` + asJSON(known) + `.includes(c.id)).sort((a, b) => b.tx - a.tx)[0]; location.hash = '#/conn/' + c.id; return c.id; })()`
	eval[int](p, id)
	p.until("its ladder", `document.querySelectorAll('#ladder .row').length > 5`)
}

// screenshot checks a picture of the page, and writes it to the repository with -update.
func (p *tab) screenshot(name string) {
	p.Helper()
	p.keep(name, false)
	b := p.png(false)
	if _, err := png.DecodeConfig(bytes.NewReader(b)); err != nil {
		p.Fatalf("%s: %v", name, err)
	}
	if len(b) > mostScreenshot {
		p.Errorf("the screenshot %s has %d bytes; want at most %d", name, len(b), mostScreenshot)
	}
	file := filepath.Join("screenshots", name+".png")
	if *update {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			p.Fatal(err)
		}
	}
	if _, err := os.Stat(file); err != nil {
		p.Errorf("the repository lacks it: %v; go test ./test/browser -run TestScreenshots -update makes it", err)
	}
}
