package relay_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/catflap/catflap/app/relay"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
)

// A stack leads the connections of another one out to the host: the first has a default
// route, the second a forwarder behind it.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "meow") }))
	defer server.Close()

	inside, outside := tun.Pipe(1500)
	client, err := stack.New(stack.Config{
		Links:  []stack.Link{{Name: "eth0", Endpoint: inside, Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}}},
		Routes: []stack.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.9.0.2"), Dev: "eth0"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	router, err := stack.New(stack.Config{
		Links:  []stack.Link{{Name: "cat0", Endpoint: outside, Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}}},
		Routes: []stack.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.9.0.1"), Dev: "cat0"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer router.Close()

	r := relay.New(relay.Config{})
	defer r.Close()
	f, err := router.Forward(stack.ForwardConfig{
		Name:  "egress",
		Links: []string{"cat0"},
		Rules: []stack.ForwardRule{{Network: "tcp", Prefix: netip.MustParsePrefix("192.0.2.0/24"), PortLo: 80, PortHi: 80}},
		// Each address of the prefix is the same server here; a [relay.Host] dials the address itself.
		TCP: r.TCP(relay.To(new(net.Dialer), server.Listener.Addr().String())),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	tr := &http.Transport{DialContext: client.DialContext}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://192.0.2.7/")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s\n", body)

	lookup := router.LookupSocket(stack.FourTuple{Network: "tcp", Src: netip.MustParseAddrPort("10.9.0.1:5000"), Dst: netip.MustParseAddrPort("192.0.2.7:80")})
	fmt.Println(lookup.Answer)
	// Output:
	// meow
	// the forwarder egress (tcp 192.0.2.0/24 80)
}
