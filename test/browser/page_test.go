package browser

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// model is the page's module of what it knows: modules are there once, so a test sees the page's own.
const model = `(await import('./model.js')).model`

// storyPlots are a short page, and transfers with losses that are repaired in several ways.
func storyPlots() []plot {
	return []plot{
		{client: "10.9.0.1:40000", start: 1, bytes: 12, rtt: 0.02, rate: 2e6},
		{client: "10.9.0.1:40007", start: 2, bytes: 1_200_000, rtt: 0.02, rate: 1.2e6, lose: map[int]bool{60: true, 210: true, 212: true, 500: true}},
		{client: "10.9.0.1:40014", start: 2.5, bytes: 9_000, rtt: 0.02, rate: 2e6, lose: map[int]bool{3: true}},
	}
}

func TestNothingYet(t *testing.T) {
	f := newFixture(t)
	f.empty = true
	p := open(t, desktop, f.URL)
	p.until("the hint with the stack's address", `document.querySelector('#sockets .empty code')?.textContent === 'curl http://10.9.0.2/'`)
	p.keep("empty", false)
}

func TestReconnects(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL+"#/conn/1")
	rows := `document.querySelectorAll('#ladder .row').length`
	p.until("the ladder", rows+" > 5")
	before := eval[int](p, rows)
	f.hangUp(true)
	p.until("the banner", `!document.getElementById('banner').hidden && /Disconnected.*Trying again in/.test(document.getElementById('banner').textContent)`)
	p.keep("disconnected", false)
	f.hangUp(false)
	p.click("#banner button")
	p.until("the stream", `document.getElementById('banner').hidden && document.getElementById('pulse').dataset.state === 'on'`)
	p.until("the ladder again", rows+" > 5")
	if got := eval[int](p, rows); got != before {
		t.Errorf("after a reconnection the ladder has %d rows; before it had %d", got, before)
	}
	p.expected("api/stream")
}

func TestForgottenConnection(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL+"#/conn/99")
	p.until("what has become of it", `document.getElementById('conn-facts').textContent.includes('It is not kept') && document.getElementById('banner').hidden`)
	p.keep("gone", false)
	p.click("#conn-facts a")
	p.until("the overview", `document.querySelectorAll('#sockets tbody tr').length > 5`)
	p.expected("404")
}

// TestBrush zooms by dragging over one plot: all plots and the ladder show the same time.
func TestBrush(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL+"#/conn/2")
	p.until("the plots", `document.querySelectorAll('.plot .u-over').length === 3`)
	p.until("the transfer in them", `(async () => { const { span } = await import('./plot.js'); const [from, to] = span.range(); return to - from > 1.1; })()`)
	p.settle()
	type box struct{ X, Y, W, H float64 }
	b := eval[box](p, `(() => { const r = document.querySelector('#timeseq .u-over').getBoundingClientRect(); return { X: r.x, Y: r.y, W: r.width, H: r.height }; })()`)
	p.do(chromedp.DragAndDropXY(b.X+b.W*0.5, b.Y+b.H/2, b.X+b.W*0.7, b.Y+b.H/2))
	spans := `(async () => { const { span } = await import('./plot.js'); return span.min !== null ? [span.min, span.max] : null; })()`
	p.until("the span", `(async () => (await `+spans+`) !== null)()`)
	p.settle()
	got := eval[[]float64](p, spans)
	if w := got[1] - got[0]; w < 0.15 || w > 0.35 {
		t.Errorf("a fifth of 1.2 s was brushed; the span is %v", got)
	}
	p.until("the ladder's marks", `document.querySelectorAll('#ladder .row.brushed').length > 0`)
	p.keep("zoomed", false)
	p.click("#zoom-out")
	p.until("the whole", `(async () => (await `+spans+`) === null)()`)
}

func TestGapIsSeen(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	f.gap = 4711
	p := open(t, desktop, f.URL+"#/conn/1")
	p.until("the gap's row", `document.querySelector('#ladder .row.gap')?.textContent.includes('4,711 events are missing here')`)
}

