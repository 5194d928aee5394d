package stack

import "testing"

// TestLookupPacket: the device that a packet arrives on decides which rules it meets, and only a packet for this stack
// has a socket.
func TestLookupPacket(t *testing.T) {
	s := newStack(t, Config{
		Links: catLinks(),
		Rules: []Rule{{Priority: 100, IIF: "cat1", To: pfx("203.0.113.0/24"), Action: ActionProhibit}},
	})
	l, err := s.Listen("tcp4", ":80")
	must(t, err)
	defer l.Close()
	for _, c := range []struct {
		why, src, dst, iif string
		route, socket      string
	}{
		{"the route to the source says that it arrives on cat0", "10.9.0.1:5", "203.0.113.9:80", "", "no rule leads to a route", ""},
		{"on cat1 a rule stands in its way", "10.8.0.1:5", "203.0.113.9:80", "", "rule 100 → prohibit", ""},
		{"the device that is named goes before the route to the source", "10.9.0.1:5", "203.0.113.9:80", "cat1", "rule 100 → prohibit", ""},
		{"a packet for the stack has a socket", "10.9.0.1:5", "10.9.0.2:80", "", "rule 0 → table local → local 10.9.0.2 dev cat0", "exact 4-tuple ✗, listener 10.9.0.2:80 ✗, listener *:80 ✓ fd 3 LISTEN"},
		{"an IPv4-mapped address is the IPv4 address", "[::ffff:10.9.0.1]:5", "[::ffff:10.9.0.2]:80", "", "rule 0 → table local → local 10.9.0.2 dev cat0", "exact 4-tuple ✗, listener 10.9.0.2:80 ✗, listener *:80 ✓ fd 3 LISTEN"},
	} {
		got := s.LookupPacket(tuple("tcp", c.src, c.dst), c.iif)
		socket := ""
		if got.Socket != nil {
			socket = got.Socket.Short()
		}
		if got.Route.Short() != c.route || socket != c.socket {
			t.Errorf("%s: %q, %q; want %q, %q", c.why, got.Route.Short(), socket, c.route, c.socket)
		}
		want := got.Route.Text()
		if got.Socket != nil {
			want += got.Socket.Text()
		}
		if got.Text() != want {
			t.Errorf("%s: text %q", c.why, got.Text())
		}
	}
}
