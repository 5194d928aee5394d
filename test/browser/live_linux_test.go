package browser

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/catflap/catflap/internal/testenv"
)

// live is catflap serve in a network namespace of its own, and a browser that is in there too: it reaches the page
// on the namespace's loopback and on the userspace stack.
type live struct {
	cmd     *exec.Cmd
	bin     string
	dir     string
	token   string
	browser context.Context
	stderr  *safeBuffer
	exited  chan struct{}
	stop    func()
}

// Where the page and the cat server are.
const (
	loopbackPage = "http://127.0.0.1:8098/"
	stackPage    = "http://10.9.0.2:8098/"
	cats         = "http://10.9.0.2"
)

// safeBuffer is a buffer that a process writes to while a test reads.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// theLive is one for all tests: a browser takes seconds to start. Each test makes connections of its own.
var theLive struct {
	sync.Mutex
	*live
	err error
}

func serve(tb testing.TB) *live {
	tb.Helper()
	testenv.Require(tb, testenv.Root, testenv.Tun, "chromium", "unshare", "nsenter", "ip", "curl")
	theLive.Lock()
	defer theLive.Unlock()
	if theLive.live == nil && theLive.err == nil {
		theLive.live, theLive.err = startLive()
		if theLive.err == nil {
			atEnd = append(atEnd, theLive.stop)
		}
	}
	if theLive.err != nil {
		tb.Fatal(theLive.err)
	}
	l := theLive.live
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("catflap said:\n%s", l.stderr)
		}
	})
	return l
}

func startLive() (*live, error) {
	dir, err := os.MkdirTemp("", "catflap-live-")
	if err != nil {
		return nil, err
	}
	l := &live{dir: dir, bin: filepath.Join(dir, "catflap"), stderr: &safeBuffer{}, exited: make(chan struct{})}
	l.stop = func() { os.RemoveAll(dir) }
	if out, err := exec.Command("go", "build", "-o", l.bin, "../../cmd/catflap").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("catflap does not build: %s", out)
	}
	l.cmd = exec.Command("unshare", "--net", "--", "sh", "-c", `ip link set lo up && exec "$0" serve`, l.bin)
	l.cmd.Env = l.env()
	l.cmd.Stderr = l.stderr
	if err := l.cmd.Start(); err != nil {
		l.stop()
		return nil, err
	}
	go func() {
		defer close(l.exited)
		l.cmd.Wait()
	}()
	l.stop = func() {
		l.cmd.Process.Signal(os.Interrupt)
		select {
		case <-l.exited:
		case <-time.After(waitTimeout):
			l.cmd.Process.Kill()
			<-l.exited
		}
		os.RemoveAll(dir)
	}
	said := regexp.MustCompile(`dashboard at http://\S+, token (\S+)`)
	for deadline := time.Now().Add(waitTimeout); ; time.Sleep(20 * time.Millisecond) {
		if m := said.FindStringSubmatch(l.stderr.String()); m != nil {
			l.token = m[1]
			break
		}
		if time.Now().After(deadline) {
			l.stop()
			return nil, fmt.Errorf("catflap serve names no dashboard: %s", l.stderr)
		}
	}
	browser, stop, err := start(append(flags(filepath.Join(dir, "profile")), chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
		enter, err := exec.LookPath("nsenter")
		if err != nil {
			return // Require has found it
		}
		cmd.Args = append([]string{enter, "--net=" + l.netns(), "--", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = enter
	})))
	if err != nil {
		l.stop()
		return nil, err
	}
	end := l.stop
	l.browser, l.stop = browser, func() {
		stop()
		end()
	}
	return l, nil
}

func (l *live) netns() string { return fmt.Sprintf("/proc/%d/ns/net", l.cmd.Process.Pid) }

func (l *live) env() []string {
	return append(os.Environ(), "XDG_RUNTIME_DIR="+l.dir, "CATFLAP_CONTROL="+filepath.Join(l.dir, "control.sock"))
}

// command is a command line in the server's namespace.
func (l *live) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", "--net="+l.netns(), "--", "sh", "-c", script)
	cmd.Env = append(l.env(), "CATFLAP="+l.bin)
	return cmd
}