func TestLongRunsFold(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL+"#/conn/2")
	ladder := `(await import('./main.js')).ladder`
	p.until("folded runs", `(async () => `+ladder+`.rows.some((r) => r.kind === 'run'))()`)
	packets := f.stories[1].pkt
	rows := eval[int](p, `(async () => `+ladder+`.rows.length)()`)
	if rows > packets/5 {
		t.Errorf("%d rows of %d packets: runs are not folded", rows, packets)
	}
	// Whatever is folded, no packet is forgotten: rows and runs together cover all events.
	covered := eval[bool](p, `(async () => {
		const { ladder } = await import('./main.js'), { model } = await import('./model.js');
		const seen = new Set();
		for (const r of ladder.rows) for (let i = r.i; i <= (r.last ?? r.i); i++) seen.add(i);
		return model.events.every((e, i) => seen.has(i + model.base));
	})()`)
	if !covered {
		t.Error("some events are in no row")
	}
	p.until("a run in sight", `(async () => { const { ladder } = await import('./main.js'); const r = ladder.rows.find((r) => r.kind === 'run'); ladder.scroll.scrollTop = r.y - 100; return !!document.querySelector('#ladder .row.run'); })()`)
	p.click("#ladder .row.run")
	p.until("the run unfolded", fmt.Sprintf(`(async () => %s.rows.length > %d)()`, ladder, rows))
	p.click("#fold")
	p.until("all rows", fmt.Sprintf(`(async () => %s.rows.filter((r) => r.kind === 'packet').length === %d)()`, ladder, packets))
}

func TestLossIsDrawn(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL+"#/conn/3")
	p.until("the retransmission", `!!document.querySelector('#ladder [data-retransmit]')`)
	type row struct{ Seq, Lost, Again, Text string }
	rows := eval[[]row](p, `[...document.querySelectorAll('#ladder .row')].filter((r) => r.dataset.lost || r.dataset.retransmit).map((r) => ({ Seq: r.querySelector('.label').textContent, Lost: r.dataset.lost ?? '', Again: r.dataset.retransmit ?? '', Text: r.getAttribute('aria-label') }))`)
	if len(rows) != 2 || rows[0].Lost != "lost: loss 2%" || rows[1].Again != "fast" {
		t.Fatalf("the ladder marks %+v; want one segment lost by loss 2%%, then one sent again, fast", rows)
	}
	if !strings.Contains(rows[1].Text, "three duplicate ACKs") {
		t.Errorf("the cause is told as %q; want it in words", rows[1].Text)
	}
	if a, b := strings.Fields(rows[0].Seq)[1], strings.Fields(rows[1].Seq)[1]; a != b || a != "2,897:4,345" {
		t.Errorf("lost %s, sent again %s; want both to be 2,897:4,345", a, b)
	}
	if n := eval[int](p, `document.querySelectorAll('#ladder .row[data-lost] .cross').length`); n != 1 {
		t.Errorf("%d crosses; want one, at the end of the lost segment's arrow", n)
	}
}

func TestAbsoluteNumbers(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL+"#/conn/1")
	label := `document.querySelector('#ladder .row[data-kind="SYN-ACK"] .label')?.textContent`
	p.until("relative numbers", label+`?.startsWith('SYN-ACK seq 0 · ack 1')`)
	p.click("#seq-abs")
	p.until("absolute numbers", label+fmt.Sprintf(`?.startsWith('SYN-ACK seq %d · ack %d')`, uint32(serverISN), uint32(clientISN)+1))
}

