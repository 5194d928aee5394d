package drill

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// descriptor is what the script knows of one of its fds.
type descriptor struct {
	fd        int // of the system under test
	datagram  bool
	epoll     bool
	nonblock  bool // as the script set it; the system's sockets never block
	listening bool
	flow      *flow
	read      uint32 // bytes of the stream read so far
	wrote     uint32
	bound     bool
	outOfBand bool // a byte was read out of band, so the contents of the stream are not checked
}

// call is a socket call in progress.
type call struct {
	spec    *Call
	began   time.Duration
	due     time.Duration // when it should return
	slack   time.Duration // by how much it may be off
	blocks  bool          // it may wait: the socket is blocking
	polled  bool          // it waits for events, which are asked for again and again
	real    bool          // it runs in a thread of its own, and blocks there as the system's call does
	timeout time.Duration // after which a wait for events ends; 0 or less: none
	// prepare is run once, before the first attempt; nil when there is nothing to prepare.
	prepare func()
	attempt func() (int64, error)
	// verify looks at what a successful call wrote into its arguments; nil when there is nothing to look at.
	verify func() error
	// finish is run with the result of a call that returned no error, before verify.
	finish func(result int64)
}

// begin prepares a call: it reads the arguments, and mistakes in them are errors of the script.
// wait is that the script gives it an end time.
func (r *runner) begin(c *Call, wait bool) (*call, error) {
	h, ok := handlers[c.Name]
	if !ok {
		return nil, r.refuse(c.Pos, "the call %s is not supported%s (supported: %s)", c.Name, didYouMean(c.Name, handlerNames()), strings.Join(handlerNames(), ", "))
	}
	if len(c.Args) < h.min || len(c.Args) > h.max {
		return nil, r.script.errorf(c.Pos, "%s takes %s, not %d", c.Name, h.count(), len(c.Args))
	}
	if r.set.target == Stack {
		if buffer, ok := nullBuffer(c); ok {
			return nil, r.refuse(buffer, "a NULL buffer is not supported: there is no memory here that %s could fail to reach", c.Name)
		}
		if kernelOnly[c.Name] {
			return nil, r.refuse(c.Pos, "the userspace stack has no %s: only --target kernel", c.Name)
		}
	}
	threads, ok := r.target.(blocker)
	cl := &call{spec: c, blocks: true, real: ok && wait}
	if err := h.begin(r, cl, &args{r: r, call: c}); err != nil {
		return nil, err
	}
	if cl.timeout != 0 || cl.polled {
		cl.real = false // waits for events by asking for them again and again
	}
	if cl.real {
		cl.attempt = threads.background(cl.attempt)
	}
	return cl, nil
}

// kernelOnly are calls that only the kernel target has.
var kernelOnly = map[string]bool{"open": true, "pipe": true, "splice": true, "sendfile": true}

// nullBuffer finds a buffer of NULL among the arguments of a call that would touch it.
func nullBuffer(c *Call) (Pos, bool) {
	switch c.Name {
	case "read", "recv", "recvfrom", "write", "send", "sendto":
		if len(c.Args) < 3 {
			break
		}
		id, null := c.Args[1].(Ident)
		if n, ok := c.Args[2].(Int); null && id.Name == "NULL" && !(ok && n.Value == 0) {
			return id.Pos, true
		}
	}
	return Pos{}, false
}

// handler is what the runner knows of one socket call.
type handler struct {
	min, max int // arguments
	begin    func(r *runner, cl *call, a *args) error
}

