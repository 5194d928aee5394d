package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/catflap/catflap/app/relay"
	"github.com/catflap/catflap/stack"
)

// Publish opens a port of the host that leads to the programs. The servers see the
// client's own address and port, where packets to it can come back to the stack, which
// they do if all destinations are routed to it (see Egress), and client and server are of
// one family. Clients at the host's loopback addresses come from the stack's address.
func (b *Bridge) Publish(p Published) error {
	close, err := b.publish(p)
	if err != nil {
		return err
	}
	context.AfterFunc(b.ctx, close)
	return nil
}

// publish opens a port, and returns what closes it.
func (b *Bridge) publish(p Published) (close func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, net.ErrClosed
	}
	if p.Network == "udp" {
		l, err := net.ListenPacket("udp", p.listen())
		if err != nil {
			return nil, fmt.Errorf("publish %s: %w", p, err)
		}
		b.wg.Go(func() { b.relay.ServePacket(l, b.inward(p)) })
		return func() { l.Close() }, nil
	}
	l, err := net.Listen("tcp", p.listen())
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", p, err)
	}
	b.wg.Go(func() {
		if err := b.relay.Serve(l, b.inward(p)); !errors.Is(err, net.ErrClosed) {
			b.tell(fmt.Sprintf("publish %s: %s", p, err), "the port is closed now; start again")
		}
	})
	return func() { l.Close() }, nil
}

// inward dials a program for a client of the host.
func (b *Bridge) inward(p Published) relay.Dialer {
	return func(ctx context.Context, t stack.FourTuple) (net.Conn, error) {
		peers := slices.Clone(b.cfg.Peers)
		if t.Src.Addr().Is6() {
			slices.SortStableFunc(peers, func(x, y netip.Addr) int { return y.BitLen() - x.BitLen() })
		}
		var first error
		tried := map[int]bool{}
		for _, peer := range peers {
			if tried[peer.BitLen()] {
				continue // the first of each family
			}
			tried[peer.BitLen()] = true
			c, err := b.reach(ctx, t, netip.AddrPortFrom(peer, p.To))
			if err == nil {
				return c, nil
			}
			if first == nil {
				first = err
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
		}
		if errors.Is(first, syscall.ECONNREFUSED) {
			b.tellRefused(p)
		}
		return nil, first
	}
}

// reach dials one address, from the client's own where that is possible.
func (b *Bridge) reach(ctx context.Context, t stack.FourTuple, to netip.AddrPort) (net.Conn, error) {
	if !b.keeps(t.Src.Addr(), to.Addr()) {
		return b.cfg.Stack.DialContext(ctx, t.Network, to.String())
	}
	c, err := b.cfg.Stack.DialFrom(ctx, t.Src, t.Network, to.String())
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		// The client has used its port before, and that is still in TIME-WAIT here.
		return b.cfg.Stack.DialFrom(ctx, netip.AddrPortFrom(t.Src.Addr(), 0), t.Network, to.String())
	}
	return c, err
}

// keeps reports whether a program at an address can be shown a client's own address.
func (b *Bridge) keeps(client, program netip.Addr) bool {
	if !client.IsGlobalUnicast() || client.Is4() != program.Is4() || slices.Contains(b.cfg.Peers, client) {
		return false // it means something else inside
	}
	rt := b.cfg.Stack.LookupRoute(stack.RouteQuery{Dst: client, IIF: b.cfg.Link})
	return rt.Local() && !b.carries(client) // packets to it come back here
}

// carries reports whether the stack itself has an address.
func (b *Bridge) carries(a netip.Addr) bool {
	for _, l := range b.cfg.Stack.Links() {
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return true
		}
	}
	return false
}

// tellRefused says why a published port leads nowhere.
func (b *Bridge) tellRefused(p Published) {
	if p.Network != "tcp" || b.cfg.Listening == nil {
		return
	}
	at, err := b.cfg.Listening()
	if err != nil {
		return
	}
	if i := slices.IndexFunc(at, func(ap netip.AddrPort) bool { return ap.Port() == p.To && ap.Addr().IsLoopback() }); i >= 0 {
		b.tellLoopback(fmt.Sprintf("publish %s", p), at[i])
		return
	}
	b.tell(fmt.Sprintf("publish %s: connection refused: no program listens on port %d inside", p, p.To), "start the server, or publish the port on which it listens")
}

func (b *Bridge) tellLoopback(what string, at netip.AddrPort) {
	b.tell(fmt.Sprintf("%s: the server inside listens at %s alone, where no packet of another host arrives", what, at),
		"have it listen at 0.0.0.0, [::] or "+b.cfg.Peers[0].String())
}

// autoPoll is how often new servers are looked for. Somebody waits who has just started
// one, and what is read is a page or two.
const autoPoll = 200 * time.Millisecond

// PublishAuto opens for every port on which a program listens the same port of the host,
// at all of its addresses, until it listens no more.
func (b *Bridge) PublishAuto() error {
	if b.cfg.Listening == nil {
		return errors.New("publish auto: where the programs listen is not known")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return net.ErrClosed
	}
	b.wg.Go(func() {
		open := map[uint16]func(){}
		defer func() {
			for _, close := range open {
				close()
			}
		}()
		tick := time.NewTicker(autoPoll)
		defer tick.Stop()
		for {
			b.follow(open)
			select {
			case <-tick.C:
			case <-b.ctx.Done():
				return
			}
		}
	})
	return nil
}

// follow opens ports that are new, and closes those that are gone.
func (b *Bridge) follow(open map[uint16]func()) {
	at, err := b.cfg.Listening()
	if err != nil {
		return // the programs have ended
	}
	reachable, local := map[uint16]bool{}, map[uint16]netip.AddrPort{}
	for _, ap := range at {
		if ap.Addr().IsLoopback() {
			local[ap.Port()] = ap
		} else {
			reachable[ap.Port()] = true
		}
	}
	for port, close := range open {
		if !reachable[port] {
			delete(open, port)
			if close != nil {
				close()
			}
		}
	}
	for port := range reachable {
		if _, known := open[port]; known {
			continue
		}
		open[port], err = b.publish(Published{Network: "tcp", From: port, To: port})
		if err != nil && !errors.Is(err, net.ErrClosed) {
			remedy := "publish it on another port of this machine: -t HOSTPORT:" + portString(port)
			b.tell(err.Error(), remedy)
		}
	}
	for port, ap := range local {
		if !reachable[port] {
			b.tellLoopback("publish auto", ap)
		}
	}
}

// ReadListening reads from a process's /proc/PID/net where TCP servers of its network
// namespace listen.
func ReadListening(pid int) (at []netip.AddrPort, err error) {
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if errors.Is(err, os.ErrNotExist) && name == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 3 && f[3] == procListen {
				if ap, ok := parseProcAddr(f[1]); ok {
					at = append(at, ap)
				}
			}
		}
	}
	return at, nil
}

// procListen is TCP_LISTEN in /proc/net/tcp.
const procListen = "0A"