// TestTimeStops pauses, steps and scrubs: all pictures show the same moment.
func TestTimeStops(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL+"#/conn/1")
	p.until("the ladder", `document.querySelectorAll('#ladder .row.state').length >= 3`)
	here := `document.querySelector('#states .node.here')?.dataset.state`
	p.until("the last state", here+` === 'CLOSED '`)
	p.do(chromedp.KeyEvent(" "))
	p.until("the pause", `document.getElementById('pause').getAttribute('aria-pressed') === 'true'`)
	for range 3 {
		p.click("#step-back")
	}
	p.until("an earlier state", here+` === 'LAST-ACK'`)
	if later := eval[int](p, `document.querySelectorAll('#ladder .row.future').length`); later == 0 {
		t.Error("rows later than the moment are drawn as if they were past")
	}
	eval[bool](p, `(() => { const s = document.getElementById('scrub'); s.value = 345; return s.dispatchEvent(new Event('input', { bubbles: true })); })()`)
	p.until("the state at a third", here+` === 'ESTABLISHED'`)
	p.until("the header's state", `document.getElementById('conn-state').textContent === 'ESTABLISHED'`)
	// All numbers are of that moment, and the same in the ladder as in the head.
	head := func(packets int, received, sent string) {
		t.Helper()
		p.until(fmt.Sprintf("%d packets, %s received, %s sent", packets, received, sent), fmt.Sprintf(`(() => {
			const f = Object.fromEntries([...document.querySelectorAll('#conn-facts > div')].map((d) => [d.firstChild.textContent, d.lastChild.textContent]));
			return f.packets === '%d' && f.received === '%s' && f.sent === '%s' && document.getElementById('ladder-count').textContent === '%[1]d packets';
		})()`, packets, received, sent))
	}
	past := eval[int](p, `(async () => { const { model, view } = await import('./model.js'); return model.events.filter((e) => e.k === 'p' && e.t <= view.time).length; })()`)
	if past == 0 || past == f.stories[0].pkt {
		t.Errorf("a third of the time has %d packets", past)
	}
	head(past, "76 B", "152 B")
	p.keep("scrubbed", false)
	p.click("#go-live")
	p.until("the end again", here+` === 'CLOSED '`)
	head(f.stories[0].pkt, "76 B", "152 B")
}

// TestEndings: each way through the states is drawn for what it was, and red is for a reset alone.
func TestEndings(t *testing.T) {
	for _, tt := range []struct {
		name, states string
		rst          bool
		odd          string // class of the edge that is none of the figure's
		text         string
	}{
		{"FIN and ACK in one segment", "SYN-RECEIVED ESTABLISHED FIN-WAIT-1 TIME-WAIT CLOSED", false, "", "rcv FIN, ACK of FIN"},
		{"simultaneous close", "SYN-RECEIVED ESTABLISHED FIN-WAIT-1 CLOSING TIME-WAIT CLOSED", false, "", "rcv ACK of FIN"},
		{"simultaneous open", "SYN-SENT SYN-RECEIVED ESTABLISHED CLOSE-WAIT LAST-ACK CLOSED", false, "", "rcv SYN / snd SYN,ACK"},
		{"reset", "SYN-RECEIVED ESTABLISHED CLOSED", true, "reset", "RST"},
		{"given up", "SYN-RECEIVED ESTABLISHED FIN-WAIT-1 CLOSED", false, "silence", "no answer: given up"},
	} {
		f := newFixture(t, storyPlots()[0])
		s := f.stories[0]
		last := s.events[len(s.events)-1]
		s.events = slices.DeleteFunc(s.events, func(e ev) bool { return e.K == "s" })
		from := "LISTEN"
		if strings.HasPrefix(tt.states, "SYN-SENT") {
			from = "CLOSED"
		}
		for i, state := range strings.Fields(tt.states) {
			s.events = append(s.events, ev{K: "s", Seq: last.Seq + uint64(2*i+2), T: last.T + float64(i+1)*1e-3, From: from, To: state})
			from = state
		}
		if tt.rst {
			end := s.events[len(s.events)-1]
			s.events = append(s.events[:len(s.events)-1], ev{K: "p", Seq: end.Seq - 1, T: end.T, Out: ptr(false), Flags: "R", Plen: ptr(0), Len: 40}, end)
		}
		p := open(t, desktop, f.URL+"#/conn/1")
		p.until(tt.name+": the end", `document.querySelector('#states .node.here')?.dataset.state === 'CLOSED '`)
		odd := eval[[]string](p, `[...document.querySelectorAll('#states .edge.odd')].map((e) => e.getAttribute('class'))`)
		if want := "edge taken odd " + tt.odd; (tt.odd == "") != (len(odd) == 0) || len(odd) > 0 && odd[0] != want {
			t.Errorf("%s: edges %q, want %q", tt.name, odd, tt.odd)
		}
		taken := eval[[]string](p, `[...document.querySelectorAll('#states .edge-text.taken')].map((e) => e.textContent)`)
		if !slices.Contains(taken, tt.text) {
			t.Errorf("%s: the path says %q, want %q there", tt.name, taken, tt.text)
		}
		red := eval[bool](p, `[...document.querySelectorAll('#states .edge.taken')].some((e) => getComputedStyle(e).stroke === getComputedStyle(Object.assign(document.body.appendChild(document.createElement('i')), { style: 'color: var(--again)' })).color)`)
		if red != tt.rst {
			t.Errorf("%s: an edge is red: %v", tt.name, red)
		}
		p.keep("states-"+strings.ReplaceAll(tt.name, " ", "-"), true)
	}
}

