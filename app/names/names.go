// Package names is the resolver that programs on the stack ask: a few names of its own,
// and for the rest the resolvers of the host, whose answers it passes on as they are.
package names

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Config says what a Server knows.
type Config struct {
	// Own are the names that the Server answers for by itself: A, AAAA, and PTR for their addresses. Other
	// types of such a name have no data.
	Own map[string][]netip.Addr

	// Search are domains that programs try after a name, so that NAME.DOMAIN is an own name too.
	Search []string

	// Upstreams are asked for all other names, in this order, of which three at most, as glibc's resolver
	// does. If there are none such questions are refused.
	Upstreams []netip.AddrPort

	Logger *slog.Logger // if nil, nothing is logged
}

const (
	// ttl is for how many seconds an own name may be kept: another instance may give it another address.
	ttl = 5

	// maxQueries are answered at once: each may wait for an upstream, with a socket and 64 KiB. A browser
	// that opens a page asks for some dozens. Another question is answered with SERVFAIL.
	maxQueries = 256

	// maxConns are open over TCP at once; another one is closed.
	maxConns = 64

	// idle is how long a TCP connection may be silent: RFC 7766 6.2.3 wants seconds.
	idle = 10 * time.Second

	// timeout is how long one upstream may take. Two of them fit into the 5 s after which glibc's resolver
	// asks again (RES_TIMEOUT).
	timeout = 2 * time.Second

	maxUpstreams = 3 // MAXNS

	// udpSize is how long an own answer may be over UDP (DNS flag day 2020: no fragments).
	udpSize = 1232
)

// Server is a resolver. Its methods may be called from several goroutines.
type Server struct {
	cfg     Config
	own     map[string][]netip.Addr // by name, in lower case and with the root's dot
	reverse map[string][]string     // by the PTR question
	log     *slog.Logger
	queries chan struct{} // holds one for each question that is being answered
	ctx     context.Context
	cancel  context.CancelFunc

	wg     sync.WaitGroup
	mu     sync.Mutex
	closed bool
	open   map[io.Closer]struct{}
	conns  int
}

// New makes a Server, which answers once Serve or ServePacket is called.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, own: map[string][]netip.Addr{}, reverse: map[string][]string{}, log: cfg.Logger, queries: make(chan struct{}, maxQueries), open: map[io.Closer]struct{}{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.cfg.Upstreams = cfg.Upstreams[:min(len(cfg.Upstreams), maxUpstreams)]
	for _, name := range slices.Sorted(maps.Keys(cfg.Own)) {
		s.own[dns.CanonicalName(name)] = cfg.Own[name]
		for _, a := range cfg.Own[name] {
			if r, err := dns.ReverseAddr(a.String()); err == nil {
				s.reverse[r] = append(s.reverse[r], dns.Fqdn(name))
			}
		}
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Lookup returns the addresses of an own name, nil if it is none.
func (s *Server) Lookup(name string) []netip.Addr {
	name = dns.CanonicalName(name)
	if a := s.own[name]; a != nil {
		return a
	}
	for _, domain := range s.cfg.Search {
		if domain = dns.CanonicalName(domain); domain == "." {
			continue
		}
		if first, ok := strings.CutSuffix(name, "."+domain); ok && s.own[first+"."] != nil {
			return s.own[first+"."]
		}
	}
	return nil
}

// keep takes in what Close is to close; false if the Server is closed.
func (s *Server) keep(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.open[c] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *Server) drop(c io.Closer) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	s.wg.Done()
}