func (h handler) count() string {
	switch {
	case h.min != h.max:
		return fmt.Sprintf("%d to %d arguments", h.min, h.max)
	case h.min == 1:
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", h.min)
}

// args reads the arguments of a call. The first mistake stays in err; what is read after it is zero.
type args struct {
	r    *runner
	call *Call
	err  error
}

func (a *args) fail(pos Pos, format string, v ...any) {
	if a.err == nil {
		a.err = a.r.script.errorf(pos, format, v...)
	}
}

// number evaluates a number, a symbol, or several joined by "|".
func (a *args) number(e Expr) int64 {
	switch e := e.(type) {
	case Int:
		return e.Value
	case Or:
		return a.number(e.X) | a.number(e.Y)
	case Ident:
		return a.symbol(e)
	case List:
		if len(e.Items) == 1 {
			return a.number(e.Items[0])
		}
	}
	a.fail(e.Position(), "expected a number or a symbol")
	return 0
}

func (a *args) symbol(e Ident) int64 {
	if def, ok := a.r.script.define(e.Name); ok {
		if x, err := parseNumber(def); err == nil {
			return x
		}
		v, ok := symbols[def]
		if !ok {
			a.fail(e.Pos, "%s is defined as %q, which is no number and no symbol", e.Name, def)
		}
		return v
	}
	switch e.Name { // what public scripts leave to their runner
	case "CMSG_LEVEL_IP":
		if a.r.set.ipVersion == "ipv6" {
			return symbols["SOL_IPV6"]
		}
		return symbols["SOL_IP"]
	case "CMSG_TYPE_RECVERR":
		if a.r.set.ipVersion == "ipv6" {
			return symbols["IPV6_RECVERR"]
		}
		return symbols["IP_RECVERR"]
	}
	if v, ok := symbols[e.Name]; ok {
		return v
	}
	if en, ok := errnos[e.Name]; ok {
		return int64(en.errno)
	}
	a.fail(e.Pos, "the symbol %s is not known%s", e.Name, didYouMean(e.Name, slices.Concat(slices.Collect(maps.Keys(symbols)), slices.Collect(maps.Keys(errnos)))))
	return 0
}

// num evaluates argument i.
func (a *args) num(i int) int { return int(a.number(a.call.Args[i])) }

// numOr evaluates argument i, or gives def when it is "..." or missing.
func (a *args) numOr(i, def int) int {
	if i >= len(a.call.Args) {
		return def
	}
	if _, ok := a.call.Args[i].(Ellipsis); ok {
		return def
	}
	return a.num(i)
}

// descriptor is the fd of argument i. One that the script never opened gives a call that fails with EBADF.
func (a *args) descriptor(i int) *descriptor {
	n := a.num(i)
	if d, ok := a.r.fds[n]; ok {
		return d
	}
	return &descriptor{fd: -1}
}

// address is argument i: "...", or a struct sockaddr; def is what "..." stands for.
func (a *args) address(i int, def netip.AddrPort) netip.AddrPort {
	e := a.call.Args[i]
	switch e := e.(type) {
	case Ellipsis:
		return def
	case Ident:
		if e.Name == "NULL" {
			return netip.AddrPort{}
		}
		if e.Name == "AF_UNSPEC" { // which dissolves a connection
			return netip.AddrPort{}
		}
	case Struct:
		return a.sockaddr(e, def)
	}
	a.fail(e.Position(), "expected an address: ... or {sa_family = AF_INET, sin_port = htons(PORT), sin_addr = inet_addr(\"ADDRESS\")}")
	return def
}

func (a *args) sockaddr(s Struct, def netip.AddrPort) netip.AddrPort {
	addr, port := def.Addr(), def.Port()
	for _, f := range s.Fields {
		switch f.Name {
		case "sa_family", "sin6_flowinfo", "sin6_scope_id":
		case "sin_port", "sin6_port":
			switch v := f.Value.(type) {
			case Apply:
				if (v.Name == "htons" || v.Name == "_HTONS_") && len(v.Args) == 1 {
					port = uint16(a.number(v.Args[0]))
					continue
				}
				a.fail(v.Pos, "expected htons(PORT)")
			case Ellipsis:
			default:
				a.fail(f.Value.Position(), "expected htons(PORT)")
			}
		case "sin_addr", "sin6_addr":
			if _, ok := f.Value.(Ellipsis); ok {
				continue
			}
			if id, ok := f.Value.(Ident); ok && id.Name == "INADDR_ANY" {
				addr = netip.IPv4Unspecified()
				continue
			}
			v, ok := f.Value.(Apply)
			if !ok || len(v.Args) == 0 {
				a.fail(f.Value.Position(), `expected inet_addr("ADDRESS")`)
				continue
			}
			text, ok := v.Args[len(v.Args)-1].(String)
			ip, err := netip.ParseAddr(text.Value)
			if !ok || err != nil {
				a.fail(v.Pos, "%q is not an IP address", text.Value)
				continue
			}
			addr = ip
		default:
			a.fail(s.Pos, "%q is no member of a socket address", f.Name)
		}
	}
	return netip.AddrPortFrom(addr, port)
}

// handlers are the socket calls that scripts may use. They are set in init because they refer to code that refers to them.
var handlers map[string]handler

func init() {
	handlers = map[string]handler{
		"socket":        {3, 3, (*runner).callSocket},
		"bind":          {3, 3, (*runner).callBind},
		"listen":        {2, 2, (*runner).callListen},
		"accept":        {3, 3, (*runner).callAccept},
		"accept4":       {4, 4, (*runner).callAccept},
		"connect":       {3, 3, (*runner).callConnect},
		"read":          {3, 3, (*runner).callRead},
		"readv":         {3, 3, (*runner).callReadv},
		"recv":          {4, 4, (*runner).callRead},
		"recvfrom":      {6, 6, (*runner).callRead},
		"recvmsg":       {3, 3, (*runner).callRecvmsg},
		"write":         {3, 3, (*runner).callWrite},
		"writev":        {3, 3, (*runner).callWritev},
		"send":          {4, 4, (*runner).callWrite},
		"sendto":        {6, 6, (*runner).callWrite},
		"sendmsg":       {3, 3, (*runner).callSendmsg},
		"shutdown":      {2, 2, (*runner).callShutdown},
		"close":         {1, 1, (*runner).callClose},
		"fcntl":         {2, 3, (*runner).callFcntl},
		"ioctl":         {2, 3, (*runner).callIoctl},
		"setsockopt":    {5, 5, (*runner).callSetsockopt},
		"getsockopt":    {5, 5, (*runner).callGetsockopt},
		"poll":          {3, 3, (*runner).callPoll},
		"epoll_create":  {1, 1, (*runner).callEpollCreate},
		"epoll_create1": {1, 1, (*runner).callEpollCreate},
		"epoll_ctl":     {4, 4, (*runner).callEpollCtl},
		"epoll_wait":    {4, 4, (*runner).callEpollWait},
		"open":          {2, 3, (*runner).callOpen},
		"pipe":          {1, 1, (*runner).callPipe},
		"splice":        {6, 6, (*runner).callSplice},
		"sendfile":      {4, 4, (*runner).callSendfile},
	}
}

// simple is a call that returns at once with an error or zero.
func simple(cl *call, f func() error) {
	cl.blocks = false
	cl.attempt = func() (int64, error) { return 0, f() }
}

func (r *runner) callSocket(cl *call, a *args) error {
	domain := a.numOr(0, r.domain())
	typ, proto := a.num(1), a.num(2)
	cl.blocks = false
	cl.attempt = func() (int64, error) {
		fd, err := r.target.socket(domain, typ, proto)
		return int64(fd), err
	}
	cl.finish = func(fd int64) {
		for _, f := range r.flows {
			f.left = true
		}
		r.open(cl, &descriptor{
			fd: int(fd), datagram: typ&0xf == int(symbols["SOCK_DGRAM"]), nonblock: typ&int(symbols["SOCK_NONBLOCK"]) != 0,
		})
	}
	return a.err
}

// domain is what the first "..." of socket stands for.
func (r *runner) domain() int {
	if r.set.ipVersion == "ipv4" {
		return int(symbols["AF_INET"])
	}
	return int(symbols["AF_INET6"])
}

// mapped turns an IPv4 address into the form that the script's sockets use.
func (r *runner) mapped(ap netip.AddrPort) netip.AddrPort {
	if r.set.ipVersion == "ipv4-mapped-ipv6" && ap.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(ap.Addr().As16()), ap.Port())
	}
	return ap
}