func TestPacketPanel(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL+"#/conn/1")
	p.until("the ladder", `!!document.querySelector('#ladder .row[data-kind="SYN"]')`)
	p.click(`#ladder .row[data-kind="SYN"]`)
	p.until("the decision chain", `document.querySelectorAll('#chain li').length === 5`)
	field := func(name string) string {
		return eval[string](p, fmt.Sprintf(`(() => {
			const li = [...document.querySelectorAll('#packet .fields li')].find((l) => l.firstChild.textContent === %q);
			li.focus();
			return [...document.querySelectorAll('#packet .byte.lit')].map((b) => b.textContent).join('');
		})()`, name))
	}
	if got, want := field("Sequence number"), fmt.Sprintf("%08x", uint32(clientISN)); got != want {
		t.Errorf("the field's bytes that are lit are %s; want %s", got, want)
	}
	if got := field("Destination port"); got != "0050" {
		t.Errorf("the port's bytes that are lit are %s; want 0050", got)
	}
	p.keep("panel", false)
	p.do(chromedp.KeyEvent("\x1b"))
	p.until("the panel closed", `document.getElementById('packet').hidden`)
}

func TestTable(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL)
	p.until("the table", `document.querySelectorAll('#sockets tbody tr').length > 5`)
	if n := eval[int](p, `document.querySelectorAll('#sockets tbody tr').length`); n > 60 {
		t.Errorf("%d rows are made of 420 sockets; want only those in sight", n)
	}
	column := func(n int) []string {
		return eval[[]string](p, fmt.Sprintf(`[...document.querySelectorAll('#sockets tbody tr:not(.spacer) td:nth-child(%d)')].map((td) => td.textContent)`, n))
	}
	p.click(`#sockets th[data-key="sendq"] button`)
	p.click(`#sockets th[data-key="sendq"] button`)
	p.until("the order", `document.querySelector('#sockets th[data-key="sendq"]').getAttribute('aria-sort') === 'descending'`)
	p.settle()
	var queues []int
	for _, s := range column(6) {
		var n int
		fmt.Sscan(strings.ReplaceAll(s, ",", ""), &n)
		queues = append(queues, n)
	}
	if !slices.IsSortedFunc(queues, func(a, b int) int { return b - a }) || queues[0] < 80_000 {
		t.Errorf("by Send-Q, downwards: %v", queues)
	}
	p.do(chromedp.KeyEvent("/"))
	// A key that moves the focus is typed as well by the protocol, though not by a keyboard.
	p.until("the filter's focus", `document.activeElement.id === 'filter' && (document.activeElement.value = '') === ''`)
	p.do(chromedp.KeyEvent("fin-wait 10.9.0.2:4"))
	p.until("the filter", `/^20 of 420/.test(document.getElementById('sockets-count').textContent)`)
	for _, s := range column(1) {
		if s != "FIN-WAIT-2" {
			t.Errorf("the filter shows a row in %s", s)
		}
	}
	eval[bool](p, `(() => { const s = document.querySelector('#sockets'); s.scrollTop = s.scrollHeight; return true; })()`)
}