// sh runs a script in the server's namespace and returns what it prints.
func (l *live) sh(tb testing.TB, script string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	cmd := l.command(ctx, script)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s: %v: %s%s", script, err, out, stderr.String())
	}
	return string(out)
}

// clear takes all impairments from the link.
func (l *live) clear(tb testing.TB) func() {
	return func() {
		tb.Helper()
		l.sh(tb, `"$CATFLAP" netem clear && for n in $("$CATFLAP" netem show | awk -F: '/^[0-9]+:/ { print $1 }'); do "$CATFLAP" netem del $n; done`)
	}
}

// page shows the page, and waits until it hears from catflap: by default catflap records only while somebody looks.
func (l *live) page(tb testing.TB, k look, url string) *tab {
	tb.Helper()
	p := openIn(tb, l.browser, k, url)
	p.until("the stream", `document.getElementById('pulse').dataset.state === 'on' && !!document.querySelector('#path .step')`)
	return p
}

// newest waits for a connection that was not there before a test did something, and shows it.
func (p *tab) newest(known []int) (id int) {
	p.Helper()
	p.until("a new connection", fmt.Sprintf(`(async () => %s.connections.some((c) => !%s.includes(c.id)))()`, model, asJSON(known)))
	id = eval[int](p, fmt.Sprintf(`(async () => %s.connections.filter((c) => !%s.includes(c.id))[0].id)()`, model, asJSON(known)))
	p.visit(fmt.Sprintf("#/conn/%d", id))
	p.until("its ladder", `document.querySelectorAll('#ladder .row.packet').length > 0`)
	return id
}

// known are the connections that the page knows.
func (p *tab) known() []int {
	p.Helper()
	return eval[[]int](p, `(async () => `+model+`.connections.map((c) => c.id))()`)
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a list of numbers
	}
	return string(b)
}

// TestPageLoads: the same page comes over the kernel's loopback and over the userspace stack itself.
func TestPageLoads(t *testing.T) {
	l := serve(t)
	for name, url := range map[string]string{"loopback": loopbackPage, "the stack": stackPage} {
		t.Run(name, func(t *testing.T) {
			p := l.page(t, desktop, url)
			p.until("the listeners", `document.getElementById('listeners').textContent.includes(':80')`)
			p.until("the rules", `document.getElementById('routes').textContent.includes('0: from all lookup local')`)
			if got := eval[string](p, `document.querySelector('#sockets .empty code')?.textContent ?? 'no hint, there are sockets'`); got != "curl "+cats+"/" && !strings.HasPrefix(got, "no hint") {
				t.Errorf("the hint is %q", got)
			}
		})
	}
}

// segment is what the ladder, or tshark, says of a packet.
type segment struct {
	Kind             string
	Out              bool
	Seq, Ack, Length int
}

// ladderSegments reads the labels that a person reads.
func (p *tab) ladderSegments() (list []segment) {
	p.Helper()
	type row struct{ Kind, Label, Name string }
	rows := eval[[]row](p, `(async () => { const { ladder } = await import('./main.js'); ladder.setFold(false); const svg = ladder.picture(); return [...svg.querySelectorAll('.row.packet')].map((g) => ({ Kind: g.dataset.kind, Label: g.querySelector('.label').textContent, Name: g.getAttribute('aria-label') })); })()`)
	number := func(re, s string) int {
		m := regexp.MustCompile(re).FindStringSubmatch(strings.ReplaceAll(s, ",", ""))
		if m == nil {
			return 0
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			p.Fatal(err)
		}
		return n
	}
	for _, r := range rows {
		s := segment{Kind: r.Kind, Out: strings.Contains(r.Name, " s: sent")}
		switch {
		case r.Kind == "DATA":
			s.Seq, s.Ack, s.Length = number(`DATA (\d+):`, r.Label), number(`ack (\d+)`, r.Label), number(`(\d+) B`, r.Label)
		case r.Kind == "ACK":
			s.Ack = number(`ACK (\d+)`, r.Label)
		default:
			s.Seq, s.Ack = number(`seq (\d+)`, r.Label), number(`ack (\d+)`, r.Label)
		}
		list = append(list, s)
	}
	return list
}