func (r *runner) callBind(cl *call, a *args) error {
	d := a.descriptor(0)
	addr := a.address(1, netip.AddrPortFrom(r.set.local.Addr(), r.set.bindPort))
	simple(cl, func() error { return r.target.bind(d.fd, r.mapped(addr)) })
	cl.finish = func(int64) {
		d.bound = true
		if d.datagram {
			d.flow = r.addFlow(&flow{udp: true, local: addr, remote: netip.AddrPortFrom(r.set.remote, r.nextPort())})
		} else {
			r.bound = addr.Port()
		}
	}
	return a.err
}

func (r *runner) callListen(cl *call, a *args) error {
	d, backlog := a.descriptor(0), a.num(1)
	simple(cl, func() error { return r.target.listen(d.fd, backlog) })
	cl.finish = func(int64) {
		d.listening = true
		r.listening = true
	}
	return a.err
}

func (r *runner) callAccept(cl *call, a *args) error {
	d := a.descriptor(0)
	flags := a.numOr(3, 0)
	cl.blocks = !d.nonblock
	var peer netip.AddrPort
	cl.attempt = func() (int64, error) {
		if !cl.real && cl.blocks {
			if ev, err := r.target.poll(d.fd, int(symbols["POLLIN"])); err == nil && ev == 0 {
				return 0, syscall.EAGAIN
			}
		}
		fd, p, err := r.target.accept(d.fd, flags)
		peer = p
		return int64(fd), err
	}
	cl.finish = func(fd int64) {
		n := &descriptor{fd: int(fd), nonblock: flags&int(symbols["SOCK_NONBLOCK"]) != 0}
		peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
		for _, f := range r.flows {
			if !f.udp && f.remote == peer {
				n.flow = f
			}
		}
		r.open(cl, n)
		r.subject = n
	}
	return a.err
}