func TestChangesWantTheToken(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL)
	p.until("the sliders", `!!document.querySelector('#link-overview input[type=range]')?.offsetParent`)
	// They say what the link does, of directions that differ one.
	at := func(name string) string {
		return eval[string](p, `document.querySelector('[id$="-`+name+`"]').closest('.slider').querySelector('output').textContent`)
	}
	shown := `document.querySelector('.controls .words').value`
	p.until("the link's setting", shown+` === 'delay 10ms loss 2%'`)
	if d, l := at("delay"), at("loss"); d != "10ms" || l != "2%" {
		t.Errorf("the sliders stand at delay %s, loss %s; the link has delay 10ms loss 2%%", d, l)
	}
	eval[bool](p, `(() => { document.querySelector('#link-overview [data-dir="in"]').click(); return true; })()`)
	p.until("the other direction", shown+` === 'delay 10ms'`)
	eval[bool](p, `(() => { document.querySelector('#link-overview [data-dir="both"]').click(); return true; })()`)
	slide := func(name string, at int) {
		eval[bool](p, fmt.Sprintf(`(() => { const s = document.querySelector('#link-overview [id$="-%s"]'); s.value = %d; return s.dispatchEvent(new Event('input', { bubbles: true })); })()`, name, at))
	}
	slide("delay", 5)
	slide("jitter", 2)
	slide("loss", 5)
	slide("rate", 7)
	const words = "delay 20ms 2ms loss 3% rate 10mbit"
	if got := eval[string](p, `document.querySelector('#link-overview .words').value`); got != words {
		t.Errorf("the sliders say %q; want tc's words, %q", got, words)
	}
	if got := eval[string](p, `document.querySelector('#link-overview .command').textContent`); got != "catflap netem set both "+words {
		t.Errorf("the command is %q", got)
	}
	p.click("#link-overview button.primary")
	p.until("the dialog", `document.getElementById('token-dialog').open`)
	p.keep("token", false)
	p.do(chromedp.KeyEvent("guess\r"))
	p.until("the refusal", `!document.getElementById('token-error').hidden`)
	if f.mu.Lock(); len(f.changes) > 0 {
		t.Errorf("without the token these were changed: %q", f.changes)
	}
	f.mu.Unlock()
	p.do(chromedp.KeyEvent(fixtureToken + "\r"))
	p.until("the change on the page", `document.querySelector('#link-overview .link-state').textContent.includes('`+words+`')`)
	f.mu.Lock()
	if want := []string{"/api/token", "/api/netem both " + words}; !slices.Equal(f.changes, want) {
		t.Errorf("the server got %q; want %q", f.changes, want)
	}
	f.mu.Unlock()
	if got := eval[string](p, `location.href + document.cookie + JSON.stringify(localStorage)`); strings.Contains(got, fixtureToken) {
		t.Errorf("the token is in %s", got)
	}
	// What the server cannot read is said where it was written.
	eval[bool](p, `(() => { const w = document.querySelector('#link-overview .words'); w.value = 'bogus 3'; return w.dispatchEvent(new Event('input', { bubbles: true })); })()`)
	p.click("#link-overview button.primary")
	p.until("the error", `/unknown word.*at bogus.*expected delay/.test(document.querySelector('#link-overview .error').textContent)`)
	p.expected("401")
	p.expected("400")
}