// tsharkSegments reads a capture with tshark, which counts sequence numbers from the connection's first ones as well.
func tsharkSegments(t testing.TB, file, filter string) (list []segment) {
	t.Helper()
	for _, f := range testenv.Tshark(t, file, filter, "tcp.flags", "tcp.srcport", "tcp.seq", "tcp.ack", "tcp.len") {
		n := make([]int, 5)
		for i, s := range f {
			v, err := strconv.ParseInt(s, 0, 64)
			if err != nil && s != "" {
				t.Fatalf("tshark says %q", f)
			}
			n[i] = int(v)
		}
		s := segment{Out: n[1] == 80, Seq: n[2], Ack: n[3], Length: n[4]}
		const fin, syn, ack = 1, 2, 16
		switch {
		case n[0]&syn != 0 && n[0]&ack != 0:
			s.Kind = "SYN-ACK"
		case n[0]&syn != 0:
			s.Kind = "SYN"
		case n[0]&fin != 0:
			s.Kind = "FIN"
		case s.Length > 0:
			s.Kind = "DATA"
		default:
			s.Kind, s.Seq = "ACK", 0 // the ladder says only what is acknowledged
		}
		list = append(list, s)
	}
	return list
}

// records counts the whole packets of a pcap file that is being written.
func records(t testing.TB, file string) (n int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const fileHeader, header, length = 24, 16, 8 // bytes; the packet's length stands 8 bytes into its header
	for at := fileHeader; at+header <= len(b); n++ {
		at += header + int(binary.NativeEndian.Uint32(b[at+length:]))
		if at > len(b) {
			break
		}
	}
	return n
}

// TestLadderOfCurl holds the ladder of a real request against tshark's reading of the same connection: as tcpdump
// captured it on the device, and as the dashboard's own capture has it.
func TestLadderOfCurl(t *testing.T) {
	testenv.Require(t, "tcpdump", "tshark")
	l := serve(t)
	p := l.page(t, desktop, loopbackPage)
	known := p.known()
	dump := filepath.Join(t.TempDir(), "dump.pcap")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// A small snapshot length: of the longest packets, tcpdump's immediate mode has room for eight.
	tcpdump := l.command(ctx, `exec tcpdump --immediate-mode -s 2048 -U -n -i cat0 -Z root -w '`+dump+`' 'tcp port 80'`)
	said := &safeBuffer{}
	tcpdump.Stderr = said
	if err := tcpdump.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, "tcpdump to listen", func() bool { return strings.Contains(said.String(), "listening on") })
	if got := l.sh(t, "curl -s "+cats+"/"); got != "Hello kitty!" {
		t.Fatalf("curl got %q", got)
	}
	id := p.newest(known)
	p.until("the connection's end", `(async () => `+model+`.connection()?.closed !== null && document.querySelector('#conn-state').textContent === 'CLOSED')()`)
	p.settle()
	p.keep("ladder", true)
	got := p.ladderSegments()
	testenv.Await(t, "tcpdump to write all packets of the ladder", func() bool { return records(t, dump) >= len(got) })
	tcpdump.Process.Signal(os.Interrupt)
	tcpdump.Wait()

	var kinds []string
	for _, s := range got {
		kinds = append(kinds, s.Kind)
	}
	at := 0
	for _, want := range []string{"SYN", "SYN-ACK", "ACK", "DATA", "DATA", "FIN", "FIN", "ACK"} {
		i := slices.Index(kinds[at:], want)
		if i < 0 {
			t.Fatalf("the ladder has no %s after the first %d of %v", want, at, kinds)
		}
		at += i + 1
	}
	port := eval[string](p, `(async () => `+model+`.connection().remote.split(':').at(-1))()`)
	if diff := cmp.Diff(tsharkSegments(t, dump, "tcp.port=="+port), got); diff != "" {
		t.Errorf("the ladder differs from tshark's reading of tcpdump's capture (-tshark +ladder):\n%s\ntcpdump: %s", diff, said)
	}
	capture := filepath.Join(t.TempDir(), "capture.pcapng")
	l.sh(t, fmt.Sprintf("curl -sf -o '%s' '%sapi/capture?conn=%d'", capture, loopbackPage, id))
	if diff := cmp.Diff(tsharkSegments(t, capture, "tcp"), got); diff != "" {
		t.Errorf("the ladder differs from tshark's reading of the dashboard's own capture (-tshark +ladder):\n%s", diff)
	}
	// The pictures agree with each other: the state diagram went the server's way.
	path := eval[[]string](p, `[...document.querySelectorAll('#states .node.on')].map((n) => n.dataset.state.trim()).sort()`)
	if want := []string{"CLOSE-WAIT", "CLOSED", "ESTABLISHED", "LAST-ACK", "LISTEN", "SYN-RECEIVED"}; !slices.Equal(path, want) {
		t.Errorf("the state diagram marks %v; want %v", path, want)
	}
}