func (r *runner) callConnect(cl *call, a *args) error {
	d := a.descriptor(0)
	to := a.address(1, netip.AddrPortFrom(r.set.remote, r.set.connect))
	cl.blocks = !d.nonblock
	if _, ok := r.target.(blocker); ok && cl.blocks && !d.datagram {
		cl.real = true
	}
	begun := false
	cl.prepare = func() { r.connects(d, to) }
	cl.finish = func(int64) {
		if d.datagram {
			r.connectedUDP(d, to)
		}
	}
	cl.attempt = func() (int64, error) {
		if !begun {
			begun = true
			err := r.target.connect(d.fd, r.mapped(to))
			if cl.real {
				return 0, err
			}
			if err == syscall.EINPROGRESS && cl.blocks {
				err = syscall.EAGAIN
			}
			return 0, err
		}
		revents, err := r.target.poll(d.fd, int(symbols["POLLOUT"]))
		if err != nil || revents == 0 {
			return 0, syscall.EAGAIN
		}
		v, err := r.target.getsockopt(d.fd, int(symbols["SOL_SOCKET"]), int(symbols["SO_ERROR"]), 0)
		if n, _ := v.(int); err == nil && n != 0 {
			return -1, syscall.Errno(n)
		}
		return 0, err
	}
	return a.err
}

// connects notes that a socket is about to connect, so that its SYN is known when it comes.
func (r *runner) connects(d *descriptor, to netip.AddrPort) {
	r.subject = d
	if !d.datagram {
		r.connecting = &connecting{d: d, remote: to}
	}
}

// connectedUDP sets the flow of a datagram socket that has been connected.
func (r *runner) connectedUDP(d *descriptor, to netip.AddrPort) {
	local, err := r.target.getsockname(d.fd)
	if err != nil {
		return
	}
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	if local.Addr().IsUnspecified() {
		local = netip.AddrPortFrom(r.set.local.Addr(), local.Port())
	}
	d.flow = r.addFlow(&flow{udp: true, local: local, remote: to})
}

// callRead is read(fd, ..., n), recv(fd, ..., n, flags) and recvfrom(fd, ..., n, flags, ..., ...).
func (r *runner) callRead(cl *call, a *args) error {
	d, n := a.descriptor(0), a.num(2)
	flags := a.numOr(3, 0)
	got := r.receive(cl, d, n, flags, a)
	if want, ok := a.call.Args[1].(String); ok {
		// The script says what the bytes are, so they do not follow the pattern.
		cl.verify = func() error {
			text := string(*got)
			if want.More && len(text) > len(want.Value) {
				text = text[:len(want.Value)]
			}
			if text != want.Value {
				return fmt.Errorf("%s read %q, expected %q", cl.spec.Name, text, want.Value)
			}
			return nil
		}
	}
	return a.err
}

// maxBuffer bounds a buffer that a script asks for: 64 MiB.
const maxBuffer = 64 << 20

