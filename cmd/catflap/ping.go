package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
)

// echoes sends echo requests from the stack and sees what comes back, among the packets that the stack receives.
type echoes struct {
	cl       *control.Client
	dst      netip.Addr
	id       uint16
	arrived  chan echoArrival
	finished chan struct{}
	end      context.CancelFunc
	lost     error // why the stream ended; read it after finished
}

// echoArrival is a packet that belongs to a request: its leaving, its reply, or an error about it.
type echoArrival struct {
	seq  uint16
	out  bool
	time time.Time
	packet.Packet
}

// maxEchoes is how many arrivals may wait.
const maxEchoes = 256

// startEchoes listens. The caller closes it.
func startEchoes(ctx context.Context, cl *control.Client, dst netip.Addr) (*echoes, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := cl.Events(ctx, control.Kinds{Packets: true})
	if err != nil {
		cancel()
		return nil, err
	}
	e := &echoes{cl: cl, dst: dst, id: uint16(rand.Uint32()), arrived: make(chan echoArrival, maxEchoes), finished: make(chan struct{}), end: cancel}
	go func() {
		defer close(e.finished)
		defer stream.Close()
		for {
			ev, err := stream.Next()
			if err != nil {
				e.lost = err
				return
			}
			if a, ok := e.ours(&ev); ok {
				select {
				case e.arrived <- a:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return e, nil
}

func (e *echoes) close() {
	e.end()
	<-e.finished
}

// ours reports whether a packet belongs to a request of e.
func (e *echoes) ours(ev *stack.Event) (a echoArrival, ok bool) {
	if ev.Packet == nil {
		return a, false
	}
	p, err := packet.ParseStart(ev.Packet.Data, ev.Packet.Len)
	if err != nil || p.ICMP == nil {
		return a, false
	}
	a = echoArrival{out: ev.Packet.Out, time: ev.Time, Packet: p}
	about := p.ICMP
	switch request, reply := echoTypes(p.Version); {
	case a.out && about.Type != request, p.Frag.Fragmented() && a.out:
		return a, false
	case a.out, about.Type == reply && p.Src == e.dst:
	default:
		q, quoted := p.Quoted()
		if !quoted || q.ICMP == nil || q.ICMP.Type != request || q.Dst != e.dst {
			return a, false
		}
		about = q.ICMP
	}
	a.seq = uint16(about.Rest)
	return a, uint16(about.Rest>>16) == e.id
}

// echoTypes are ICMP's types of an echo request and its reply.
func echoTypes(version int) (request, reply uint8) {
	if version == 4 {
		return 8, 0
	}
	return 128, 129
}

func (e *echoes) send(ctx context.Context, seq uint16, ttl uint8, size int) error {
	return e.cl.SendEcho(ctx, stack.Echo{Dst: e.dst, TTL: ttl, ID: e.id, Seq: seq, Size: size})
}

// echoTarget reads the address of a command line.
func echoTarget(command string, args []string, v4, v6 bool) (netip.Addr, error) {
	if len(args) == 0 {
		return netip.Addr{}, remedy.Usagef("%s: want an address, such as 10.9.0.1", command)
	}
	a, err := netip.ParseAddr(args[0])
	switch {
	case err != nil || a.Zone() != "":
		return a, &remedy.UsageError{Msg: fmt.Sprintf("%s: %q: want an address, such as 10.9.0.1; names are not looked up", command, args[0]), Remedy: "the address of a name: getent hosts " + args[0]}
	case v4 && !a.Is4(), v6 && !a.Is6():
		return a, remedy.Usagef("%s: %s is an address of the other family", command, a)
	}
	return a, nil
}

// seconds reads a time as ping and traceroute do: seconds, with a fraction.
func seconds(command, flag, text string, least, most time.Duration) (time.Duration, error) {
	f, err := strconv.ParseFloat(text, 64)
	if d := f * float64(time.Second); err == nil && d >= float64(least) && d <= float64(most) {
		return time.Duration(d), nil
	}
	return 0, remedy.Usagef("%s: %s %s: want a number of seconds from %v to %v", command, flag, text, least.Seconds(), most.Seconds())
}

// maxWait is the longest time to wait for an answer.
const maxWait = time.Hour

type pingOptions struct {
	count, size, ttl       int
	interval, wait, whole  string
	quiet, v4, v6, refused bool
}

func newPing(e *env) *cobra.Command {
	var o pingOptions
	c := &cobra.Command{
		Use:   "ping [-c COUNT] [-i SECONDS] [-W SECONDS] [-w SECONDS] [-s SIZE] [-t TTL] [-q] [-n] [-4|-6] ADDR",
		Short: "Send echo requests from the stack, as ping(8) does",
		Long: `ping sends ICMP echo requests from the userspace stack, along its routes and through the link as impaired as it is,
until -c COUNT were answered, or SIGINT. Times are by the stack's clock: from when the request left the stack to when
the reply reached it. The exit status is 1 if nothing was answered.`,
		Example: `  catflap ping -c 3 10.9.0.1`,
		RunE:    func(c *cobra.Command, args []string) error { return o.run(c.Context(), e, args) },
	}
	fs := c.Flags()
	fs.IntVarP(&o.count, "count", "c", 0, "end after `COUNT` requests; 0: never")
	fs.StringVarP(&o.interval, "interval", "i", "1", "`SECONDS` between requests")
	fs.StringVarP(&o.wait, "timeout", "W", "10", "`SECONDS` to wait for the last answers")
	fs.StringVarP(&o.whole, "deadline", "w", "", "end after `SECONDS`, whatever was answered")
	fs.IntVarP(&o.size, "size", "s", 56, "bytes of data")
	fs.IntVarP(&o.ttl, "ttl", "t", 0, "time to live, or hop limit; 0: the stack's")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "the summary only")
	fs.BoolP("numeric", "n", false, "accepted: nothing is looked up")
	fs.BoolVarP(&o.v4, "ipv4", "4", false, "the address is IPv4's")
	fs.BoolVarP(&o.v6, "ipv6", "6", false, "the address is IPv6's")
	fs.BoolVarP(&o.refused, "flood", "f", false, "refused: see catflap netem for load")
	return c
}

func (o *pingOptions) run(ctx context.Context, e *env, args []string) error {
	dst, err := echoTarget("ping", args, o.v4, o.v6)
	if err != nil {
		return err
	}
	interval, err := seconds("ping", "-i", o.interval, 2*time.Millisecond, maxWait)
	if err != nil {
		return err
	}
	wait, err := seconds("ping", "-W", o.wait, time.Millisecond, maxWait)
	if err != nil {
		return err
	}
	switch {
	case len(args) > 1:
		return remedy.Usagef("ping: unexpected %q after the address", args[1])
	case o.refused:
		return &remedy.UsageError{Msg: "ping: -f: catflap floods nothing", Remedy: "many requests: catflap ping -i 0.002 " + args[0]}
	case o.count < 0 || o.count > math.MaxUint16:
		return remedy.Usagef("ping: -c %d: want 0..%d", o.count, math.MaxUint16)
	case o.size < 0 || o.size > stack.MaxEchoSize:
		return remedy.Usagef("ping: -s %d: want 0..%d", o.size, stack.MaxEchoSize)
	case o.ttl < 0 || o.ttl > math.MaxUint8:
		return remedy.Usagef("ping: -t %d: want 0..%d", o.ttl, math.MaxUint8)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.whole != "" {
		d, err := seconds("ping", "-w", o.whole, time.Millisecond, maxWait)
		if err != nil {
			return err
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	in, err := startEchoes(ctx, cl, dst)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer in.close()
	p := pinger{pingOptions: *o, echoes: in, w: e.stdout, left: map[uint16]time.Time{}}
	return p.run(ctx, interval, wait)
}

// pinger sends, prints what comes, and sums up.
type pinger struct {
	pingOptions
	*echoes
	w                    io.Writer
	left                 map[uint16]time.Time // when each request left the stack
	sent, received, errs int
	rtts                 []time.Duration
}

func (p *pinger) run(ctx context.Context, interval, wait time.Duration) error {
	headers := 28
	bytes := fmt.Sprintf("%d(%d) bytes of data.", p.size, p.size+headers)
	if p.dst.Is6() {
		bytes = fmt.Sprintf("%d data bytes", p.size)
	}
	if _, err := fmt.Fprintf(p.w, "PING %s (%s) %s\n", p.dst, p.dst, bytes); err != nil {
		return err
	}
	start := time.Now()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return p.summary(time.Since(start))
		case <-p.finished:
			if ctx.Err() != nil || errors.Is(p.lost, io.EOF) {
				return errors.Join(p.summary(time.Since(start)))
			}
			return fmt.Errorf("ping: %w", p.lost)
		case <-next.C:
			if p.count > 0 && p.sent == p.count {
				return p.summary(time.Since(start)) // the last answers did not come
			}
			p.sent++
			if err := p.send(ctx, uint16(p.sent), uint8(p.ttl), p.size); err != nil {
				if ctx.Err() != nil {
					p.sent--
					continue
				}
				return fmt.Errorf("ping: %w", err)
			}
			next.Reset(interval)
			if p.count > 0 && p.sent == p.count {
				next.Reset(wait)
			}
		case a := <-p.arrived:
			if err := p.arrival(&a); err != nil {
				return err
			}
			if p.count > 0 && p.received+p.errs >= p.count {
				return p.summary(time.Since(start))
			}
		}
	}
}

func (p *pinger) arrival(a *echoArrival) error {
	if a.out {
		p.left[a.seq] = a.time
		return nil
	}
	sent, waiting := p.left[a.seq]
	_, reply := echoTypes(a.Version)
	if a.ICMP.Type != reply {
		p.errs++
		if p.quiet {
			return nil
		}
		_, err := fmt.Fprintf(p.w, "From %s icmp_seq=%d %s\n", a.Src, a.seq, icmpMeaning(&a.Packet))
		return err
	}
	line := fmt.Sprintf("%d bytes from %s: icmp_seq=%d ttl=%d", a.Length-a.headers(), a.Src, a.seq, a.TTL)
	if !waiting {
		line += " (DUP!)"
	} else {
		delete(p.left, a.seq)
		p.received++
		rtt := a.time.Sub(sent)
		p.rtts = append(p.rtts, rtt)
		line += fmt.Sprintf(" time=%s ms", pingMillis(rtt))
	}
	if p.quiet {
		return nil
	}
	_, err := fmt.Fprintln(p.w, line)
	return err
}

// headers are the bytes before the ICMP message.
func (a *echoArrival) headers() int {
	if a.Version == 4 {
		return 20
	}
	return 40
}

// pingMillis writes milliseconds with as many digits as ping does.
func pingMillis(d time.Duration) string {
	ms := float64(d) / 1e6
	switch {
	case ms < 1:
		return fmt.Sprintf("%.3f", ms)
	case ms < 10:
		return fmt.Sprintf("%.2f", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}

// icmpMeaning says an ICMP error in ping's words.
func icmpMeaning(p *packet.Packet) string {
	type kind [3]uint8 // version, type, code
	names := map[kind]string{
		{4, 3, 0}: "Destination Net Unreachable", {4, 3, 1}: "Destination Host Unreachable", {4, 3, 2}: "Destination Protocol Unreachable", {4, 3, 3}: "Destination Port Unreachable",
		{4, 3, 13}: "Packet filtered", {4, 11, 0}: "Time to live exceeded", {4, 11, 1}: "Frag reassembly time exceeded",
		{6, 1, 0}: "Destination unreachable: No route", {6, 1, 1}: "Destination unreachable: Administratively prohibited", {6, 1, 3}: "Destination unreachable: Address unreachable",
		{6, 1, 4}: "Destination unreachable: Port unreachable", {6, 3, 0}: "Time exceeded: Hop limit", {6, 3, 1}: "Time exceeded: Defragmentation failure",
	}
	if s := names[kind{uint8(p.Version), p.ICMP.Type, p.ICMP.Code}]; s != "" {
		return s
	}
	return p.String()
}

func (p *pinger) summary(took time.Duration) error {
	loss, failed := 0.0, ""
	if p.sent > 0 {
		loss = 100 * float64(p.sent-p.received) / float64(p.sent)
	}
	if p.errs > 0 {
		failed = fmt.Sprintf("+%d errors, ", p.errs)
	}
	if _, err := fmt.Fprintf(p.w, "\n--- %s ping statistics ---\n%d packets transmitted, %d received, %s%s%% packet loss, time %dms\n",
		p.dst, p.sent, p.received, failed, strconv.FormatFloat(loss, 'g', 6, 64), took.Milliseconds()); err != nil {
		return err
	}
	if p.received == 0 {
		return statusError(exitFailure)
	}
	least, most, sum, squares := math.Inf(1), 0.0, 0.0, 0.0
	for _, rtt := range p.rtts {
		ms := float64(rtt) / 1e6
		least, most, sum, squares = min(least, ms), max(most, ms), sum+ms, squares+ms*ms
	}
	n := float64(len(p.rtts))
	mdev := math.Sqrt(max(squares/n-sum/n*sum/n, 0))
	_, err := fmt.Fprintf(p.w, "rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", least, sum/n, most, mdev)
	return err
}

type tracerouteOptions struct {
	first, hops, probes      int
	wait                     string
	v4, v6, tcp, udp, echoes bool
}

func newTraceroute(e *env) *cobra.Command {
	var o tracerouteOptions
	c := &cobra.Command{
		Use:   "traceroute [-I] [-n] [-f FIRST] [-m HOPS] [-q PROBES] [-w SECONDS] [-4|-6] ADDR [BYTES]",
		Short: "Find the way that packets of the stack take, as traceroute(8) does",
		Long: `traceroute sends ICMP echo requests from the userspace stack, with a time to live of 1, 2, and so on, and prints
who answers: each router that a packet dies at, and at the end the destination. Names are not looked up.`,
		Example: `  catflap traceroute -n 10.9.0.1`,
		RunE:    func(c *cobra.Command, args []string) error { return o.run(c.Context(), e, args) },
	}
	fs := c.Flags()
	fs.IntVarP(&o.first, "first", "f", 1, "the first time to live")
	fs.IntVarP(&o.hops, "max-hops", "m", 30, "the last time to live")
	fs.IntVarP(&o.probes, "queries", "q", 3, "requests for each hop")
	fs.StringVarP(&o.wait, "wait", "w", "5", "`SECONDS` to wait for the answers of a hop")
	fs.BoolVarP(&o.echoes, "icmp", "I", false, "accepted: echo requests are what traceroute sends")
	fs.BoolVarP(&o.tcp, "tcp", "T", false, "refused: traceroute sends echo requests")
	fs.BoolVarP(&o.udp, "udp", "U", false, "refused: traceroute sends echo requests")
	fs.BoolP("numeric", "n", false, "accepted: nothing is looked up")
	fs.BoolVarP(&o.v4, "ipv4", "4", false, "the address is IPv4's")
	fs.BoolVarP(&o.v6, "ipv6", "6", false, "the address is IPv6's")
	return c
}

// maxProbes is traceroute's own limit of -q.
const maxProbes = 10

func (o *tracerouteOptions) run(ctx context.Context, e *env, args []string) error {
	dst, err := echoTarget("traceroute", args, o.v4, o.v6)
	if err != nil {
		return err
	}
	wait, err := seconds("traceroute", "-w", o.wait, time.Millisecond, maxWait)
	if err != nil {
		return err
	}
	headers := 28
	if dst.Is6() {
		headers = 48
	}
	bytes := max(60, headers)
	if dst.Is6() {
		bytes = 80
	}
	if len(args) > 1 {
		if bytes, err = strconv.Atoi(args[1]); err != nil || bytes < headers || bytes-headers > stack.MaxEchoSize {
			return remedy.Usagef("traceroute: packet of %q bytes: want %d..%d", args[1], headers, headers+stack.MaxEchoSize)
		}
	}
	switch {
	case len(args) > 2:
		return remedy.Usagef("traceroute: unexpected %q", args[2])
	case o.tcp || o.udp:
		return &remedy.UsageError{Msg: "traceroute: -T, -U: catflap sends echo requests, as with -I", Remedy: "how far a connection gets: catflap lookup tcp SRC:PORT DST:PORT"}
	case o.hops < 1 || o.hops > math.MaxUint8:
		return remedy.Usagef("traceroute: -m %d: want 1..%d", o.hops, math.MaxUint8)
	case o.first < 1 || o.first > o.hops:
		return remedy.Usagef("traceroute: -f %d: want 1..%d", o.first, o.hops)
	case o.probes < 1 || o.probes > maxProbes:
		return remedy.Usagef("traceroute: -q %d: want 1..%d", o.probes, maxProbes)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	cl, err := e.client()
	if err != nil {
		return err
	}
	in, err := startEchoes(ctx, cl, dst)
	if err != nil {
		return fmt.Errorf("traceroute: %w", err)
	}
	defer in.close()
	if _, err := fmt.Fprintf(e.stdout, "traceroute to %s (%s), %d hops max, %d byte packets\n", dst, dst, o.hops, bytes); err != nil {
		return err
	}
	for ttl := o.first; ttl <= o.hops && ctx.Err() == nil; ttl++ {
		there, line, err := o.hop(ctx, in, ttl, bytes-headers, wait)
		if err != nil {
			return fmt.Errorf("traceroute: %w", err)
		}
		if _, err := fmt.Fprintf(e.stdout, "%2d %s\n", ttl, line); err != nil || there {
			return err
		}
	}
	return nil
}

// hop sends the requests with one time to live, and says who answered.
func (o *tracerouteOptions) hop(ctx context.Context, in *echoes, ttl, size int, wait time.Duration) (there bool, line string, err error) {
	first := ttl * o.probes
	for i := range o.probes {
		if err := in.send(ctx, uint16(first+i), uint8(ttl), size); err != nil {
			return true, "", err
		}
	}
	left := make([]time.Time, o.probes)
	answers := make([]*echoArrival, o.probes)
	late := time.NewTimer(wait)
	defer late.Stop()
	for missing := o.probes; missing > 0; {
		select {
		case a := <-in.arrived:
			i := int(a.seq) - first
			switch {
			case i < 0 || i >= o.probes:
			case a.out:
				left[i] = a.time
			case answers[i] == nil:
				answers[i] = &a
				missing--
			}
		case <-late.C:
			missing = 0
		case <-in.finished:
			return true, "", in.lost
		case <-ctx.Done():
			return true, "", ctx.Err()
		}
	}
	var last netip.Addr
	for i, a := range answers {
		if a == nil {
			line += " *"
			continue
		}
		if a.Src != last {
			line += fmt.Sprintf(" %s ", a.Src)
			last = a.Src
		}
		line += fmt.Sprintf(" %.3f ms", float64(a.time.Sub(left[i]))/1e6)
		switch _, reply := echoTypes(a.Version); {
		case a.ICMP.Type == reply:
			there = true
		case a.Version == 4 && a.ICMP.Type == 3, a.Version == 6 && a.ICMP.Type == 1:
			line, there = line+" "+unreachableMark(&a.Packet), true
		}
	}
	return there, line, nil
}

// unreachableMark is traceroute's sign for why a destination cannot be reached.
func unreachableMark(p *packet.Packet) string {
	marks := map[uint8]string{0: "!N", 1: "!H", 2: "!P", 13: "!X"}
	if p.Version == 6 {
		marks = map[uint8]string{0: "!N", 1: "!X", 3: "!H"}
	}
	if m := marks[p.ICMP.Code]; m != "" {
		return m
	}
	return fmt.Sprintf("!<%d>", p.ICMP.Code)
}