// TestScriptedLoss loses the only data segment of an answer, so that nothing but the tail-loss probe, or the
// retransmission timer where that fires first, can bring it: which of the two is said in the page and by ss alike.
func TestScriptedLoss(t *testing.T) {
	l := serve(t)
	p := l.page(t, desktop, loopbackPage)
	known := p.known()
	l.sh(t, `"$CATFLAP" netem add drop tcp data 1 from server`)
	t.Cleanup(l.clear(t))
	if got := l.sh(t, "curl -s "+cats+"/"); got != "Hello kitty!" {
		t.Fatalf("curl got %q", got)
	}
	p.newest(known)
	p.until("the retransmission", `!!document.querySelector('#ladder .row[data-retransmit]')`)
	p.settle()
	p.keep("ladder", true)
	type row struct{ Lost, Again, Label string }
	rows := eval[[]row](p, `[...document.querySelectorAll('#ladder .row.packet')].map((r) => ({ Lost: r.dataset.lost ?? '', Again: r.dataset.retransmit ?? '', Label: r.querySelector('.label').textContent })).filter((r) => r.Lost || r.Again)`)
	if len(rows) != 2 || rows[0].Lost == "" || rows[0].Again != "" || rows[1].Lost != "" || rows[1].Again != "tail-loss probe" && rows[1].Again != "RTO" {
		t.Fatalf("the ladder marks %+v; want a segment that is lost, then the same sent again by the tail-loss probe or RTO", rows)
	}
	if a, b := strings.Fields(rows[0].Label)[1], strings.Fields(rows[1].Label)[1]; a != b {
		t.Errorf("lost was %s, sent again %s", a, b)
	}
	if !strings.Contains(rows[0].Lost, "drop tcp data 1 from server") {
		t.Errorf("the loss is said to be by %q; want the rule", rows[0].Lost)
	}
	if n := eval[int](p, `document.querySelectorAll('#ladder .row[data-lost] .cross').length`); n != 1 {
		t.Errorf("%d crosses; want one", n)
	}
}

// TestControlsChangeTheLink moves the sliders, and times requests, which take two round trips. A busy machine makes them
// longer, never shorter.
func TestControlsChangeTheLink(t *testing.T) {
	l := serve(t)
	p := l.page(t, desktop, loopbackPage)
	t.Cleanup(l.clear(t))
	quickest := func() time.Duration { // of some: a busy machine delays one, not each by as much
		best := time.Hour
		for range 4 {
			start := time.Now()
			l.sh(t, "curl -s "+cats+"/")
			best = min(best, time.Since(start))
		}
		return best
	}
	p.until("the sliders", `!!document.querySelector('#link-overview input[type=range]')?.offsetParent`)
	eval[bool](p, `(() => { const s = document.querySelector('#link-overview [id$="-delay"]'); s.value = 7; return s.dispatchEvent(new Event('input', { bubbles: true })); })()`)
	p.click("#link-overview button.primary")
	p.until("the dialog", `document.getElementById('token-dialog').open`)
	p.do(chromedp.KeyEvent(l.token + "\r"))
	p.until("the setting", `[...document.querySelectorAll('#link-overview .link-state .on')].every((e) => e.textContent.includes('delay 50ms')) && document.querySelectorAll('#link-overview .link-state .on').length === 2`)
	if took := quickest(); took < 200*time.Millisecond {
		t.Errorf("with 50 ms each way a request takes %v; want at least 200 ms, two round trips", took)
	}
	eval[bool](p, `(() => { [...document.querySelectorAll('#link-overview .netem button')].find((b) => b.textContent === 'Clear').click(); return true; })()`)
	p.until("the link untouched", `document.querySelectorAll('#link-overview .link-state .on').length === 0`)
}

