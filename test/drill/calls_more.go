package drill

import (
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func handlerNames() []string {
	names := make([]string, 0, len(handlers))
	for n := range handlers {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func parseNumber(s string) (int64, error) { return strconv.ParseInt(s, 0, 64) }

// option evaluates the value of a socket option: [number], "string", or {onoff=N, linger=N}.
func (a *args) option(e Expr) any {
	switch e := e.(type) {
	case String:
		return e.Value
	case List:
		if len(e.Items) == 1 {
			if _, ok := e.Items[0].(Ellipsis); !ok {
				return a.option(e.Items[0])
			}
			return nil
		}
	case Struct:
		if l, ok := a.linger(e); ok {
			return l
		}
	case Int, Ident, Or:
		return int(a.number(e))
	case Ellipsis:
		return nil
	}
	a.fail(e.Position(), "expected the value of an option: [NUMBER], \"STRING\" or {onoff=N, linger=N}")
	return nil
}

func (a *args) linger(s Struct) (l linger, ok bool) {
	for _, f := range s.Fields {
		switch f.Name {
		case "onoff", "l_onoff":
			l.onOff = int(a.number(f.Value))
		case "linger", "l_linger":
			l.seconds = int(a.number(f.Value))
		default:
			return l, false
		}
	}
	return l, true
}

func (r *runner) callSetsockopt(cl *call, a *args) error {
	d, level, name := a.descriptor(0), a.num(1), a.num(2)
	value := a.option(a.call.Args[3])
	if value == nil {
		a.fail(a.call.Args[3].Position(), "setsockopt needs a value")
	}
	simple(cl, func() error { return r.target.setsockopt(d.fd, level, name, value) })
	return a.err
}

func (r *runner) callGetsockopt(cl *call, a *args) error {
	d, level, name := a.descriptor(0), a.num(1), a.num(2)
	want := a.option(a.call.Args[3])
	var got any
	simple(cl, func() (err error) {
		got, err = r.target.getsockopt(d.fd, level, name, want)
		return err
	})
	cl.verify = func() error {
		if want == nil || want == got {
			return nil
		}
		// [0xffffffff] and -1 are the same four bytes.
		w, ok1 := want.(int)
		g, ok2 := got.(int)
		if ok1 && ok2 && uint32(w) == uint32(g) {
			return nil
		}
		return fmt.Errorf("getsockopt gave %v, expected %v", optionText(got), optionText(want))
	}
	return a.err
}

func optionText(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case linger:
		return fmt.Sprintf("{onoff=%d, linger=%d}", v.onOff, v.seconds)
	}
	return fmt.Sprintf("[%v]", v)
}

// iovec adds up an array of {..., LENGTH}; data is what the script wrote as strings, nil when it left all to "...".
func (a *args) iovec(e Expr) (sizes []int, data []byte) {
	l, ok := e.(List)
	if !ok {
		a.fail(e.Position(), "expected an array of buffers: [{..., LENGTH}]")
		return nil, nil
	}
	n := 0
	for _, item := range l.Items {
		s, ok := item.(Struct)
		if !ok || len(s.Fields) != 2 {
			a.fail(item.Position(), "expected a buffer: {..., LENGTH}")
			return nil, nil
		}
		size := int(a.number(s.Fields[1].Value))
		if size < 0 || size > maxBuffer {
			a.fail(item.Position(), "a buffer of %d bytes: at most %d", size, maxBuffer)
			return nil, nil
		}
		if text, ok := s.Fields[0].Value.(String); ok {
			b := make([]byte, size)
			copy(b, text.Value)
			data = append(append(data, make([]byte, n-len(data))...), b...)
		}
		n += size
		sizes = append(sizes, size)
	}
	return sizes, data
}

// total is the sum of the sizes.
func total(sizes []int) (n int) {
	for _, s := range sizes {
		n += s
	}
	return n
}

func (r *runner) callReadv(cl *call, a *args) error {
	d := a.descriptor(0)
	sizes, _ := a.iovec(a.call.Args[1])
	r.receive(cl, d, total(sizes), 0, a)
	return a.err
}

func (r *runner) callWritev(cl *call, a *args) error {
	d := a.descriptor(0)
	sizes, data := a.iovec(a.call.Args[1])
	r.transmit(cl, d, writing{sizes: sizes, data: data}, a)
	return a.err
}

// message reads a struct msghdr.
func (a *args) message(e Expr) (sizes []int, data []byte, name, flags, control Expr) {
	s, ok := e.(Struct)
	if !ok {
		a.fail(e.Position(), "expected a message: {msg_name(...)=..., msg_iov(1)=[{..., LENGTH}], msg_flags=0}")
		return
	}
	for _, f := range s.Fields {
		switch f.Name {
		case "msg_name":
			name = f.Value
		case "msg_iov":
			sizes, data = a.iovec(f.Value)
		case "msg_flags":
			flags = f.Value
		case "msg_control":
			control = f.Value
		default:
			a.fail(s.Pos, "%q is no member of a message", f.Name)
		}
	}
	return
}

func (r *runner) callSendmsg(cl *call, a *args) error {
	d, flags := a.descriptor(0), a.num(2)
	sizes, data, name, _, list := a.message(a.call.Args[1])
	if a.err == nil && !emptyList(list) {
		return r.refuse(list.Position(), "control messages can only be received, not sent")
	}
	m := writing{sizes: sizes, data: data, flags: flags}
	if name != nil {
		m.to = r.recipient(d, flags, func(def netip.AddrPort) netip.AddrPort {
			if s, ok := name.(Struct); ok {
				return a.sockaddr(s, def)
			}
			if d.datagram {
				return netip.AddrPort{} // the peer
			}
			return def
		})
	}
	r.transmit(cl, d, m, a)
	return a.err
}

func (r *runner) callRecvmsg(cl *call, a *args) error {
	d, flags := a.descriptor(0), a.num(2)
	sizes, _, _, wantFlags, list := a.message(a.call.Args[1])
	want, err := r.controls(a, list)
	if err != nil {
		return err
	}
	got := r.receive(cl, d, total(sizes), flags, a)
	t, ok := r.target.(controls)
	if !ok {
		return a.err
	}
	flagsWanted := 0
	if _, any := wantFlags.(Ellipsis); wantFlags != nil && !any {
		flagsWanted = int(a.number(wantFlags))
	}
	var all []control
	var gotFlags int
	buf := make([]byte, total(sizes))
	if !cl.real {
		flags |= int(symbols["MSG_DONTWAIT"])
	}
	cl.attempt = func() (int64, error) {
		n, c, f, err := t.recvmsg(d.fd, buf, flags)
		if err != nil {
			return -1, err
		}
		*got, all, gotFlags = buf[:min(n, len(buf))], c, f
		return int64(n), nil
	}
	contents := cl.verify
	cl.verify = func() error {
		if wantFlags != nil && flagsWanted != gotFlags {
			return fmt.Errorf("recvmsg gave msg_flags=%s, expected %s", bitNames(int64(gotFlags), "MSG"), bitNames(int64(flagsWanted), "MSG"))
		}
		if list != nil {
			same := len(all) == len(want)
			for i := 0; same && i < len(all); i++ {
				same = want[i].same(all[i], r.set.tolerance)
			}
			if !same {
				return fmt.Errorf("recvmsg gave control messages %v, expected %v", all, want)
			}
		}
		return contents()
	}
	return a.err
}

// controls reads a list of control messages. The userspace stack has none.
func (r *runner) controls(a *args, e Expr) ([]control, error) {
	if a.err != nil || emptyList(e) {
		return nil, a.err
	}
	if r.set.target == Stack {
		return nil, r.refuse(e.Position(), "control messages are not supported by the userspace stack: only --target kernel has them")
	}
	l, ok := e.(List)
	if !ok {
		a.fail(e.Position(), "expected control messages: [{cmsg_level=…, cmsg_type=…, cmsg_data=…}]")
		return nil, a.err
	}
	var out []control
	for _, item := range l.Items {
		s, ok := item.(Struct)
		if !ok {
			a.fail(item.Position(), "expected {cmsg_level=…, cmsg_type=…, cmsg_data=…}")
			return nil, a.err
		}
		var c control
		for _, f := range s.Fields {
			switch f.Name {
			case "cmsg_level":
				c.level = int(a.number(f.Value))
			case "cmsg_type":
				c.typ = int(a.number(f.Value))
			case "cmsg_data":
				if data, ok := f.Value.(Struct); ok {
					a.controlData(data, &c)
				} else {
					c.value = a.number(f.Value)
				}
			default:
				a.fail(s.Pos, "%q is no member of a control message", f.Name)
			}
		}
		out = append(out, c)
	}
	return out, a.err
}

// controlData reads {ee_errno=…, …} or {scm_sec=…, scm_nsec=…}.
func (a *args) controlData(s Struct, c *control) {
	for _, f := range s.Fields {
		n := a.number(f.Value)
		if strings.HasPrefix(f.Name, "ee_") && c.err == nil {
			c.err = &extendedError{}
		}
		if strings.HasPrefix(f.Name, "scm_") && c.stamp == nil {
			c.stamp = new(time.Duration)
		}
		switch f.Name {
		case "ee_errno":
			c.err.errno = uint32(n)
		case "ee_origin":
			c.err.origin = uint8(n)
		case "ee_type":
			c.err.typ = uint8(n)
		case "ee_code":
			c.err.code = uint8(n)
		case "ee_info":
			c.err.info = uint32(n)
		case "ee_data":
			c.err.data = uint32(n)
		case "scm_sec":
			*c.stamp += time.Duration(n) * time.Second
		case "scm_nsec":
			*c.stamp += time.Duration(n)
		default:
			a.fail(s.Pos, "%q is no member of what a control message says", f.Name)
			return
		}
	}
}

// callOpen is open(PATH, O_RDONLY) of a file that the script has made with dd. It lies in memory: a script has no way to
// the files of the machine.
func (r *runner) callOpen(cl *call, a *args) error {
	name, ok := a.call.Args[0].(String)
	if !ok {
		a.fail(a.call.Args[0].Position(), "expected the name of a file")
	}
	if flags := a.num(1); a.err == nil && flags != 0 {
		return r.refuse(a.call.Args[1].Position(), "files are opened only to be read: O_RDONLY")
	}
	cl.blocks = false
	cl.attempt = func() (int64, error) {
		data, ok := r.files[name.Value]
		if !ok {
			return -1, syscall.ENOENT
		}
		fd, err := r.target.(files).open(name.Value, data)
		return int64(fd), err
	}
	cl.finish = func(fd int64) { r.open(cl, &descriptor{fd: int(fd), epoll: true}) }
	return a.err
}

// callPipe is pipe([R, W]), where R and W are how the script calls the new fds.
func (r *runner) callPipe(cl *call, a *args) error {
	l, ok := a.call.Args[0].(List)
	if !ok || len(l.Items) != 2 {
		a.fail(a.call.Args[0].Position(), "expected two fds: [R, W]")
		return a.err
	}
	ends := [2]int{int(a.number(l.Items[0])), int(a.number(l.Items[1]))}
	simple(cl, func() error {
		in, out, err := r.target.(files).pipe()
		if err == nil {
			r.fds[ends[0]] = &descriptor{fd: in, epoll: true}
			r.fds[ends[1]] = &descriptor{fd: out, epoll: true}
		}
		return err
	})
	return a.err
}

// callSplice is splice(IN, NULL, OUT, NULL, LENGTH, FLAGS).
func (r *runner) callSplice(cl *call, a *args) error {
	in, out, n, flags := a.descriptor(0), a.descriptor(2), a.num(4), a.num(5)
	for _, i := range []int{1, 3} {
		if id, ok := a.call.Args[i].(Ident); !ok || id.Name != "NULL" {
			a.fail(a.call.Args[i].Position(), "expected NULL: neither a socket nor a pipe has an offset")
		}
	}
	cl.attempt = func() (int64, error) {
		n, err := r.target.(files).splice(in.fd, out.fd, n, flags)
		return int64(n), err
	}
	cl.finish = func(n int64) { in.read += uint32(n) }
	if out.flow != nil {
		out.flow.foreignData = true
	}
	cl.blocks = false
	return a.err
}

// callSendfile is sendfile(OUT, IN, [OFFSET], LENGTH), or with NULL for the offset.
func (r *runner) callSendfile(cl *call, a *args) error {
	out, in, n := a.descriptor(0), a.descriptor(1), a.num(3)
	offset := int64(-1)
	if l, ok := a.call.Args[2].(List); ok && len(l.Items) == 1 {
		offset = a.number(l.Items[0])
	}
	cl.blocks = false
	if out.flow != nil {
		out.flow.foreignData = true
	}
	cl.attempt = func() (int64, error) {
		n, err := r.target.(files).sendfile(out.fd, in.fd, offset, n)
		return int64(n), err
	}
	return a.err
}

func emptyList(e Expr) bool {
	if e == nil {
		return true
	}
	l, ok := e.(List)
	return ok && len(l.Items) == 0
}

// waiting ends a call that waits for events: EAGAIN until there are some or the time is over. timeout is in
// milliseconds, negative for no end.
func (r *runner) waiting(cl *call, timeout, n int) (int64, error) {
	if n > 0 || timeout == 0 {
		return int64(n), nil
	}
	if timeout > 0 && r.target.elapsed() >= cl.began+cl.timeout {
		return 0, nil
	}
	return 0, syscall.EAGAIN
}

func (r *runner) callPoll(cl *call, a *args) error {
	list, ok := a.call.Args[0].(List)
	if !ok {
		a.fail(a.call.Args[0].Position(), "expected an array: [{fd=N, events=POLLIN, revents=POLLIN}]")
		return a.err
	}
	timeout := a.num(2)
	type entry struct {
		d                       *descriptor
		n, events, want, actual int
		check                   bool
	}
	var entries []*entry
	for _, item := range list.Items {
		s, ok := item.(Struct)
		if !ok {
			a.fail(item.Position(), "expected {fd=N, events=POLLIN, revents=POLLIN}")
			return a.err
		}
		e := &entry{d: &descriptor{fd: -1}}
		for _, f := range s.Fields {
			switch f.Name {
			case "fd":
				e.n = int(a.number(f.Value))
				if d, ok := r.fds[e.n]; ok {
					e.d = d
				}
			case "events":
				e.events = int(a.number(f.Value))
			case "revents":
				e.want, e.check = int(a.number(f.Value)), true
			default:
				a.fail(s.Pos, "%q is no member of a pollfd", f.Name)
			}
		}
		entries = append(entries, e)
	}
	cl.polled, cl.timeout = true, time.Duration(timeout)*time.Millisecond
	cl.attempt = func() (int64, error) {
		ready := 0
		for _, e := range entries {
			got, err := r.target.poll(e.d.fd, e.events)
			if err != nil {
				return -1, err
			}
			if e.actual = got; got != 0 {
				ready++
			}
		}
		return r.waiting(cl, timeout, ready)
	}
	cl.verify = func() error {
		for _, e := range entries {
			if e.check && e.want != e.actual {
				return fmt.Errorf("poll gave revents=%s for fd %d, expected %s", bitNames(int64(e.actual), "POLL"), e.n, bitNames(int64(e.want), "POLL"))
			}
		}
		return nil
	}
	return a.err
}

func (r *runner) callEpollCreate(cl *call, a *args) error {
	cl.blocks = false
	cl.attempt = func() (int64, error) {
		fd, err := r.target.epollCreate()
		return int64(fd), err
	}
	cl.finish = func(fd int64) { r.open(cl, &descriptor{fd: int(fd), epoll: true}) }
	return a.err
}

// epollEvent reads {events=…, fd=N}, or with ptr, u32 or u64 for the data.
func (a *args) epollEvent(e Expr) (ev epollEvent) {
	s, ok := e.(Struct)
	if !ok {
		a.fail(e.Position(), "expected an event: {events=EPOLLIN, fd=N}")
		return ev
	}
	for _, f := range s.Fields {
		switch f.Name {
		case "events":
			ev.events = uint32(a.number(f.Value))
		case "fd", "ptr", "u32", "u64":
			ev.data = uint64(a.number(f.Value))
		default:
			a.fail(s.Pos, "%q is no member of an event", f.Name)
		}
	}
	return ev
}

func (r *runner) callEpollCtl(cl *call, a *args) error {
	ep, op, d := a.descriptor(0), a.num(1), a.descriptor(2)
	var ev epollEvent
	if s, ok := a.call.Args[3].(Struct); ok {
		ev = a.epollEvent(s)
	}
	simple(cl, func() error { return r.target.epollCtl(ep.fd, op, d.fd, ev.events, ev.data) })
	return a.err
}

func (r *runner) callEpollWait(cl *call, a *args) error {
	ep, limit, timeout := a.descriptor(0), a.num(2), a.num(3)
	if limit < 1 || limit > 1024 {
		a.fail(a.call.Args[2].Position(), "epoll_wait takes 1 to 1024 events")
		return a.err
	}
	var want []epollEvent
	switch e := a.call.Args[1].(type) {
	case Struct:
		want = []epollEvent{a.epollEvent(e)}
	case List:
		for _, item := range e.Items {
			want = append(want, a.epollEvent(item))
		}
	case Ellipsis:
	default:
		a.fail(e.Position(), "expected events: {events=EPOLLIN, fd=N}")
	}
	var got []epollEvent
	cl.polled, cl.timeout = true, time.Duration(timeout)*time.Millisecond
	cl.attempt = func() (int64, error) {
		evs, err := r.target.epollWait(ep.fd, limit)
		if err != nil {
			return -1, err
		}
		got = evs
		return r.waiting(cl, timeout, len(evs))
	}
	cl.verify = func() error {
		for i, w := range want {
			if i >= len(got) {
				// A result of 0 goes with one empty event in public scripts.
				if w.events == 0 {
					continue
				}
				return fmt.Errorf("epoll_wait gave %d events, expected %s", len(got), bitNames(int64(w.events), "EPOLL"))
			}
			if got[i] != w {
				return fmt.Errorf("epoll_wait gave {events=%s, fd=%d}, expected {events=%s, fd=%d}",
					bitNames(int64(got[i].events), "EPOLL"), got[i].data, bitNames(int64(w.events), "EPOLL"), w.data)
			}
		}
		return nil
	}
	return a.err
}

// resultText writes a call with the result that it gave, as scripts do.
func resultText(name string, v int64, err error) string {
	if err != nil {
		return fmt.Sprintf("%s() = -1 %s", name, errnoText(err))
	}
	return fmt.Sprintf("%s() = %d", name, v)
}
