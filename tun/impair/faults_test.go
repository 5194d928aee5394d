package impair

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/packet"
)

// A step is one segment of a conversation.
type step struct {
	from  Side
	flags uint8
	size  int // of the payload
}

const (
	fin = header.TCPFlagFin
	syn = header.TCPFlagSyn
	rst = header.TCPFlagRst
	psh = header.TCPFlagPsh
	ack = header.TCPFlagAck
)

// conversation is a request and an answer in three segments, of which the server's stream has 2500 bytes.
var conversation = []step{
	0:  {Client, uint8(syn), 0},
	1:  {Server, uint8(syn | ack), 0},
	2:  {Client, uint8(ack), 0},
	3:  {Client, uint8(psh | ack), 100},
	4:  {Server, uint8(ack), 0},
	5:  {Server, uint8(ack), 1000}, // bytes 0 to 999
	6:  {Server, uint8(ack), 1000},
	7:  {Client, uint8(ack), 0},
	8:  {Server, uint8(psh | ack), 500},
	9:  {Client, uint8(ack), 0},
	10: {Server, uint8(fin | ack), 0},
	11: {Client, uint8(ack), 0},
	12: {Client, uint8(fin | ack), 0},
	13: {Server, uint8(ack), 0},
}

const interval = 10 * ms // between two steps

// untouched is what arrives of the conversation if nothing is done to it.
const untouched = "0 1 2 3 4 5 6 7 8 9 10 11 12 13"

// talk has a client on that port and the server, above the Link, speak, and returns what arrived, in that order:
// the step's number; "+" and the delay if it was late; "!" and the changed bit if a bit was flipped; "w" and the
// window if it was changed; an answer's decoded text.
func talk(t testing.TB, b *bench, v6 bool, port uint16, steps []step) string {
	t.Helper()
	seq := map[Side]uint32{Client: 1000 + uint32(port), Server: 0xffffff00}
	start := b.clock.NowMonotonic().Sub(b.start)
	var sent [][]byte
	for i, s := range steps {
		peer := Client + Server - s.from
		p := tcpSegment(v6, s.from, port, seq[s.from], seq[peer], s.flags, s.size, uint16(i))
		seq[s.from] += uint32(s.size)
		if s.flags&uint8(syn|fin) != 0 {
			seq[s.from]++
		}
		sent = append(sent, p)
		dir := Out
		if s.from == Client {
			dir = In
		}
		b.send(dir, p, stack.GSO{})
		b.clock.Advance(interval)
	}
	b.clock.Advance(time.Minute)

	// Merge both directions by time; at the same time what came in is first.
	var words []string
	in, out := b.arrivals(In), b.arrivals(Out)
	for len(in)+len(out) > 0 {
		var a arrival
		if len(out) == 0 || len(in) > 0 && in[0].at <= out[0].at {
			a, in = in[0], in[1:]
		} else {
			a, out = out[0], out[1:]
		}
		words = append(words, describe(t, a, sent, start))
	}
	return strings.Join(words, " ")
}

func describe(t testing.TB, a arrival, sent [][]byte, start time.Duration) string {
	p, err := packet.Parse(a.bytes)
	if err != nil {
		t.Fatal(err)
	}
	if p.TCP == nil || p.TCP.Flags&packet.RST != 0 {
		if err := p.Verify(); err != nil {
			t.Error(err)
		}
		return "[" + strings.TrimPrefix(packet.NewTracker().Format(p), map[int]string{4: "IP ", 6: "IP6 "}[p.Version]) + "]"
	}
	i := int(p.TCP.Urgent)
	if i >= len(sent) {
		t.Fatalf("a segment that nobody sent: %x", a.bytes)
	}
	s := fmt.Sprint(i)
	if late := a.at - start - time.Duration(i)*interval; late != 0 {
		s += "+" + formatTime(late)
	}
	if bytes.Equal(a.bytes, sent[i]) {
		return s
	}
	orig, _ := packet.Parse(sent[i])
	if p.TCP.Window != orig.TCP.Window {
		if err := p.Verify(); err != nil {
			t.Error(err)
		}
		return s + fmt.Sprintf("w%d", p.TCP.Window)
	}
	for bit := range 8 * len(sent[i]) {
		if (a.bytes[bit/8]^sent[i][bit/8])<<(bit%8)&0x80 != 0 {
			s += fmt.Sprintf("!%d", bit)
		}
	}
	return s
}