// Close closes all listeners and connections that the Server has, and waits for its goroutines.
func (s *Server) Close() error {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// ServePacket answers the questions that come to pc, which it closes. It returns net.ErrClosed after Close.
func (s *Server) ServePacket(pc net.PacketConn) error {
	if !s.keep(pc) {
		return net.ErrClosed
	}
	defer s.drop(pc)
	var answering sync.WaitGroup
	defer answering.Wait()
	b := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := pc.ReadFrom(b)
		switch {
		case errors.Is(err, net.ErrClosed) || s.ctx.Err() != nil:
			return net.ErrClosed
		case err != nil:
			return err
		}
		query := slices.Clone(b[:n])
		if !s.begin() {
			pc.WriteTo(failure(query, dns.RcodeServerFailure), from)
			continue
		}
		answering.Go(func() {
			defer s.end()
			if a := s.answer("udp", query); a != nil {
				pc.WriteTo(a, from) // lost, as any datagram may be
			}
		})
	}
}

// Serve answers the questions that come over connections to l, which it closes. It returns net.ErrClosed
// after Close.
func (s *Server) Serve(l net.Listener) error {
	if !s.keep(l) {
		return net.ErrClosed
	}
	defer s.drop(l)
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed) || s.ctx.Err() != nil:
			return net.ErrClosed
		case err != nil:
			return err
		}
		s.mu.Lock()
		full := s.conns >= maxConns
		if !full {
			s.conns++
		}
		s.mu.Unlock()
		if full {
			c.Close()
			continue
		}
		if s.keep(c) {
			go s.serveConn(c)
		}
	}
}

func (s *Server) serveConn(c net.Conn) {
	defer s.drop(c)
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conns--
	}()
	for {
		c.SetDeadline(time.Now().Add(idle))
		query, err := readTCP(c)
		if err != nil {
			return
		}
		var a []byte
		if s.begin() {
			a = s.answer("tcp", query)
			s.end()
		} else {
			a = failure(query, dns.RcodeServerFailure)
		}
		if a == nil {
			return
		}
		c.SetDeadline(time.Now().Add(idle))
		if err := writeTCP(c, a); err != nil {
			return
		}
	}
}

// begin takes one of the places for questions; false if there is none.
func (s *Server) begin() bool {
	select {
	case s.queries <- struct{}{}:
		return true
	default:
		s.log.Warn("names: too many questions at once", "limit", maxQueries)
		return false
	}
}

func (s *Server) end() { <-s.queries }

// headerSize is the length of a message's header in bytes (RFC 1035 4.1.1).
const headerSize = 12

// answer returns the answer to a question as it came, nil to what is none.
func (s *Server) answer(network string, query []byte) []byte {
	if len(query) < headerSize || query[2]&0x80 != 0 {
		return nil // an answer (QR), perhaps to somebody who lied about his address
	}
	var m dns.Msg
	if m.Unpack(query) == nil && len(m.Question) == 1 && m.Opcode == dns.OpcodeQuery {
		if a := s.fromOwn(&m); a != nil {
			return packed(network, &m, a)
		}
	}
	if len(s.cfg.Upstreams) == 0 {
		return failure(query, dns.RcodeRefused)
	}
	if a := s.forward(network, query); a != nil {
		return a
	}
	return failure(query, dns.RcodeServerFailure)
}

// fromOwn answers what is asked about an own name; nil if it is about another.
func (s *Server) fromOwn(q *dns.Msg) *dns.Msg {
	ask := q.Question[0]
	if ask.Qclass != dns.ClassINET && ask.Qclass != dns.ClassANY {
		return nil
	}
	a := new(dns.Msg).SetReply(q)
	a.Authoritative, a.RecursionAvailable = true, len(s.cfg.Upstreams) > 0
	head := func(rrtype uint16) dns.RR_Header {
		return dns.RR_Header{Name: ask.Name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
	}
	wants := func(rrtype uint16) bool { return ask.Qtype == rrtype || ask.Qtype == dns.TypeANY }
	if names := s.reverse[dns.CanonicalName(ask.Name)]; names != nil {
		for _, name := range names {
			if wants(dns.TypePTR) {
				a.Answer = append(a.Answer, &dns.PTR{Hdr: head(dns.TypePTR), Ptr: name})
			}
		}
		return a
	}
	addrs := s.Lookup(ask.Name)
	if addrs == nil {
		return nil
	}
	for _, addr := range addrs {
		switch {
		case addr.Is4() && wants(dns.TypeA):
			a.Answer = append(a.Answer, &dns.A{Hdr: head(dns.TypeA), A: addr.AsSlice()})
		case addr.Is6() && wants(dns.TypeAAAA):
			a.Answer = append(a.Answer, &dns.AAAA{Hdr: head(dns.TypeAAAA), AAAA: addr.AsSlice()})
		}
	}
	return a
}

// packed is an answer in bytes, cut to what fits into a datagram if that is how it goes.
func packed(network string, q, a *dns.Msg) []byte {
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		a.SetEdns0(udpSize, false)
		size = min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize) // RFC 6891 6.2.3
	}
	if network == "udp" {
		a.Truncate(size)
	}
	b, err := a.Pack()
	if err != nil {
		return nil
	}
	return b
}