// TestPictures saves each picture and reads it as XML.
func TestPictures(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL+"#/conn/2")
	p.until("the ladder", `document.querySelectorAll('#ladder .row').length > 5`)
	p.settle()
	eval[bool](p, `(() => { window.saved = []; URL.createObjectURL = (b) => { b.text().then((t) => saved.push(t)); return 'blob:none'; }; HTMLAnchorElement.prototype.click = () => {}; return true; })()`)
	for i, c := range []struct{ button, words string }{{"ladder", "SYN-ACK"}, {"timeseq", "10.9.0.2:80 → 10.9.0.1:40007"}, {"states", "CLOSE-WAIT"}} {
		p.click("#export")
		p.click(fmt.Sprintf(`#export-dialog button[value="%s"]`, c.button))
		p.until("the picture "+c.button, fmt.Sprintf(`saved.length === %d`, i+1))
		svg := eval[string](p, fmt.Sprintf(`saved[%d]`, i))
		p.keepFile(c.button+".svg", []byte(svg))
		if !strings.Contains(svg, c.words) {
			t.Errorf("%s: no %q in the picture", c.button, c.words)
		}
		if strings.Contains(svg, "var(--") || strings.Contains(svg, "class=") {
			t.Errorf("%s: the picture needs the style sheet", c.button)
		}
		// Drawn as an image, without the page's style sheet, most of it is the card's colour.
		share := eval[float64](p, fmt.Sprintf(`(async () => {
			const image = new Image();
			image.src = 'data:image/svg+xml;charset=utf-8,' + encodeURIComponent(saved[%d]);
			await image.decode();
			const canvas = Object.assign(document.createElement('canvas'), { width: 400, height: 400 }), ctx = canvas.getContext('2d');
			ctx.drawImage(image, 0, 0, 400, 400);
			const want = (await import('./util.js')).colour('card').match(/\d+/g).map(Number), d = ctx.getImageData(0, 0, 400, 400).data;
			let n = 0;
			for (let i = 0; i < d.length; i += 4) if (Math.abs(d[i] - want[0]) + Math.abs(d[i + 1] - want[1]) + Math.abs(d[i + 2] - want[2]) < 12) n++;
			return n / (400 * 400);
		})()`, i))
		if share < 0.6 || share > 0.995 {
			t.Errorf("%s: %.0f%% of the picture is background; want most, and not all", c.button, share*100)
		}
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", c.button, err)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	p := open(t, desktop, f.URL+"#/conn/1")
	p.until("the ladder", `document.querySelectorAll('#ladder .row').length > 5`)
	p.do(chromedp.KeyEvent("?"))
	p.until("the list of keys", `document.getElementById('keys-dialog').open && document.querySelectorAll('#keys-list dt').length > 10`)
	p.do(chromedp.KeyEvent("\x1b"))
	p.until("the list closed", `!document.getElementById('keys-dialog').open`)
	p.do(chromedp.KeyEvent("r"))
	p.until("absolute numbers", `document.getElementById('seq-abs').getAttribute('aria-pressed') === 'true'`)
	p.do(chromedp.Focus(chromedp.CSS(".ladder-scroll")), chromedp.KeyEvent("\u0304"), chromedp.KeyEvent("\u0301"))
	p.do(chromedp.KeyEvent("d"))
	p.until("another theme", `document.documentElement.dataset.theme === 'light'`)
	p.do(chromedp.KeyEvent("g"))
	p.until("the overview", `!document.getElementById('overview').hidden`)
	// The way through the page by Tab: each stop is visible, and says that it has the focus.
	eval[bool](p, `(() => { document.activeElement.blur(); return true; })()`)
	for i := range 25 {
		p.do(chromedp.KeyEvent("\t"))
		bad := eval[string](p, `(() => { const e = document.activeElement, c = getComputedStyle(e), r = e.getBoundingClientRect();
			if (e === document.body) return '';
			return c.outlineStyle === 'none' || parseFloat(c.outlineWidth) < 2 || r.width === 0 ? e.outerHTML.slice(0, 120) : ''; })()`)
		if bad != "" {
			t.Errorf("stop %d of Tab shows no focus: %s", i+1, bad)
		}
	}
}

// TestAccessible checks names, contrast and width of every view at every size and in both themes.
func TestAccessible(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	for name, l := range map[string]look{"light": desktop, "dark": night, "phone": phone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t, l, f.URL)
			for i, view := range []string{"#/", "#/conn/2", "#/conn/3"} {
				p.visit(view)
				p.until("the view", `document.querySelectorAll(location.hash === '#/' ? '#sockets tbody tr' : '#ladder .row').length > 5`)
				p.settle()
				for _, problem := range eval[[]string](p, audit) {
					t.Errorf("%s: %s", view, problem)
				}
				p.keep(fmt.Sprint(i), true)
			}
			p.click(`#ladder .row[data-kind="DATA"]`)
			p.until("the panel", `document.querySelectorAll('#packet .byte').length > 20`)
			for _, problem := range eval[[]string](p, audit) {
				t.Errorf("the panel: %s", problem)
			}
		})
	}
}

