package browser

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

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

// TestLiveLooks keeps pictures of the page with real traffic.
func TestLiveLooks(t *testing.T) {
	l := serve(t)
	p := openIn(t, l.browser, desktop, loopbackPage)
	p.until("the stream", `document.getElementById('pulse').dataset.state === 'on'`)
	l.sh(t, `"$CATFLAP" netem set delay 10ms loss 3%`)
	t.Cleanup(func() { l.sh(t, `"$CATFLAP" netem clear`) })
	l.sh(t, `curl -so /dev/null `+cats+`/bytes/300000 & curl -so /dev/null `+cats+`/bytes/100000 & wait; curl -s `+cats)
	p.click("#show-history")
	p.until("the connections", `document.querySelectorAll('#sockets tbody tr a').length >= 3`)
	p.settle()
	p.keep("overview", true)
	p.click("#sockets tbody tr a")
	p.until("a ladder", `document.querySelectorAll('#ladder .row').length > 5`)
	p.settle()
	p.keep("page", true)
	p.do(chromedp.NavigateBack())
	p.until("the overview", `!document.getElementById('overview').hidden`)
	p.click("#sockets tbody tr:nth-child(2) a")
	p.until("a ladder", `document.querySelectorAll('#ladder .row').length > 5`)
	p.settle()
	p.keep("transfer", true)
	p.click(`#ladder .row.packet:has(.label)`)
	p.until("the packet's bytes", `document.querySelectorAll('#packet .byte').length > 20`)
	p.settle()
	p.keep("packet", false)
}