// tcpSegment is a TCP segment between a client's port and the server's port 80. Its urgent pointer carries a tag.
func tcpSegment(v6 bool, from Side, port uint16, seq, ackno uint32, flags uint8, size int, tag uint16) []byte {
	src, dst, sport, dport := clientAddr(v6), serverAddr(v6), port, uint16(80)
	if from == Server {
		src, dst, sport, dport = dst, src, dport, sport
	}
	l4 := header.IPv4MinimumSize
	if v6 {
		l4 = header.IPv6MinimumSize
	}
	b := make([]byte, l4+header.TCPMinimumSize+size)
	if v6 {
		header.IPv6(b).Encode(&header.IPv6Fields{
			PayloadLength: uint16(len(b) - l4), TransportProtocol: header.TCPProtocolNumber, HopLimit: 64, SrcAddr: src, DstAddr: dst,
		})
	} else {
		header.IPv4(b).Encode(&header.IPv4Fields{
			TotalLength: uint16(len(b)), TTL: 64, Flags: header.IPv4FlagDontFragment, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: src, DstAddr: dst,
		})
		header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	}
	for i := range b[l4+header.TCPMinimumSize:] {
		b[l4+header.TCPMinimumSize+i] = byte(i * 151) // of one byte none is like its neighbours
	}
	if flags&uint8(ack) == 0 {
		ackno = 0
	}
	header.TCP(b[l4:]).Encode(&header.TCPFields{
		SrcPort: sport, DstPort: dport, SeqNum: seq, AckNum: ackno, DataOffset: header.TCPMinimumSize,
		Flags: header.TCPFlags(flags), WindowSize: 5000, UrgentPointer: tag,
	})
	finish(b, l4, packet.ProtoTCP, header.TCPChecksumOffset)
	return b
}

