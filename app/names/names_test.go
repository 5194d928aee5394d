package names

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var own = map[string][]netip.Addr{
	"db":      {netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd00:9::7")},
	"v4.test": {netip.MustParseAddr("10.9.0.8")},
}

// start serves cfg over UDP and TCP on loopback and returns the addresses.
func start(t *testing.T, cfg Config) (udp, tcp string) {
	t.Helper()
	s := New(cfg)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- s.ServePacket(pc) }()
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		for range 2 {
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("it ended with %v", err)
			}
		}
	})
	return pc.LocalAddr().String(), l.Addr().String()
}

func ask(t *testing.T, network, server, name string, rrtype uint16) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: time.Minute}
	r, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, rrtype), server)
	if err != nil {
		t.Fatalf("%s %s over %s: %v", name, dns.TypeToString[rrtype], network, err)
	}
	return r
}

// data are the records of an answer without their headers.
func data(m *dns.Msg) string {
	var words []string
	for _, rr := range m.Answer {
		words = append(words, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(words, " ")
}

func TestOwn(t *testing.T) {
	udp, tcp := start(t, Config{Own: own, Search: []string{"corp.test."}})
	for _, tt := range []struct {
		name  string
		typ   uint16
		rcode int
		want  string
	}{
		{"db.", dns.TypeA, dns.RcodeSuccess, "10.9.0.7"},
		{"DB.", dns.TypeAAAA, dns.RcodeSuccess, "fd00:9::7"},
		{"db.", dns.TypeANY, dns.RcodeSuccess, "10.9.0.7 fd00:9::7"},
		{"db.", dns.TypeTXT, dns.RcodeSuccess, ""},
		{"db.corp.test.", dns.TypeA, dns.RcodeSuccess, "10.9.0.7"},
		{"v4.test.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"7.0.9.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, "db."},
		{"other.test.", dns.TypeA, dns.RcodeRefused, ""},
		{"corp.test.", dns.TypeA, dns.RcodeRefused, ""},
		{"9.0.9.10.in-addr.arpa.", dns.TypePTR, dns.RcodeRefused, ""},
	} {
		for network, server := range map[string]string{"udp": udp, "tcp": tcp} {
			if r := ask(t, network, server, tt.name, tt.typ); r.Rcode != tt.rcode || data(r) != tt.want {
				t.Errorf("%s %s over %s: %s %q, want %s %q", tt.name, dns.TypeToString[tt.typ], network, dns.RcodeToString[r.Rcode], data(r), dns.RcodeToString[tt.rcode], tt.want)
			}
		}
	}
}

// TestOwnTruncated: an answer that does not fit into a datagram says so, and comes whole over TCP.
func TestOwnTruncated(t *testing.T) {
	many := map[string][]netip.Addr{}
	for i := range 100 {
		many["many"] = append(many["many"], netip.AddrFrom4([4]byte{10, 9, 1, byte(i)}))
	}
	udp, tcp := start(t, Config{Own: many})
	r := ask(t, "udp", udp, "many.", dns.TypeA)
	r.Compress = true // as it came
	if !r.Truncated || r.Len() > dns.MinMsgSize || len(r.Answer) == 0 {
		t.Errorf("over UDP: truncated %v, %d records, %d bytes", r.Truncated, len(r.Answer), r.Len())
	}
	if r := ask(t, "tcp", tcp, "many.", dns.TypeA); r.Truncated || len(r.Answer) != 100 {
		t.Errorf("over TCP: truncated %v, %d records", r.Truncated, len(r.Answer))
	}
}

// upstream is a UDP server that answers with what handle makes of a question.
func upstream(t *testing.T, handle func(pc net.PacketConn, from net.Addr, q []byte)) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, dns.MaxMsgSize)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			handle(pc, from, slices.Clone(b[:n]))
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// TestForward: the question goes on as it is but for its id, and only an answer to it comes back, as it is.
func TestForward(t *testing.T) {
	const tail = "\x00\x00\x10\x00\x01 and what no parser knows"
	var mu sync.Mutex // guards what follows
	var ids, ports []string
	to := upstream(t, func(pc net.PacketConn, from net.Addr, q []byte) {
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, fmt.Sprint(q[:2]))
		ports = append(ports, from.String())
		if !strings.HasSuffix(string(q), tail) {
			t.Errorf("the question came as %q", q)
		}
		forged := slices.Clone(q)
		forged[2] |= 0x80
		forged = append(forged, "forged"...)
		forged[0]++ // another id
		pc.WriteTo(forged, from)
		forged[0]--
		forged[headerSize+1]++ // another name
		pc.WriteTo(forged, from)
		forged[headerSize+1]--
		forged[2] &^= 0x80 // no answer
		pc.WriteTo(forged, from)
		q[2] |= 0x80
		pc.WriteTo(append(q, "right"...), from)
	})
	udp, _ := start(t, Config{Own: own, Upstreams: []netip.AddrPort{to}})
	c, err := net.Dial("udp", udp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const times = 20
	for range times {
		q := append([]byte{0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}, "\x01x\x04test\x00\xff\x00\x00\x01"+tail...)
		if _, err := c.Write(q); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1000)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		q[2] |= 0x80
		if want := string(q) + "right"; string(b[:n]) != want {
			t.Fatalf("answer %q, want %q", b[:n], want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(ids)
	slices.Sort(ports)
	if len(ids) != times || len(slices.Compact(ids)) < times-2 || len(slices.Compact(ports)) < times/2 {
		t.Errorf("%d questions, ids %v, from %v: want others each time", times, ids, ports)
	}
}

// TestForwardNext: who is not there, or cannot say, is followed by the next.
func TestForwardNext(t *testing.T) {
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := netip.MustParseAddrPort(closed.LocalAddr().String())
	closed.Close()
	fails := func(rcode byte) netip.AddrPort {
		return upstream(t, func(pc net.PacketConn, from net.Addr, q []byte) {
			q[2] |= 0x80
			q[3] = q[3]&0xf0 | rcode
			pc.WriteTo(q, from)
		})
	}
	udp, _ := start(t, Config{Upstreams: []netip.AddrPort{nobody, fails(dns.RcodeServerFailure), fails(dns.RcodeNameError), fails(dns.RcodeSuccess)}})
	if r := ask(t, "udp", udp, "x.test.", dns.TypeA); r.Rcode != dns.RcodeNameError {
		t.Errorf("%s, want what the third says", dns.RcodeToString[r.Rcode])
	}
	udp, tcp := start(t, Config{Upstreams: []netip.AddrPort{nobody}})
	for network, server := range map[string]string{"udp": udp, "tcp": tcp} {
		if r := ask(t, network, server, "x.test.", dns.TypeA); r.Rcode != dns.RcodeServerFailure {
			t.Errorf("over %s: %s, want SERVFAIL", network, dns.RcodeToString[r.Rcode])
		}
	}
}

// TestLimits: questions beyond the limit are refused at once, and answers are never answered.
func TestLimits(t *testing.T) {
	arrived := make(chan struct{}, maxQueries)
	silent := upstream(t, func(net.PacketConn, net.Addr, []byte) { arrived <- struct{}{} })
	s := New(Config{Upstreams: []netip.AddrPort{silent}})
	for range maxQueries {
		if !s.begin() {
			t.Fatal("no room below the limit")
		}
	}
	if s.begin() {
		t.Error("room above the limit")
	}
	q, err := new(dns.Msg).SetQuestion("x.test.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	var m dns.Msg
	if err := m.Unpack(failure(q, dns.RcodeServerFailure)); err != nil || !m.Response || m.Rcode != dns.RcodeServerFailure || m.Id != binary.BigEndian.Uint16(q) || m.Question[0].Name != "x.test." {
		t.Errorf("%v, %v", m, err)
	}
	q[2] |= 0x80
	for _, b := range [][]byte{nil, q, q[:11]} {
		if a := s.answer("udp", b); a != nil {
			t.Errorf("%x is answered: %x", b, a)
		}
	}
	// Close does not wait for upstreams.
	q[2] &^= 0x80
	answered := make(chan []byte)
	go func() { answered <- s.answer("udp", q) }()
	<-arrived
	s.Close()
	<-answered
}

func TestParse(t *testing.T) {
	s, err := Parse("host,DB=10.9.0.7,db=fd00:9::7,web.test.=10.9.0.2")
	if err != nil || !s.Host || len(s.Own["db"]) != 2 || len(s.Own["web.test"]) != 1 || !s.On() {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := Parse("off"); err != nil || s.On() {
		t.Errorf("off: %+v, %v", s, err)
	}
	for text, says := range map[string]string{
		"db":              `"db": want host, off, or NAME=ADDR`,
		"off,host":        `"off": want host`,
		"db=1.2.3":        `"1.2.3" is no IP address`,
		"db=fe80::1%eth":  "is no IP address",
		"=1.2.3.4":        `"" is no name`,
		"1.2.3.4=1.2.3.4": "is no name",
		"a b=1.2.3.4":     `"a b" is no name`,
		"db=1.2.3.4,":     `"": want host`,
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", text, err, says)
		}
	}
}

func TestFiles(t *testing.T) {
	path := t.TempDir() + "/resolv.conf"
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# none\n")
	if _, err := ReadResolver(path); !errors.Is(err, ErrNoServers) {
		t.Errorf("without nameservers: %v", err)
	}
	write("nameserver 127.0.0.53\nnameserver fe80::1%lo\nsearch corp.test lab.test\noptions ndots:2 trust-ad\n")
	r, err := ReadResolver(path)
	if err != nil || len(r.Servers) != 2 || r.Servers[1].Addr().Zone() != "lo" {
		t.Fatalf("%+v, %v", r, err)
	}
	files := Files([]netip.Addr{netip.MustParseAddr("10.9.0.2")}, r, "passwd: files\nhosts:  mymachines resolve [!UNAVAIL=return] dns\nservices: db")
	if got := files["/etc/resolv.conf"]; !strings.HasSuffix(got, "\nnameserver 10.9.0.2\nsearch corp.test lab.test\noptions ndots:2\n") {
		t.Errorf("resolv.conf: %s", got)
	}
	if got, want := files["/etc/nsswitch.conf"], "passwd: files\nhosts: files dns\nservices: db"; got != want {
		t.Errorf("nsswitch.conf: %q, want %q", got, want)
	}
	if got := hostsByDNS("passwd: files"); got != "passwd: files\nhosts: files dns\n" {
		t.Errorf("nsswitch.conf without hosts: %q", got)
	}
}

func FuzzAnswer(f *testing.F) {
	q, err := new(dns.Msg).SetQuestion("db.", dns.TypeA).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Add(q[:headerSize])
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01")) // a name that points to itself
	s := New(Config{Own: own})
	f.Fuzz(func(t *testing.T, query []byte) {
		for _, network := range []string{"udp", "tcp"} {
			a := s.answer(network, query)
			if a != nil && (len(a) < headerSize || a[2]&0x80 == 0 || a[0] != query[0] || a[1] != query[1]) {
				t.Errorf("%x is answered by %x", query, a)
			}
		}
	})
}