// TestLoseTheNextSegment starts a slow download with the page's button, and loses a segment of it with another.
func TestLoseTheNextSegment(t *testing.T) {
	l := serve(t)
	p := l.page(t, desktop, loopbackPage)
	l.sh(t, `"$CATFLAP" netem set delay 5ms && "$CATFLAP" netem set out delay 5ms rate 4mbit`)
	t.Cleanup(l.clear(t))
	p.until("the button", `[...document.querySelectorAll('#link-overview button')].some((b) => b.textContent === 'Start a download' && b.offsetParent)`)
	// The largest one there is: a browser on a busy machine takes its time, and the segment is to be lost in mid-stream.
	eval[bool](p, `(() => {
		const button = [...document.querySelectorAll('#link-overview button')].find((b) => b.textContent === 'Start a download');
		const size = button.parentElement.querySelector('select');
		size.selectedIndex = size.options.length - 1;
		button.click();
		return true;
	})()`)
	p.until("the dialog", `document.getElementById('token-dialog').open`)
	p.do(chromedp.KeyEvent(l.token + "\r"))
	p.until("the transfer's page", `location.hash.startsWith('#/conn/') && document.querySelectorAll('#ladder .row.packet').length > 10`)
	p.click("#link-connection .lose")
	lost := `(async () => { const { model } = await import('./model.js'); return model.events.some((e) => (e.lost ?? (e.k === 'l' && e.action === 'drop' && e.why) ?? '').includes?.('drop tcp data 1 out')); })()`
	p.until("the loss", lost)
	p.until("a retransmission with its cause", `(async () => `+model+`.events.some((e) => e.retransmit))()`)
	p.until("the rule gone again", `document.querySelectorAll('#link-connection .rules li').length === 0`)
	p.settle()
	p.keep("transfer", true)
	cause := eval[string](p, `(async () => `+model+`.events.find((e) => e.retransmit).retransmit)()`)
	// Which of these it is depends on how long the machine lets the stack wait for its turn; that the cause is right is
	// held by the stack's own tests, where nothing waits.
	if causes := []string{"RACK", "fast", "tail-loss probe", "RTO"}; !slices.Contains(causes, cause) {
		t.Errorf("one segment of a stream was lost, and sent again for %q; want one of %q", cause, causes)
	}
}

// tour starts the guided tour and brings it to the step at which the request is read.
func (p *tab) tour(l *live) {
	p.Helper()
	p.click("#tour-start")
	for _, title := range []string{"An address for a program", "Listening"} {
		p.step(title, "")
		p.click("#tour .primary")
	}
	p.until("the wait for a request", `/Waiting for a request/.test(document.querySelector('#tour .waiting')?.textContent ?? '')`)
	l.sh(p, "curl -s "+cats+"/")
	for _, title := range []string{"A SYN arrives", "Is this address ours?", "Whose packet is it?", "SYN-ACK", "ESTABLISHED", "accept"} {
		p.step(title, "")
		p.click("#tour .primary")
	}
	p.step("The request is read", "")
	p.settle()
}

// step waits for a step of the tour, and looks for something in its text.
func (p *tab) step(title, says string) {
	p.Helper()
	p.until("the step "+title, fmt.Sprintf(`document.getElementById('tour-title')?.textContent === %q && !document.querySelector('#tour .waiting')`, title))
	if got := eval[string](p, `document.querySelector('#tour .tour-text').textContent`); !strings.Contains(got, says) {
		p.Errorf("the tour says %q; want %q in it", got, says)
	}
}

