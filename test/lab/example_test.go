package lab_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/catflap/catflap/test/lab"
)

// t is the test that runs; an example has none, so this one only knows how to end.
var t exampleT

type exampleT struct {
	testing.TB
	cleanups []func()
}

func (t *exampleT) Helper()          {}
func (t *exampleT) Failed() bool     { return false }
func (t *exampleT) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) end() {
	for _, f := range t.cleanups {
		f()
	}
	t.cleanups = nil
}

// A client in a network where the first SYN is lost, in virtual time. In a test t is its *testing.T, and nobody needs to end it.
func Example() {
	defer t.end()
	clock := lab.NewClock()
	l := lab.New(&t, lab.Options{Clock: clock})
	client, server := l.Host("client"), l.Host("server")
	link := l.Link(client, server, lab.Netem("delay 10ms"), lab.Netem("drop tcp syn first 1"))
	url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "meow to "+r.RemoteAddr[:8])
	}))

	clock.Run(func() {
		resp, err := client.Client().Get(url)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		fmt.Printf("%s\n", body)
	})
	fmt.Println("after", clock.Elapsed())
	fmt.Println("lost by the rule:", link.Stats().Out.Faulted)
	// Output:
	// meow to 10.9.0.1
	// after 1.04s
	// lost by the rule: 1
}

// Three hosts and a router, and a path that changes while packets pass.
func ExampleLab_Router() {
	defer t.end()
	clock := lab.NewClock()
	l := lab.New(&t, lab.Options{Clock: clock})
	server := l.Host("server")
	office := l.Switch("office", l.Host("alice"), l.Host("bob"))
	r := l.Router("r", office)
	uplink := l.Link(r, server, lab.Netem("delay 50ms rate 1mbit"))
	url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 200_000)) }))
	fmt.Println(url, "is at", server.Addr())

	carol := l.Host("carol")
	l.Link(carol, office)
	clock.AfterFunc(time.Second, func() { uplink.Set("delay 50ms rate 100mbit") }) // the line gets faster
	clock.Run(func() {
		resp, err := carol.Client().Get(url)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		fmt.Println(n, "bytes, error", err)
	})
	fmt.Println("in less than 1.5s:", clock.Elapsed() < 1500*time.Millisecond)
	// Output:
	// http://server is at 10.9.1.2
	// 200000 bytes, error <nil>
	// in less than 1.5s: true
}