// audit returns what is wrong with the page as it is: controls without a name, text with too little contrast, and
// a page that is wider than its window. It looks at everything by scrolling.
const audit = `(async () => {
	const problems = new Set();
	const say = (e) => e.outerHTML.slice(0, 110).replace(/\s+/g, ' ');
	const shown = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
	const name = (e) => (e.getAttribute('aria-label') || (e.getAttribute('aria-labelledby') || '').split(' ').map((i) => document.getElementById(i)?.textContent ?? '').join(' ').trim()
		|| [...(e.labels ?? [])].map((l) => l.textContent).join(' ').trim() || (e.matches('input, select') ? '' : e.textContent.trim()) || e.getAttribute('title') || '');
	for (const e of document.querySelectorAll('button, a[href], input, select, meter, [tabindex="0"], [role=option], [role=img], dialog, aside')) {
		if (shown(e) && !name(e)) problems.add('no name: ' + say(e));
	}
	const ids = new Set();
	for (const e of document.querySelectorAll('[id]')) { if (ids.has(e.id)) problems.add('the id ' + e.id + ' is there twice'); ids.add(e.id); }
	if (document.documentElement.scrollWidth > innerWidth) problems.add('the page is ' + document.documentElement.scrollWidth + ' px wide in a window of ' + innerWidth);

	const ctx = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
	const rgba = (c) => { ctx.clearRect(0, 0, 1, 1); ctx.fillStyle = '#000'; ctx.fillStyle = c; ctx.fillRect(0, 0, 1, 1); const d = ctx.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
	const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
	const lum = (c) => { const f = c.slice(0, 3).map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
	const paint = (e) => { const c = getComputedStyle(e); if (e instanceof SVGElement && !(e instanceof SVGSVGElement)) { if (c.fill === 'none' || e.matches('g, text, tspan, line')) return null; const f = rgba(c.fill); f[3] *= parseFloat(c.fillOpacity); return f; } return rgba(c.backgroundColor); };
	const checked = new Set();
	for (let y = 0; ; y += innerHeight * 0.6) {
		scrollTo({ top: y, behavior: 'instant' });
		await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
		const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		for (let n; (n = walk.nextNode());) {
			const e = n.parentElement;
			if (!n.textContent.trim() || checked.has(n) || e.closest('title, [disabled], [aria-hidden=true], .visually-hidden') || !shown(e)) continue;
			const range = document.createRange();
			range.selectNodeContents(n);
			const r = range.getClientRects()[0];
			if (!r || r.width < 2 || r.top < 0 || r.bottom > innerHeight || r.left < 0 || r.right > innerWidth) continue;
			const stack = document.elementsFromPoint(r.left + r.width / 2, r.top + r.height / 2);
			const at = stack.indexOf(e);
			if (at < 0 || stack.slice(0, at).some((o) => !o.contains(e) && !e.contains(o) && !o.matches('text, tspan, line, path, circle, rect, g, polygon'))) continue;
			checked.add(n);
			const c = getComputedStyle(e), ink = rgba(e instanceof SVGElement ? c.fill : c.color);
			let back = [255, 255, 255, 1];
			for (const o of stack.slice(at).reverse()) { const p = o === e && e instanceof SVGElement ? null : paint(o); if (p) back = over(p, back); }
			const a = lum(over(ink, back)), b = lum(back), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
			const size = parseFloat(c.fontSize), big = size >= 24 || (size >= 18.66 && c.fontWeight >= 700);
			if (ratio < (big ? 3 : 4.5)) problems.add('contrast ' + ratio.toFixed(2) + ' of ' + JSON.stringify(n.textContent.trim().slice(0, 40)) + ' in ' + (e.getAttribute('class') ?? e.tagName));
		}
		if (y + innerHeight >= document.documentElement.scrollHeight) break;
	}
	if (checked.size < 20) problems.add('only ' + checked.size + ' texts were looked at: the check is broken');
	return [...problems];
})()`

// A minute of 5,000 packets a second, in a sixth of the time: six times as fast as the page has to be.
const (
	floodRate    = 30_000
	floodFor     = 10 * time.Second
	floodBatch   = int(floodRate * batchInterval / time.Second)
	floodBatches = int(floodFor / batchInterval)
)

// flood is what a page does with the flood.
type flood struct {
	Received, Gaps, Events, Samples, Nodes, Rows, Frames int
	Max                                                  struct{ MAX_EVENTS, MAX_SAMPLES int }
	sent                                                 int
	busy                                                 time.Duration // processor time of the page's thread
	took, behind                                         time.Duration // as a clock on the wall has it
	heap                                                 float64       // bytes
}