// TestTour goes the whole way with a live request.
func TestTour(t *testing.T) {
	l := serve(t)
	for name, k := range map[string]look{"desktop": desktop, "phone": phone} {
		t.Run(name, func(t *testing.T) {
			p := l.page(t, k, loopbackPage)
			p.until("the listeners", `document.getElementById('listeners').textContent.includes(':80')`)
			p.click("#tour-start")
			next := func() { p.click("#tour .primary") }
			p.step("An address for a program", "EADDRINUSE")
			p.keep("1", false)
			next()
			p.step("Listening", "curl "+cats+"/")
			next()
			p.until("the wait for a request", `/Waiting for a request/.test(document.querySelector('#tour .waiting')?.textContent ?? '')`)
			l.sh(t, "curl -s "+cats+"/")
			for i, step := range []struct{ title, says string }{
				{"A SYN arrives", "wants a connection"}, {"Is this address ours?", "local 10.9.0.2 dev cat0"}, {"Whose packet is it?", "LISTEN"}, {"SYN-ACK", "SYN-RECEIVED"},
				{"ESTABLISHED", "arrived at"}, {"accept", "accept4("}, {"The request is read", "read("}, {"The answer is written", "write("}, {"FIN", "has the FIN flag"}, {"close", "close("}, {"The end", "LAST-ACK"},
			} {
				p.step(step.title, step.says)
				p.keep(fmt.Sprint(i+3), false)
				next()
			}
			p.until("the tour's end", `document.getElementById('tour').hidden && document.getElementById('scrub-time').textContent === 'the end'`)
		})
	}
}

// TestRecording downloads the capture of a connection and opens it with catflap view: the same ladder, and nothing
// to change.
func TestRecording(t *testing.T) {
	l := serve(t)
	p := l.page(t, desktop, loopbackPage)
	known := p.known()
	l.sh(t, "curl -s "+cats+"/")
	id := p.newest(known)
	p.until("the connection's end", `document.querySelector('#conn-state').textContent === 'CLOSED'`)
	p.settle()
	want := p.ladderSegments()
	file := filepath.Join(t.TempDir(), "session.pcapng")
	l.sh(t, fmt.Sprintf("curl -sf -o '%s' '%sapi/capture?conn=%d'", file, loopbackPage, id))

	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	view := l.command(ctx, `exec "$CATFLAP" view --dashboard 127.0.0.1:0 '`+file+`'`)
	said := &safeBuffer{}
	view.Stderr, view.Stdout = said, said
	if err := view.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the page has been closed, which would complain
		view.Process.Signal(os.Interrupt)
		view.Wait()
	})
	var url string
	testenv.Await(t, "the address of catflap view", func() bool {
		url = regexp.MustCompile(`http://127\.0\.0\.1:\d+/`).FindString(said.String())
		return url != ""
	})
	r := openIn(t, l.browser, desktop, url)
	r.until("the recording", `document.getElementById('mode').textContent === 'view'`)
	r.keep("first", false)
	r.until("its connection", `!!document.querySelector('#sockets tbody tr a')`)
	r.settle() // a page that is still being laid out moves its links under the pointer
	r.keep("overview", false)
	r.click("#sockets tbody tr a")
	r.until("its ladder", `document.querySelectorAll('#ladder .row.packet').length > 5`)
	r.settle()
	r.keep("ladder", false)
	if diff := cmp.Diff(want, r.ladderSegments()); diff != "" {
		t.Errorf("the recording's ladder differs (-live +recorded):\n%s", diff)
	}
	if n := eval[int](r, `[...document.querySelectorAll('#link-connection button, #link-connection input')].filter((e) => e.offsetParent).length`); n != 0 {
		t.Errorf("a recording shows %d controls; want none", n)
	}
	r.click("#tour-start")
	r.step("A SYN arrives", "wants a connection")
	r.click("#tour .primary")
	r.step("Is this address ours?", "local 10.9.0.2 dev cat0")
}
