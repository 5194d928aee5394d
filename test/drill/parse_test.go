package drill_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/test/drill"
)

// language uses each form of the language once. It is parsed, not run.
const language = `// a comment
# another
/* and one
   of several lines */
--ip_version=ipv4
--tolerance_usecs=10000
--define=NAME="value"
` + "`../common/defaults.sh\nsysctl -q net.ipv4.tcp_sack=1`" + `

    0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3  // at the end of a line
   +0 bind(3, {sa_family = AF_INET, sin_port = htons(80), sin_addr = inet_addr("192.168.0.1")}, ...) = 0
   +0 setsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0
   +0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
   +0 fcntl(3, F_GETFL) = 0x802 (flags O_RDWR|O_NONBLOCK)
   +0 poll([{fd=3, events=POLLIN|POLLOUT, revents=0}], 1, 0) = 0
   +0 recvmsg(3, {msg_name(...)=..., msg_iov(2)=[{..., 10}, {"abc"..., 3}], msg_flags=0, msg_control=[{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=9}]}, 0) = -1 EAGAIN (Resource temporarily unavailable)
  0.5 < S 0:0(0) win 100 urg 2 <mss 1000,sackOK,TS val 1 ecr 0,nop,wscale 7,eol>
+.001 > S. 0:0(0) ack 1 <...>
+.1~+.2 > FP. 1:11(10) ack 1 <nop,nop,sack 1:2 3:4>
 1~1.5 > . * ack 1
    * > R 1:1(0)
+0...0.25 read(3, ..., 100) = ...
   +0 < [ect0] 1000 > 2000 SEW 0:0(0) win 5 <FO,FO abcd,FOEXP 0102,md5 000102030405060708090a0b0c0d0e0f>
   +0 < (tos 0x10, ttl 3) - 0:0(0) <unknown-99 0x0102,unknown-77>
   +0 < icmp unreachable frag_needed mtu 1000 [1:1461(1460)]
   +0 < icmp unreachable port_unreachable [udp (10)]
   +0 < icmpv6 packet_too_big mtu 1280
   +0 > icmp echo_reply id 3 seq 4 (10)
   +0 < [ce] F5. 1:1(0) ack 1 <ECN e0b 1 ceb 2 e1b 16777215>
   +0 > SEWA 0:0(0) <ECN e1b 1 ceb 0,nop>
   +0 > S. ...(0) ack 1 <FO TFO_COOKIE_ZERO>
   +0 > (hlim 4) R. 0:0(0)! ack 1 win 0/udp(9811 > 1)
   +0 < (class 0x20) S 0:0(0) win 5/udp(1 > 9811)
   +0 < icmp parameter_problem unknown_next_header [1:1(0)/udp(9811 > 1)]
   +0 < udp (100)
   +0 > udp 53 > 54 (0)
   +0 %{
assert tcpi_snd_cwnd == 10 and not (1 <= tcpi_rto < 5 or tcpi_x & 4), 'cwnd=%d' % tcpi_snd_cwnd  # why
x = 2; x += 1; print(x, "text", min(1, 2))
assert (tcpi_a != 1 && !tcpi_b) || \
       True
}%
   +0 ` + "`sysctl -q net.ipv4.tcp_sack=1`" + `
` + "`/tmp/sysctl_restore_${PPID}.sh`\n"

func TestParseLanguage(t *testing.T) {
	s, err := drill.Parse("language.pkt", []byte(language))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Options) != 3 || len(s.Init) != 1 || len(s.Events) != 29 || len(s.Cleanup) != 1 {
		t.Fatalf("%d options, %d init lines, %d events, %d cleanup lines", len(s.Options), len(s.Init), len(s.Events), len(s.Cleanup))
	}
	if o := s.Options[2]; o.Name != "define" || o.Value != "NAME=value" {
		t.Errorf("option %+v", o)
	}
	times := map[int]drill.Time{
		7:  {From: 500 * time.Millisecond, To: 500 * time.Millisecond},
		8:  {Relative: true, From: time.Millisecond, To: time.Millisecond},
		9:  {Relative: true, From: 100 * time.Millisecond, To: 200 * time.Millisecond},
		10: {From: time.Second, To: 1500 * time.Millisecond},
		11: {Any: true},
		12: {Relative: true, Blocking: true, End: 250 * time.Millisecond},
	}
	for i, want := range times {
		if got := s.Events[i].Time; got != want {
			t.Errorf("event %d: time %+v, want %+v", i, got, want)
		}
	}
	if c := s.Events[6].Call; c.Errno != "EAGAIN" || c.Note != "Resource temporarily unavailable" {
		t.Errorf("errno %q, note %q", c.Errno, c.Note)
	}
	if p := s.Events[13].Packet; p.SrcPort != 1000 || p.DstPort != 2000 || *p.IP.ECN != 2 || len(p.TCP.Options) != 4 {
		t.Errorf("packet %+v, %+v", p, p.TCP)
	}
	if p := s.Events[15].Packet; *p.ICMP.MTU != 1000 || p.ICMP.Quote.Len != 1460 {
		t.Errorf("packet %+v", p.ICMP)
	}
}