// flooded shows a page the whole flood.
func flooded(tb testing.TB) (s flood) {
	tb.Helper()
	f := newFixture(tb)
	f.flood = true
	p := open(tb, desktop, f.URL)
	p.do(func(ctx context.Context, g *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, g, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
		return chromedp.Void{}, err
	})
	before := p.busy()
	start := time.Now()
	p.visit("#/conn/100")
	eval[bool](p, `(() => { window.framesSeen = 0; const tick = () => { window.framesSeen++; requestAnimationFrame(tick); }; tick(); return true; })()`)
	for s.sent == 0 || s.Received < s.sent {
		time.Sleep(batchInterval)
		f.mu.Lock()
		s.sent = int(f.flooded)
		f.mu.Unlock()
		if s.sent == 0 {
			s.behind = max(s.behind, time.Duration((f.now()-eval[float64](p, `(async () => `+model+`.lastT)()`))*float64(time.Second)))
		}
		s.Received = eval[int](p, `(async () => `+model+`.totals.received)()`)
	}
	s.took, s.busy = time.Since(start), p.busy()-before
	sizes := eval[json.RawMessage](p, `(async () => ({ ...`+model+`.sizes(), frames: window.framesSeen, nodes: document.querySelectorAll('*').length, rows: (await import('./main.js')).ladder.rows.length, max: { ...await import('./model.js') } }))()`)
	if err := json.Unmarshal(sizes, &s); err != nil {
		tb.Fatal(err)
	}
	heap, err := chromedp.Run(p.ctx, func(ctx context.Context, g *chromedp.Target) (float64, error) {
		if _, err := cdp.Call(ctx, g, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
			return 0, err
		}
		u, err := cdp.Call(ctx, g, runtime.GetHeapUsage, cdp.Empty{})
		return u.UsedSize, err
	})
	if err != nil {
		tb.Fatal(err)
	}
	s.heap = heap
	p.keep("flood", false)
	return s
}

// busy is how much processor time the page's thread has used.
func (t *tab) busy() time.Duration {
	t.Helper()
	res, err := chromedp.Run(t.ctx, func(ctx context.Context, g *chromedp.Target) (performance.GetMetricsResult, error) {
		return cdp.Call(ctx, g, performance.GetMetrics, cdp.Empty{})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range res.Metrics {
		if m.Name == "TaskDuration" {
			return time.Duration(m.Value * float64(time.Second))
		}
	}
	t.Fatal("the browser does not say how long the page was busy")
	return 0
}

// TestKeepsUp: the page takes the flood in no more processor time than the flood lasts and two seconds, draws meanwhile,
// and keeps no more than it should. How far it is behind on the machine at hand, BenchmarkFlood says.
func TestKeepsUp(t *testing.T) {
	s := flooded(t)
	t.Logf("%d events in %v, of which the page was busy for %v; %d frames; %d DOM nodes, %d rows, %d events and %d samples kept, heap %.0f MB",
		s.Received, s.took.Round(time.Millisecond), s.busy.Round(time.Millisecond), s.Frames, s.Nodes, s.Rows, s.Events, s.Samples, s.heap/1e6)
	if want := floodBatch * floodBatches; s.Received != s.sent || s.sent < want || s.Gaps != 0 {
		t.Errorf("%d events of %d came, with gaps of %d; want all, and at least %d", s.Received, s.sent, s.Gaps, want)
	}
	if most := floodFor + 2*time.Second; s.busy > most {
		t.Errorf("the page took %v of processor time for %v of packets; want at most %v, or it cannot keep up", s.busy, floodFor, most)
	}
	if limit := s.Max.MAX_EVENTS * 11 / 10; s.Events > limit || s.Max.MAX_EVENTS == 0 {
		t.Errorf("%d events are kept; want at most %d", s.Events, limit)
	}
	if limit := s.Max.MAX_SAMPLES * 11 / 10; s.Samples > limit {
		t.Errorf("%d samples are kept; want at most %d", s.Samples, limit)
	}
	if s.Nodes > 2500 {
		t.Errorf("the page has %d nodes; want at most 2,500", s.Nodes)
	}
	if s.heap > 100e6 {
		t.Errorf("the page's heap is %.0f MB; want at most 100", s.heap/1e6)
	}
	if s.Frames < 20 {
		t.Errorf("the page drew %d frames meanwhile; want at least 20", s.Frames)
	}
}

// BenchmarkFlood says how far the page is behind when packets come six times as fast as they have to.
func BenchmarkFlood(b *testing.B) {
	for b.Loop() {
		s := flooded(b)
		b.ReportMetric(s.behind.Seconds()*1e3, "ms-behind")
		b.ReportMetric(float64(s.Frames)/s.took.Seconds(), "frames/s")
		b.ReportMetric(s.busy.Seconds(), "busy-s")
	}
}
