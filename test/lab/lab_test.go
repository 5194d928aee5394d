package lab

import (
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"gvisor.dev/gvisor/pkg/refs"

	"github.com/catflap/catflap/tun/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	refs.SetLeakMode(refs.LeaksPanic)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if status == 0 {
			refs.DoLeakCheck()
		}
		os.Exit(status)
	}))
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func hello(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "meow from "+r.Host) }

func TestFirst(t *testing.T) {
	for _, virtual := range []bool{false, true} {
		t.Run(map[bool]string{false: "real", true: "virtual"}[virtual], func(t *testing.T) {
			var o Options
			run := func(f func()) { f() }
			if virtual {
				o.Clock = NewClock()
				run = o.Clock.Run
			}
			l := New(t, o)
			client, server := l.Host("client"), l.Host("server")
			r := l.Router("r")
			l.Link(client, r, Netem("delay 10ms"))
			l.Link(r, server, Netem("delay 20ms"))
			url := server.Serve(http.HandlerFunc(hello))
			start := l.now()
			run(func() {
				if got := get(t, client.Client(), url); got != "meow from server" {
					t.Errorf("got %q", got)
				}
			})
			t.Log(l.now() - start)
			if d := l.now() - start; d < 120*time.Millisecond {
				t.Errorf("took %s", d)
			}
			if os.Getenv("FAIL") != "" {
				t.Error("on purpose")
			}
		})
	}
}