// mistakes are scripts with one mistake each, with where it is and what is said of it.
var mistakes = []struct{ script, pos, says string }{
	{"", "1:1", "no events"},
	{"0 sock", "1:7", `expected "("`},
	{"0 sock(", "1:8", "expected a value, found the end of the script"},
	{"0 read(4) = -1 EAGIN", "1:16", "EAGIN is no errno known here; did you mean EAGAIN?"},
	{"0 listen(3, 1) = ", "1:17", "expected a value"},
	{"0 < S 0:0(0) <mss>", "1:18", `expected an MSS, found ">"`},
	{"0 < S 0:0(0) <mss 70000>", "1:19", "too large: at most 65535"},
	{"0 < S 0:10(5)", "1:7", "0:10(5) does not add up: from 0 to 10 are 10 bytes"},
	{"0 < X 0:0(0)", "1:5", "expected TCP flags"},
	{"0 < S 0:0(0) <msss 1>", "1:15", `"msss" is no TCP option known here`},
	{"0 < S 0:0(0) <...>", "1:3", "needs its options written out"},
	{"0 < S 0:0(0) <sack 1:2 3:4 5:6 7:8,TS val 1 ecr 2>", "1:15", "these options take 44 bytes; a TCP header holds at most 40"},
	{"0 < . 1:1(0) ack", "1:17", "expected an acknowledgment number"},
	{"0 < S 0:0(0) win 70000", "1:18", "a window 70000 is too large"},
	{"0 < icmp unreachble", "1:10", "no type of ICMP message"},
	{"0 < icmp unreachable nowhere", "1:22", `"nowhere" is no code of "unreachable"`},
	{"0 < P55 1:1(0)", "1:5", "one digit for ACE"},
	{"0 < E5. 1:1(0)", "1:5", "E, W and A stand for bits of ACE"},
	{"0 > . 1:1(0) <ECN ceb 1>", "1:19", `expected "e0b" or "e1b"`},
	{"0 > . 1:1(0) <ECN e0b 16777216>", "1:23", "a counter of 24 bits 16777216 is too large"},
	{"0 > . 1:1(0)/tcp(1 > 2)", "1:14", `expected "udp"`},
	{"0 < udp 100", "1:12", `expected ">"`},
	{"0 < [tos] S 0:0(0)", "1:9", "expected a TOS byte"},
	{"0 < gre: S 0:0(0)", "1:5", "encapsulation is not supported"},
	{"+ socket(1) = 2", "1:3", "expected a time in seconds"},
	{"0 < [routing 1] S 0:0(0)", "1:14", "expected the header's bytes"},
	{"1~0.5 > R 0:0(0)", "1:2", "the range ends before it starts"},
	{"+1~2 > R 0:0(0)", "1:3", "both ends of a range are written alike"},
	{"* < R 0:0(0)", "1:1", "only a packet that the stack sends"},
	{"0...1 < R 0:0(0)", "1:1", "only a socket call can have an end time"},
	{"99999999999 < R 0:0(0)", "1:1", "more than a day"},
	{"/* open\n0 < R 0:0(0)", "1:1", "this comment has no end"},
	{"0 write(3, \"abc", "1:12", "this string has no end"},
	{"`sysctl", "1:1", "this shell line has no end"},
	{"0 %{ assert 1", "1:3", "this code block has no end"},
	{"0 %{ assert 1 + }%", "1:17", "expected a value in this code block, found its end"},
	{"0 %{ import os }%", "1:6", `"import" is not supported in a code block`},
	{"0 %{ f(1) }%", "1:6", "the function f is not known"},
	{"0 %{ assert (1 }%", "1:16", `expected "," or ")"`},
	{"0 < R 0:0(0)\n--mtu=100", "2:1", "options stand at the start of a script"},
	{"--mtu=\n0 < R 0:0(0)", "2:1", "expected a value for --mtu"},
	{"0 < R 0:0(0)\n`true`\n+0 < R 0:0(0)", "2:1", "a shell line between events needs a time"},
	{"0 f([[[[[[[[[[" + strings.Repeat("[", 200), "1:105", "nests more than 100 deep"},
	{"\t0 sock", "1:8", `expected "("`},
}