// receive sets the attempt of a call that reads n bytes, and returns where they will be.
func (r *runner) receive(cl *call, d *descriptor, n, flags int, a *args) *[]byte {
	got := new([]byte)
	if n < 0 || n > maxBuffer {
		a.fail(cl.spec.Pos, "a buffer of %d bytes: at most %d", n, maxBuffer)
		return got
	}
	dontwait := flags&int(symbols["MSG_DONTWAIT"]) != 0
	peek := flags&int(symbols["MSG_PEEK"]) != 0
	errors := flags&int(symbols["MSG_ERRQUEUE"]) != 0 // reading it never waits
	cl.blocks = !d.nonblock && !dontwait && !errors
	if !cl.real {
		flags |= int(symbols["MSG_DONTWAIT"])
	}
	buf := make([]byte, n)
	if _, null := nullBuffer(cl.spec); null {
		buf = r.nowhere(cl, n, a)
	}
	all := flags&int(symbols["MSG_WAITALL"]) != 0 && !peek
	cl.attempt = func() (int64, error) {
		k, _, err := r.target.recv(d.fd, buf[len(*got):], flags&^int(symbols["MSG_WAITALL"]))
		if err != nil {
			return -1, err
		}
		end := min(len(*got)+max(k, 0), len(buf)) // MSG_TRUNC may report more than fitted
		more := k
		if all {
			more = end
		}
		*got = buf[:end]
		if all && k > 0 && end < n && cl.blocks {
			return 0, syscall.EAGAIN
		}
		return int64(more), nil
	}
	cl.verify = func() error {
		// A byte that is read out of band is missing in the stream, at a place that nobody tells.
		d.outOfBand = d.outOfBand || flags&int(symbols["MSG_OOB"]) != 0
		if d.flow == nil || errors || d.outOfBand {
			return nil
		}
		place := uint32(0)
		if !d.datagram {
			place = 1 + d.read
			if !peek {
				d.read += uint32(len(*got))
			}
		}
		if at := badByte(*got, place); at >= 0 {
			return fmt.Errorf("%s returned %d bytes, but byte %d is not what was sent", cl.spec.Name, len(*got), at)
		}
		return nil
	}
	return got
}

// callWrite is write(fd, ..., n), send(fd, ..., n, flags) and sendto(fd, ..., n, flags, ADDRESS, LENGTH).
func (r *runner) callWrite(cl *call, a *args) error {
	d, n := a.descriptor(0), a.num(2)
	m := writing{sizes: []int{n}, flags: a.numOr(3, 0)}
	if len(a.call.Args) > 4 {
		m.to = r.recipient(d, m.flags, func(def netip.AddrPort) netip.AddrPort { return a.address(4, def) })
	}
	if s, ok := a.call.Args[1].(String); ok {
		m.data = []byte(s.Value)
	}
	_, m.null = nullBuffer(cl.spec)
	if len(a.call.Args) > 4 {
		id, _ := a.call.Args[4].(Ident)
		m.unspecified = id.Name == "AF_UNSPEC"
	}
	r.transmit(cl, d, m, a)
	return a.err
}

// recipient is the address that a call gives: of a datagram, or of a Fast Open (RFC 7413), which connects by sending. A
// stream that is connected has no use for one.
func (r *runner) recipient(d *descriptor, flags int, given func(def netip.AddrPort) netip.AddrPort) netip.AddrPort {
	switch {
	case d.datagram && d.flow != nil:
		return given(d.flow.remote)
	case d.datagram, flags&int(symbols["MSG_FASTOPEN"]) != 0:
		return given(netip.AddrPortFrom(r.set.remote, r.set.connect))
	}
	return netip.AddrPort{}
}

// writing is what a call of a script writes.
type writing struct {
	sizes []int  // of its buffers
	data  []byte // what is in them; nil for what follows from the place in the stream
	null  bool   // the buffer lies where no memory is
	flags int
	to    netip.AddrPort

	unspecified bool // the address is of AF_UNSPEC
}

// nowhere is a buffer that no memory belongs to.
func (r *runner) nowhere(cl *call, n int, a *args) []byte {
	t, ok := r.target.(files)
	if !ok {
		return nil // only to be checked
	}
	b, err := t.nowhere(n)
	if err != nil {
		a.fail(cl.spec.Pos, "a NULL buffer: %v", err)
	}
	return b
}