func TestRules(t *testing.T) {
	for _, tt := range []struct{ rule, want string }{
		{"drop tcp data 2 from server", "0 1 2 3 4 5 7 8 9 10 11 12 13"},
		{"drop tcp data 2", "0 1 2 3 4 6 7 8 9 10 11 12 13"}, // the client's was the first
		{"drop tcp data 2..3 from server", "0 1 2 3 4 5 7 9 10 11 12 13"},
		{"drop tcp data 2.. from server", "0 1 2 3 4 5 7 9 10 11 12 13"},
		{"drop tcp syn 1", "1 2 3 4 5 6 7 8 9 10 11 12 13"},
		{"drop tcp synack", "0 2 3 4 5 6 7 8 9 10 11 12 13"},
		{"drop tcp ack every 3 from client", "0 1 2 3 4 5 6 7 8 10 11 12 13"},
		{"drop tcp fin from client", "0 1 2 3 4 5 6 7 8 9 10 11 13"},
		{"drop tcp rst", untouched},
		{"drop udp", untouched},
		{"drop icmp", untouched},
		{"drop port 81", untouched},
		{"drop tcp data connection 2", untouched},
		{"drop out", "0 2 3 7 9 11 12"},
		{"drop in size > 100", "0 1 2 4 5 6 7 8 9 10 11 12 13"},
		{"drop size < 100", "3 5 6 8"},
		{"drop tcp byte 1000 from server", "0 1 2 3 4 5 7 8 9 10 11 12 13"},
		{"drop tcp byte 999 from server", "0 1 2 3 4 6 7 8 9 10 11 12 13"},
		{"drop tcp byte 2500 from server", untouched},
		{"drop tcp ack at 95ms", "0 1 2 3 4 5 6 7 8 9 10 12"},
		{"delay tcp fin 2s", "0 1 2 3 4 5 6 7 8 9 11 13 10+2s 12+2s"},
		{"delay 25ms tcp data 1 from server", "0 1 2 3 4 6 7 5+25ms 8 9 10 11 12 13"},
		{"hold 25ms tcp data 1 from server", "0 1 2 3 4 7 5+25ms 6+15ms 8 9 10 11 12 13"},
		{"duplicate tcp data 1", "0 1 2 3 3 4 5 6 7 8 9 10 11 12 13"},
		{"cut 25ms at 35ms", "0 1 2 3 6 7 8 9 10 11 12 13"},
		{"cut 25ms tcp data 1", "0 1 2 6 7 8 9 10 11 12 13"},
		{"cut 25ms in", "1 3 4 5 6 7 8 9 10 11 12 13"},
		{"blackhole size > 1000", "0 1 2 3 4 7 8 9 10 11 12 13"},
		{"vanish client", "1 4 5 6 8 10 13"},
		{"vanish server tcp data 2 from server", "0 1 2 3 4 5 7 9 11 12"},
		{"vanish client tcp data 2 from server", "0 1 2 3 4 5 6 8 10 13"},
		{"window 0 from client", "0w0 1 2w0 3w0 4 5 6 7w0 8 9w0 10 11w0 12w0 13"},
		{"window 17 tcp ack 1 from client", "0 1 2w17 3 4 5 6 7 8 9 10 11 12 13"},
	} {
		for _, v6 := range []bool{false, true} {
			b := newBench(t, Config{Seed: 7})
			r, err := ParseRule(tt.rule)
			if err != nil {
				t.Fatal(err)
			}
			if v6 { // the same limits for packets that are longer by 20 bytes
				if r.Match.Over > 0 {
					r.Match.Over += 20
				}
				if r.Match.Under > 0 {
					r.Match.Under += 20
				}
			}
			if _, err := b.AddRule(r); err != nil {
				t.Fatal(err)
			}
			if got := talk(t, b, v6, 40000, conversation); got != tt.want {
				t.Errorf("%s, v6 %t:\n got %s\nwant %s", tt.rule, v6, got, tt.want)
			}
			if got := talk(t, b, v6, 40001, conversation); r.After == 0 && r.Verb != VerbCut && r.Match.Connection == 0 && got != tt.want {
				t.Errorf("%s, v6 %t, second connection:\n got %s\nwant %s", tt.rule, v6, got, tt.want)
			}
		}
	}
}

// TestRuleConnection: a rule may be about one connection only, in the order in which they come.
func TestRuleConnection(t *testing.T) {
	b := newBench(t, Config{})
	b.rule(t, "drop tcp syn connection 2")
	for i, want := range []string{untouched, strings.TrimPrefix(untouched, "0 "), untouched} {
		if got := talk(t, b, false, uint16(40000+i), conversation); got != want {
			t.Errorf("connection %d: %s, want %s", i+1, got, want)
		}
	}
	// The same port again is another connection.
	if got := talk(t, b, false, 40000, conversation); got != untouched {
		t.Errorf("connection 4: %s", got)
	}
}