// TestParseFields holds what AccECN's counters and an encapsulation are read as.
func TestParseFields(t *testing.T) {
	s, err := drill.Parse("x.pkt", []byte("0 < F5. 1:1(0) ack 1 <ECN e0b 1 ceb 2 e1b 16777215>\n+0 > R. 0:0(0)! ack 1/udp(9811 > 1)\n+0 > S. 0:0(0) <FO TFO_COOKIE_ZERO>\n+0 < [routing 0x0001] S 0:0(0) <FO *>\n"))
	if err != nil {
		t.Fatal(err)
	}
	ace := s.Events[0].Packet.TCP
	if ace.Flags != packet.FIN|packet.ACK|packet.AE|packet.ECE {
		t.Errorf("F5. is %v", ace.Flags)
	}
	if o := ace.Options[0]; o.Kind != 172 || !bytes.Equal(o.Data, []byte{0, 0, 1, 0, 0, 2, 255, 255, 255}) {
		t.Errorf("option %d %x", o.Kind, o.Data)
	}
	if p := s.Events[1].Packet; !p.TCP.AbsSeq || p.IP.Encap == nil || *p.IP.Encap != (drill.EncapSpec{SrcPort: 9811, DstPort: 1}) {
		t.Errorf("packet %+v", p)
	}
	if o := s.Events[2].Packet.TCP.Options[0]; len(o.Data) != 8 {
		t.Errorf("cookie %x", o.Data)
	}
	if p := s.Events[3].Packet; !p.TCP.Options[0].AnyCookie || !bytes.Equal(p.IP.Routing, []byte{0, 1}) {
		t.Errorf("packet %+v", p)
	}
}

func TestParseMistakes(t *testing.T) {
	for _, m := range mistakes {
		_, err := drill.Parse("x.pkt", []byte(m.script))
		var mistake *drill.Error
		if !errors.As(err, &mistake) {
			t.Errorf("%q: error %v", m.script, err)
			continue
		}
		text := err.Error()
		if !strings.HasPrefix(text, "x.pkt:"+m.pos+": ") || !strings.Contains(text, m.says) {
			t.Errorf("%q:\n got %s\nwant x.pkt:%s: …%s…", m.script, text, m.pos, m.says)
		}
		lines := strings.Split(text, "\n")
		if caret := strings.IndexByte(lines[2], '^') - len("    ") + 1; caret != mistake.Pos.Col && len(lines[1]) >= mistake.Pos.Col {
			t.Errorf("%q: the caret is below column %d", m.script, caret)
		}
	}
}

func TestParseTooLarge(t *testing.T) {
	_, err := drill.Parse("x.pkt", make([]byte, 2<<20))
	if err == nil || !strings.Contains(err.Error(), "at most 1048576 are read") {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(language)
	for _, m := range mistakes {
		f.Add(m.script)
	}
	f.Fuzz(func(t *testing.T, src string) {
		s, err := drill.Parse("fuzz.pkt", []byte(src))
		if err != nil {
			var mistake *drill.Error
			if !errors.As(err, &mistake) {
				t.Fatalf("error of another kind: %v", err)
			}
			if mistake.Pos.Line < 1 || mistake.Pos.Col < 1 {
				t.Fatalf("no place: %v", err)
			}
			return
		}
		if len(s.Events) == 0 {
			t.Fatal("a script without events")
		}
	})
}
