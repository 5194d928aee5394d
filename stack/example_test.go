package stack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"syscall"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/strace"
)

// An http.Server on the userspace stack, and a client beside it.
func Example() {
	s, err := stack.New(stack.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	l, err := s.Listen("tcp", "127.0.0.1:80")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "Hello kitty!")
	})}
	go srv.Serve(l)
	defer srv.Close()

	client := http.Client{Transport: &http.Transport{DialContext: s.DialContext, DisableKeepAlives: true}}
	resp, err := client.Get("http://127.0.0.1/")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(string(body))
	// Output: Hello kitty!
}

// A steering rule sends a whole prefix to one listener, and Dial reaches it at the
// address it asked for.
func ExampleStack_Dial() {
	s, err := stack.New(stack.Config{
		Routes: []stack.Route{{Type: stack.Local, Dst: netip.MustParsePrefix("192.0.2.0/24"), Dev: "lo"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	l, err := s.Listen("tcp", "127.0.0.1:80")
	if err != nil {
		log.Fatal(err)
	}
	err = s.AddSteering(stack.SteerRule{
		Network: "tcp", Prefix: netip.MustParsePrefix("192.0.2.0/24"), PortLo: 1, PortHi: 65535,
		To: netip.MustParseAddrPort("127.0.0.1:80"),
	})
	if err != nil {
		log.Fatal(err)
	}
	accepted := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		accepted <- c
	}()
	c, err := s.Dial("tcp", "192.0.2.77:4711")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	srv := <-accepted
	defer srv.Close()
	fmt.Println(srv.LocalAddr())
	// Output: 192.0.2.77:4711
}

func ExampleStack_LookupRoute() {
	s, err := stack.New(stack.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	l := s.LookupRoute(stack.RouteQuery{Dst: netip.MustParseAddr("127.0.0.5")})
	fmt.Println(l.Short())
	fmt.Print(s.LookupRoute(stack.RouteQuery{Dst: netip.MustParseAddr("192.0.2.1")}).Text())
	// Output:
	// rule 0 → table local → local 127.0.0.0/8 dev lo
	// route lookup: to 192.0.2.1
	//   rule 0:      from all lookup local    ✗ no route in this table
	//   rule 32766:  from all lookup main     ✗ no route in this table
	//   rule 32767:  from all lookup default  ✗ no route in this table
	//   => no route: dropped; a local sender gets ENETUNREACH
}

func ExampleStack_LookupSocket() {
	s, err := stack.New(stack.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	l, err := s.Listen("tcp4", ":80")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	fmt.Println(s.LookupSocket(stack.FourTuple{
		Network: "tcp", Src: netip.MustParseAddrPort("127.0.0.1:55402"), Dst: netip.MustParseAddrPort("127.0.0.1:80"),
	}).Short())
	// Output: exact 4-tuple ✗, listener 127.0.0.1:80 ✗, listener *:80 ✓ fd 3 LISTEN
}

// A subscription shows the socket calls of an application as strace would.
func ExampleStack_Subscribe() {
	s, err := stack.New(stack.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	sub := s.Subscribe(context.Background(), 100)
	l, err := s.Listen("tcp4", "127.0.0.1:80")
	if err != nil {
		log.Fatal(err)
	}
	l.Close()
	sub.Close()
	for ev := range sub.Events() {
		if ev.Call != nil {
			fmt.Println(strace.Format(ev.Call, strace.DefaultSize))
		}
	}
	// Output:
	// socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_IP) = 3
	// setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
	// bind(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
	// listen(3, 4096)                         = 0
	// close(3)                                = 0
}

// The socket calls beneath Listen and Dial: two binds to one address.
func ExampleStack_Sys() {
	s, err := stack.New(stack.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	y := s.Sys()
	for range 2 {
		fd, err := y.Socket(stack.AF_INET, stack.SOCK_STREAM, stack.IPPROTO_IP)
		if err != nil {
			log.Fatal(err)
		}
		err = y.Bind(fd, netip.MustParseAddrPort("127.0.0.1:80"))
		fmt.Println(fd, "in use:", errors.Is(err, syscall.EADDRINUSE))
	}
	// Output:
	// 3 in use: false
	// 4 in use: true
}
