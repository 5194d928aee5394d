package top

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/cmd/catflap/internal/clitest"
	"github.com/catflap/catflap/stack"
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// busy is a table after two looks, with traffic between them.
func busy() *table {
	t := &table{}
	socket := func(port uint16, rtt time.Duration, cwnd uint32, again uint64) stack.SocketInfo {
		return stack.SocketInfo{
			FD: int(port) - 40000, Network: "tcp", Local: ap("10.9.0.2:80"), Remote: netip.AddrPortFrom(ap("10.9.0.1:1").Addr(), port), State: "ESTABLISHED",
			TCP: &stack.TCPInfo{RTT: rtt, SndCwnd: cwnd, Retransmits: again},
		}
	}
	sockets := []stack.SocketInfo{
		socket(40005, 20*time.Millisecond, 10, 0), socket(40006, 300*time.Microsecond, 700, 3),
		{FD: 3, Network: "tcp", Local: ap("0.0.0.0:80"), State: "LISTEN"},
		{FD: 9, Network: "udp", Local: ap("10.9.0.2:53"), Remote: ap("10.9.0.1:53"), State: "ESTABLISHED"},
		{FD: -1, Network: "tcp", Local: ap("10.9.0.2:80"), Remote: ap("10.9.0.1:40004"), State: "TIME-WAIT"},
	}
	t.update(sockets, time.Unix(100, 0))
	sample := func(port uint16, una, nxt uint32, limit string) {
		t.sample(&stack.SampleEvent{Local: ap("10.9.0.2:80"), Remote: netip.AddrPortFrom(ap("10.9.0.1:1").Addr(), port), SndUna: una, RcvNxt: nxt, Limit: limit})
	}
	sample(40005, 0xffffff00, 1, "application")
	sample(40005, 0x100, 1001, "receive window") // over the end of the sequence numbers
	sample(40006, 1, 1, "application")
	sample(40006, 1, 2_000_001, "congestion window")
	sample(40099, 1, 1, "nobody knows this one")
	sockets[0].TCP.RTT = 40 * time.Millisecond
	t.update(sockets, time.Unix(102, 0))
	return t
}

// frame fails a test unless a drawn screen fits.
func frame(t *testing.T, drawn string, width, height int) []string {
	t.Helper()
	lines, err := clitest.Frame(drawn, width, height)
	if err != nil {
		t.Error(err)
	}
	return lines
}

func TestTopTable(t *testing.T) {
	lines := Lines(busy().rows("rate"), 1000)
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	clitest.Equal(t, "top", strings.Join(lines, "\n"), `REMOTE          LOCAL        FD  STATE         OUT    IN  CWND  RETR    SRTT  COURSE  LIMIT
10.9.0.1:40006  10.9.0.2:80   6  ESTABLISHED     0  8.0M   700     3   300µs  ██      congestion window
10.9.0.1:40005  10.9.0.2:80   5  ESTABLISHED  2.0k  4.0k    10     0  40.0ms  ▄█      receive window
10.9.0.1:40004  10.9.0.2:80   -  TIME-WAIT       0     0     0     0       -`)

	gone := busy()
	gone.update(nil, time.Unix(103, 0))
	if rows := gone.rows("rate"); len(rows) != 0 || len(gone.conns) != 0 {
		t.Errorf("connections that are gone are shown: %+v", rows)
	}
}

func TestTopSorts(t *testing.T) {
	for _, tt := range []struct {
		by   string
		want string
	}{
		{"rate", "[40006 40005 40004]"}, {"cwnd", "[40006 40005 40004]"}, {"srtt", "[40005 40006 40004]"},
		{"retrans", "[40006 40004 40005]"}, {"remote", "[40004 40005 40006]"},
	} {
		var ports []uint16
		for _, r := range busy().rows(tt.by) {
			ports = append(ports, r.Remote.Port())
		}
		if got := fmt.Sprint(ports); got != tt.want {
			t.Errorf("by %s: %s, want %s", tt.by, got, tt.want)
		}
	}
}

// TestTopFits: a screen of any size shows what fits, and what matters most first.
func TestTopFits(t *testing.T) {
	for width := 1; width <= 130; width++ {
		for height := 1; height <= 12; height++ {
			for _, color := range []bool{false, true} {
				s := &screen{dev: "cat0", sort: "rate", color: color, rows: busy().rows("rate"), scroll: 99}
				drawn := s.draw(width, height)
				if !color && strings.Contains(drawn, reverse) {
					t.Errorf("%dx%d: colour where none is wanted", width, height)
				}
				frame(t, drawn, width, height)
			}
		}
	}
	s := &screen{dev: "cat0", sort: "rate", rows: busy().rows("rate")}
	got := frame(t, s.draw(20, 5), 20, 5)
	clitest.Equal(t, "20x5", strings.Join(got, "\n"), "00:00:00 cat0  3 con\nREMOTE        \n10.9.0.1:40006\n10.9.0.1:40005\nq quit  p pause  sor")
	if s.draw(0, 0) != "" {
		t.Error("a screen of no size is drawn on")
	}
}

func TestTopKeys(t *testing.T) {
	s := &screen{rows: busy().rows("rate"), sort: "rate"}
	for _, tt := range []struct {
		keys string
		quit bool
		want string
	}{
		{"c", false, "cwnd"}, {"t", false, "srtt"}, {"r", false, "retrans"}, {"a", false, "remote"}, {"b", false, "rate"},
		{"x\x1b[C", false, "cwnd"}, {"tq", true, "srtt"}, {"\x03", true, "srtt"},
	} {
		if quit := s.key(tt.keys, 10); quit != tt.quit || tt.want != s.sort && tt.keys[0] != 'x' {
			t.Errorf("%q: quit %v, sorted by %s; want %v, %s", tt.keys, quit, s.sort, tt.quit, tt.want)
		}
	}
	s.key("p", 10)
	if !s.paused || !strings.HasPrefix(s.summary(), "PAUSED") {
		t.Error("p does not pause")
	}
	if s.key(" ", 10); s.paused {
		t.Error("space does not go on")
	}
	for _, tt := range []struct {
		keys string
		want int
	}{{"\x1b[B\x1b[B", 2}, {"\x1b[A", 1}, {"\x1b[6~", 2}, {"\x1b[5~\x1b[A", 0}} {
		s.key(tt.keys, 4) // room for one row of three
		if s.draw(80, 4); s.scroll != tt.want {
			t.Errorf("%q scrolls to %d, want %d", tt.keys, s.scroll, tt.want)
		}
	}
}

func TestTopNumbers(t *testing.T) {
	for bits, want := range map[float64]string{0: "0", 999: "999", 1000: "1.0k", 12_345_678: "12.3M", 9.99e9: "10.0G"} {
		if got := bitRate(bits); got != want {
			t.Errorf("%v bits a second are %s, want %s", bits, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "-", 999 * time.Nanosecond: "0µs", 1500 * time.Microsecond: "1.5ms", 250 * time.Millisecond: "250ms", 3 * time.Second: "3.0s"} {
		if got := shortTime(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
	if got := sparkline([]time.Duration{0, 1, 7, 14}); got != "▁▁▄█" {
		t.Errorf("sparkline %s", got)
	}
}
