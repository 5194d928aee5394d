package lab

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/catflap/catflap/stack"
)

// What has no other end, or no address yet, is named as ss names it.
func TestDescribeState(t *testing.T) {
	http, peer := netip.MustParseAddrPort("10.9.0.2:80"), netip.MustParseAddrPort("10.9.0.1:5000")
	for _, c := range []struct {
		state stack.StateEvent
		want  string
	}{
		{stack.StateEvent{Local: http, Remote: peer, From: "ESTABLISHED", To: "CLOSE-WAIT"}, "state  10.9.0.2:80 > 10.9.0.1:5000  ESTABLISHED -> CLOSE-WAIT"},
		{stack.StateEvent{Local: http, From: "LISTEN", To: "CLOSED"}, "state  10.9.0.2:80 > *:*  LISTEN -> CLOSED"},
		{stack.StateEvent{From: "LISTEN", To: "CLOSED"}, "state  *:* > *:*  LISTEN -> CLOSED"},
	} {
		if got := (entry{event: &stack.Event{State: &c.state}}).describe(nil); !slices.Equal(got, []string{c.want}) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