// transmit sets the attempt of a call that writes.
func (r *runner) transmit(cl *call, d *descriptor, m writing, a *args) {
	n := 0
	for _, size := range m.sizes {
		n += size
	}
	data, flags, to := m.data, m.flags, m.to
	if n < 0 || n > maxBuffer {
		a.fail(cl.spec.Pos, "a buffer of %d bytes: at most %d", n, maxBuffer)
		return
	}
	if data != nil {
		for len(data) < n {
			data = append(data, 0)
		}
		data = data[:n]
		if d.flow != nil {
			d.flow.foreignData = true
		}
	}
	cl.blocks = !d.nonblock && flags&int(symbols["MSG_DONTWAIT"]) == 0
	if !cl.real {
		flags |= int(symbols["MSG_DONTWAIT"])
	}
	var unreachable []byte
	if m.null {
		unreachable = r.nowhere(cl, n, a)
	}
	if m.to.IsValid() && !d.datagram {
		cl.prepare = func() { r.connects(d, m.to) }
	}
	done, waits := 0, false
	cl.attempt = func() (int64, error) {
		if waits {
			// A write that has once found no room goes on when the socket says that it is writable: Linux waits
			// until a third of the buffer is free.
			if ev, err := r.target.poll(d.fd, int(symbols["POLLOUT"])); err == nil && ev == 0 {
				return 0, syscall.EAGAIN
			}
		}
		b := data
		switch {
		case m.null:
			b = unreachable
		case b == nil && d.datagram:
			b = patternBytes(0, n)
		case b == nil:
			b = patternBytes(1+d.wrote, n-done)
		default:
			b = b[done:]
		}
		if d.datagram && d.flow == nil && to.IsValid() {
			defer r.connectedUDP(d, to)
		}
		out := outgoing{buffers: [][]byte{b}, flags: flags, to: r.mapped(to), unspecified: m.unspecified}
		if done == 0 && len(m.sizes) > 1 {
			out.buffers = split(b, m.sizes)
		}
		k, err := r.target.send(d.fd, out)
		if err != nil {
			if done > 0 && err != syscall.EAGAIN {
				return int64(done), nil
			}
			waits = true
			return -1, err
		}
		done += k
		d.wrote += uint32(k)
		if done < n && cl.blocks && !cl.real && !d.datagram {
			waits = true
			return 0, syscall.EAGAIN
		}
		return int64(done), nil
	}
}

// split cuts bytes into buffers of the given sizes, which lie apart from each other as those of a program do.
func split(b []byte, sizes []int) [][]byte {
	const apart = 64
	var out [][]byte
	for _, n := range sizes {
		out = append(out, append(make([]byte, 0, n+apart), b[:n]...))
		b = b[n:]
	}
	return out
}

func (r *runner) callShutdown(cl *call, a *args) error {
	d, how := a.descriptor(0), a.num(1)
	simple(cl, func() error { return r.target.shutdown(d.fd, how) })
	return a.err
}

func (r *runner) callClose(cl *call, a *args) error {
	n := a.num(0)
	d := a.descriptor(0)
	simple(cl, func() error { return r.target.close(d.fd) })
	cl.finish = func(int64) {
		delete(r.fds, n)
		if r.subject == d {
			r.subject = nil
		}
	}
	return a.err
}

func (r *runner) callFcntl(cl *call, a *args) error {
	d, cmd := a.descriptor(0), a.num(1)
	arg := a.numOr(2, 0)
	cl.blocks = false
	cl.attempt = func() (int64, error) {
		if d.fd < 0 {
			return -1, syscall.EBADF
		}
		switch int64(cmd) {
		case symbols["F_GETFL"]:
			v := symbols["O_RDWR"]
			if d.nonblock {
				v |= symbols["O_NONBLOCK"]
			}
			return v, nil
		case symbols["F_SETFL"]:
			d.nonblock = int64(arg)&symbols["O_NONBLOCK"] != 0
			return 0, r.target.setNonblock(d.fd, d.nonblock)
		}
		return -1, syscall.EINVAL
	}
	return a.err
}

func (r *runner) callIoctl(cl *call, a *args) error {
	d, req := a.descriptor(0), a.num(1)
	var want *int64
	if len(a.call.Args) > 2 {
		if l, ok := a.call.Args[2].(List); ok && len(l.Items) == 1 {
			v := a.number(l.Items[0])
			want = &v
		}
	}
	var got int
	simple(cl, func() (err error) {
		got, err = r.target.ioctl(d.fd, req)
		return err
	})
	cl.verify = func() error {
		if want != nil && *want != int64(got) {
			return fmt.Errorf("ioctl gave [%d], expected [%d]", got, *want)
		}
		return nil
	}
	return a.err
}
