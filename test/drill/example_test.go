package drill_test

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/test/drill"
)

// A test in Go: the peer of a stack sends packets, and says which it expects back.
func ExampleHost() {
	_ = func(t *testing.T) {
		w := drill.NewWire(1500)
		s, err := stack.New(stack.Config{
			Links: []stack.Link{{Name: "cat0", Endpoint: w.Endpoint(), Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}}},
			Clock: w.Clock(),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w.Attach(s.Quiesce)

		h := drill.NewHost(t, w, drill.HostConfig{
			Local:  netip.MustParseAddrPort("10.9.0.2:80"),
			Remote: netip.MustParseAddr("10.9.0.1"),
		})
		h.Send("S 100:100(0) win 65535 <mss 1460>")
		h.Expect("a SYN to a closed port is reset (RFC 9293 section 3.10.7.1)", "R. 0:0(0) ack 101")
		h.ExpectNothing("a reset is sent once", 2*time.Second)
	}
}

// A script in a Go test.
func ExampleRun() {
	_ = func(t *testing.T) {
		drill.Run(t, `
			 0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
			+0 bind(3, ..., ...) = 0
			+0 listen(3, 1) = 0
			+0 < S 0:0(0) win 32792 <mss 1000>
			+0 > S. 0:0(0) ack 1 <...>
		`)
	}
}

// All scripts of a directory, or of anything else that is a file system, each as a subtest.
func ExampleDir() {
	_ = func(t *testing.T) {
		drill.Dir(t, fstest.MapFS{"reset.pkt": {Data: []byte("0 < R 0:0(0)\n+1 < . 1:1(0) ack 1\n+0 > R 1:1(0)\n")}})
	}
}

func ExampleRunFiles() {
	dir, err := os.MkdirTemp("", "drill")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(dir+"/closed-port.pkt", []byte("0 < . 1:1(0) ack 1 win 100\n+0 > R 1:1(0)\n"), 0o600); err != nil {
		panic(err)
	}
	report, err := drill.RunFiles(context.Background(), drill.Options{Paths: []string{dir}})
	if err != nil {
		panic(err)
	}
	report.Wall = 0 // differs from run to run
	if err := report.WriteText(os.Stdout, false); err != nil {
		panic(err)
	}
	// Output: 1 passed; 1 script in 0s
}