// failure is an answer that says no more than why there is none.
func failure(query []byte, rcode int) []byte {
	question, ok := questionOf(query)
	if len(query) < headerSize || query[2]&0x80 != 0 {
		return nil
	}
	a := slices.Clone(query[:headerSize])
	a[2] = a[2]&0x79 | 0x80 // QR; the opcode and RD stay
	a[3] = byte(rcode)
	clear(a[4:])
	if ok {
		a[5] = 1
		a = append(a, question...)
	}
	return a
}

// questionOf is the question section of a message with one question, as it is.
func questionOf(m []byte) ([]byte, bool) {
	if len(m) < headerSize || binary.BigEndian.Uint16(m[4:]) != 1 {
		return nil, false
	}
	_, end, err := dns.UnpackDomainName(m, headerSize)
	if err != nil || end+4 > len(m) {
		return nil, false
	}
	return m[headerSize : end+4], true
}

// forward asks the upstreams, one after the other until one knows something; nil if none answers. A question
// goes out with an id and from a port that nobody can guess (RFC 5452), and is else as it came.
func (s *Server) forward(network string, query []byte) (answer []byte) {
	for _, to := range s.cfg.Upstreams {
		a, err := s.ask(network, to, query)
		if err != nil {
			s.log.Debug("names: upstream", "server", to, "err", err)
			continue
		}
		answer = a
		if rcode := int(a[3] & 0xf); rcode != dns.RcodeServerFailure && rcode != dns.RcodeRefused && rcode != dns.RcodeNotImplemented {
			break
		}
	}
	return answer
}

func (s *Server) ask(network string, to netip.AddrPort, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()

	ours := slices.Clone(query)
	rand.Read(ours[:2]) // cannot fail
	if network == "tcp" {
		err = writeTCP(c, ours)
	} else {
		_, err = c.Write(ours)
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, dns.MaxMsgSize)
	for {
		var a []byte
		if network == "tcp" {
			a, err = readTCP(c)
		} else {
			var n int
			n, err = c.Read(b)
			a = b[:n]
		}
		if err != nil {
			return nil, err
		}
		if answers(a, ours) {
			a = slices.Clone(a)
			copy(a, query[:2])
			return a, nil
		}
	}
}

// answers reports whether a is an answer to the question q: of its id and with its question, which a server
// that could not read it may leave out.
func answers(a, q []byte) bool {
	if len(a) < headerSize || a[2]&0x80 == 0 || a[0] != q[0] || a[1] != q[1] {
		return false
	}
	asked, _ := questionOf(q)
	echoed, ok := questionOf(a)
	return ok && strings.EqualFold(string(asked), string(echoed)) || !ok && binary.BigEndian.Uint16(a[4:]) == 0 && a[3]&0xf != 0
}

// readTCP reads a message with its length before it (RFC 1035 4.2.2).
func readTCP(c net.Conn) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}

func writeTCP(c net.Conn, m []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
	return err
}
