//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/catflap/catflap/app/cats"
	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
)

// Ports of the services: those of RFC 862, 863 and 864, and HTTP's.
const (
	portEcho    = 7  // TCP and UDP: what comes goes back
	portDiscard = 9  // TCP: reads and forgets
	portBytes   = 19 // TCP: writes without end
	portHold    = 20 // TCP: accepts, and nothing more
	portHTTP    = 80 // the cat server
)

// bulkBuffer is the size of reads and writes of bulk data, in bytes. Of 32 KiB to
// 1 MiB it is where the kernel's own stack was fastest, since it stays in the cache.
const bulkBuffer = 64 << 10

// network is a TCP/IP stack as an application sees it: the kernel's or catflap's.
type network interface {
	Listen(network, address string) (net.Listener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// kernel is the network of the operating system.
type kernel struct{ net.Dialer }

// newKernel leaves keepalive off: its four system calls a connection are no part of
// what is measured.
func newKernel() *kernel { return &kernel{net.Dialer{KeepAlive: -1}} }

func (*kernel) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

func (*kernel) ListenPacket(network, address string) (net.PacketConn, error) {
	return net.ListenPacket(network, address)
}

// serveArgs says on which stack to serve.
type serveArgs struct {
	On          string
	Dev         string // of the TUN device that catflap makes
	MTU, Queues int
	Addrs       []netip.Prefix // the stack's
	HostAddrs   []netip.Prefix // of the other end of the link
	PortOffset  int            // added to the services' ports
}

// server runs the services. It lives as long as its process.
type server struct {
	net  network
	held holder
}

// startServer starts the services on the stack asked for. clients is the stack that
// a load in the same process uses; nil unless there are two in this process.
func startServer(a serveArgs) (s *server, clients network, err error) {
	s = &server{}
	switch a.On {
	case onKernel:
		s.net = newKernel()
	case onPair:
		pair, err := instance.StartPair(instance.Config{Addrs: a.Addrs}, a.HostAddrs, a.MTU)
		if err != nil {
			return nil, nil, err
		}
		s.net, clients = pair.Server.Stack(), pair.Client
	default:
		if s.net, err = startCatflap(a); err != nil {
			return nil, nil, err
		}
	}
	for _, family := range []string{"4", "6"} {
		for port, handle := range map[int]func(net.Listener) error{
			portEcho:    each(echo),
			portDiscard: each(discard),
			portBytes:   each(chargen),
			portHold:    s.hold,
			portHTTP:    s.http,
		} {
			l, err := s.net.Listen("tcp"+family, fmt.Sprintf(":%d", port+a.PortOffset))
			if err != nil {
				return nil, nil, err
			}
			go func() { fatal(handle(l)) }()
		}
		p, err := s.net.ListenPacket("udp"+family, fmt.Sprintf(":%d", portEcho+a.PortOffset))
		if err != nil {
			return nil, nil, err
		}
		go func() { fatal(echoPackets(p)) }()
	}
	return s, clients, nil
}

func startCatflap(a serveArgs) (*stack.Stack, error) {
	on := a.On
	if on == onWatched {
		on = onOffload
	}
	driver, err := tun.ParseDriver(on)
	if err != nil {
		return nil, err
	}
	dev, err := tun.Open(tun.Config{Name: a.Dev, MTU: a.MTU, Queues: a.Queues, Driver: driver})
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, remedy(err))
	}
	if err := tun.ConfigureHost(dev.Name(), tun.HostConfig{Addrs: a.HostAddrs, Up: true}); err != nil {
		dev.Close()
		return nil, err
	}
	var peers []netip.Addr
	for _, p := range a.HostAddrs {
		peers = append(peers, p.Addr())
	}
	i, err := instance.Start(instance.Config{Addrs: a.Addrs, Peers: peers, AdaptProcs: true}, dev)
	if err != nil {
		return nil, err
	}
	if a.On == onWatched {
		watch(i.Stack())
	}
	return i.Stack(), nil
}

// watchBuffer is as many events as a dashboard lets wait.
const watchBuffer = 1 << 14

// watch listens to all that happens in s, for as long as s lives.
func watch(s *stack.Stack) {
	sub := s.SubscribeWith(context.Background(), stack.SubscribeConfig{Buffer: watchBuffer, Kinds: stack.AllEvents})
	go func() {
		for range sub.Events() {
		}
	}()
}

func remedy(err error) string {
	if d := tun.Diagnose(err); d != "" {
		return "; " + d
	}
	return ""
}

// fatal ends the process: a service that has ended is of no use to a measurement.
func fatal(err error) {
	fmt.Fprintf(os.Stderr, "bench: a service ended: %v\n", err)
	os.Exit(1)
}

// each serves every connection with a goroutine.
func each(handle func(net.Conn)) func(net.Listener) error {
	return func(l net.Listener) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}
}

func echo(c net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

func discard(c net.Conn) {
	buf := make([]byte, bulkBuffer)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

func chargen(c net.Conn) {
	buf := make([]byte, bulkBuffer)
	for {
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

func echoPackets(p net.PacketConn) error {
	type addrPortConn interface {
		ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
		WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	}
	c, ok := p.(addrPortConn)
	if !ok {
		return fmt.Errorf("%T: %w", p, errors.ErrUnsupported)
	}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		c.WriteToUDPAddrPort(buf[:n], from) // a lost datagram is counted by the client
	}
}

// hold accepts connections and keeps them, with no goroutine or buffer for each.
func (s *server) hold(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		s.held.add(c)
	}
}

// http is the cat server, for as many connections as come.
func (s *server) http(l net.Listener) error {
	return cats.NewServer(cats.Config{MaxConns: -1, IdleTimeout: -1}).Serve(l)
}

// holder keeps connections open.
type holder struct {
	mu    sync.Mutex
	conns []net.Conn
	n     atomic.Int64
}

func (h *holder) add(c net.Conn) {
	h.mu.Lock()
	h.conns = append(h.conns, c)
	h.mu.Unlock()
	h.n.Add(1)
}

// release resets the connections: closing them in turn would leave TIME-WAIT
// behind, and the next measurement with it.
func (h *holder) release() {
	h.mu.Lock()
	conns := h.conns
	h.conns = nil
	h.mu.Unlock()
	for _, c := range conns {
		reset(c)
	}
	h.n.Store(0)
}

// reset closes a connection with a RST.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	c.Close()
}