func (b *bench) rule(t testing.TB, text string) int {
	t.Helper()
	r, err := ParseRule(text)
	if err != nil {
		t.Fatal(err)
	}
	id, err := b.AddRule(r)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestCorruptRule: the bit that is named is flipped. In the TUN's direction the packet goes on, for the kernel to
// find out; towards a receiver that takes checksums for granted it is dropped in its stead.
func TestCorruptRule(t *testing.T) {
	const headers = 40
	// Byte 1000 is the first of the second segment's payload; the lowest bit is the last of it.
	want := fmt.Sprintf("0 1 2 3 4 5 6!%d 7 8 9 10 11 12 13", 8*headers+7)
	b := newBench(t, Config{PeerVerifies: true})
	b.rule(t, "corrupt tcp byte 1000 from server")
	if got := talk(t, b, false, 40000, conversation); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if s := b.Stats().Out; s.Corrupted != 1 || s.Caught != 0 || s.Faults != 1 {
		t.Errorf("counted %+v", s)
	}

	b = newBench(t, Config{})
	b.rule(t, "corrupt tcp byte 1000 from server")
	b.rule(t, "corrupt tcp data 1 from client") // inbound, where the stack does not verify
	if got, want := talk(t, b, false, 40000, conversation), "0 1 2 4 5 7 8 9 10 11 12 13"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if s := b.Stats(); s.Out.Caught != 1 || s.In.Caught != 1 {
		t.Errorf("counted %+v", s)
	}
}

// TestAnswers: resets and ICMP errors go back to the sender, valid, and such as it believes.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		rule string
		v6   bool
		want string
	}{
		{"reset tcp syn", false, "[10.9.0.2.80 > 10.9.0.1.40000: Flags [R.], seq 0, ack 41001, win 0, length 0]"},
		{"reset tcp syn", true, "[fd00:9::2.80 > fd00:9::1.40000: Flags [R.], seq 0, ack 41001, win 0, length 0]"},
		// The server's second segment acknowledges the client's 101 bytes; the answer carries on from there.
		{"reset tcp data 2 from server", false, "[10.9.0.1.40000 > 10.9.0.2.80: Flags [R], seq 41101, win 0, length 0]"},
		{"toobig 600 out", false, "[10.9.0.1 > 10.9.0.2: ICMP 10.9.0.1 unreachable - need to frag (mtu 600), length 556]"},
		{"toobig 1280 size > 1000 out", true, "[fd00:9::1 > fd00:9::2: ICMP6, packet too big, mtu 1280, length 1068]"},
	} {
		b := newBench(t, Config{})
		b.rule(t, tt.rule)
		if got := talk(t, b, tt.v6, 40000, conversation); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s\nwant … %s …", tt.rule, got, tt.want)
		}
		if s := b.Stats(); s.In.Answered+s.Out.Answered == 0 || s.In.Faulted+s.Out.Faulted == 0 {
			t.Errorf("%s: counted %+v", tt.rule, s)
		}
	}
	// A packet that may be fragmented is let through; an RST is never answered.
	b := newBench(t, Config{})
	b.rule(t, "toobig 500")
	b.send(Out, datagram(1, 1000), stack.GSO{})
	b.rule(t, "reset tcp rst")
	b.send(Out, tcpSegment(false, Server, 40000, 1, 1, uint8(rst), 0, 0), stack.GSO{})
	b.clock.Advance(time.Second)
	if out, in := b.arrivals(Out), b.arrivals(In); len(out) != 1 || len(in) != 0 {
		t.Errorf("%d packets went on and %d came back, want 1 and none", len(out), len(in))
	}
}

// TestUnknownStart: rules hold for connections that are older than they; the server is who has the lower port.
func TestUnknownStart(t *testing.T) {
	b := newBench(t, Config{})
	b.rule(t, "drop tcp data 1 from server")
	b.rule(t, "drop tcp data 1 from client")
	if got, want := talk(t, b, false, 40000, conversation[4:]), "0 2 3 4 5 6 7 8 9"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestRuleList: rules are numbered, listed with what came of them, and removed; the Link is off without them.
func TestRuleList(t *testing.T) {
	b := newBench(t, Config{})
	b.rule(t, "drop tcp data 2 from server")
	second := b.rule(t, "drop tcp syn")
	talk(t, b, false, 40000, conversation)
	infos := b.Rules()
	if len(infos) != 2 || infos[0].Matched != 3 || infos[0].Applied != 1 || infos[1].Applied != 1 || infos[1].ID != second {
		t.Errorf("rules %+v", infos)
	}
	if !b.DelRule(second) || b.DelRule(second) {
		t.Error("a rule was not removed, or twice")
	}
	if got := talk(t, b, false, 40001, conversation); !strings.HasPrefix(got, "0 1 2") {
		t.Errorf("without the rule: %s", got)
	}
	b.DelRule(infos[0].ID)
	if b.ways[In].on.Load() || b.ways[Out].on.Load() {
		t.Error("the Link is on without rules")
	}
	for range maxRules {
		b.rule(t, "drop udp")
	}
	if _, err := b.AddRule(Rule{Verb: VerbDrop}); err == nil {
		t.Error("one rule more than the most was taken")
	}
	if _, err := b.AddRule(Rule{Verb: "melt"}); err == nil {
		t.Error("a rule without sense was taken")
	}
}
