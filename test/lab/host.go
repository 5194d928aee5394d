package lab

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/catflap/catflap/stack"
)

// Host is a computer in the network: a userspace stack, and the standard library's ways to use it. A Lab's hosts know each
// other's names.
type Host struct {
	*stackNode
}

// HostOption is a property of a host.
type HostOption func(*hostConfig)

type hostConfig struct{ tcp stack.TCPConfig }

// TCP tunes a host's TCP, instead of Options.TCP.
func TCP(cfg stack.TCPConfig) HostOption { return func(c *hostConfig) { c.tcp = cfg } }

// Host adds a host, without links.
func (l *Lab) Host(name string, opts ...HostOption) *Host {
	l.t.Helper()
	l.checkName(name)
	cfg := hostConfig{tcp: l.opts.TCP}
	for _, o := range opts {
		o(&cfg)
	}
	n, err := l.newStackNode(name, cfg.tcp, false)
	if err != nil {
		l.fatalf("host %s: %v", name, err)
	}
	h := &Host{n}
	l.add(h)
	return h
}

func (h *Host) node() node { return h }

// DialContext connects to an address as net.Dialer.DialContext does. Its host may be an IP address, "localhost" or the name of
// a host or router. For a name and "tcp" or "udp" the address is IPv4 if the node has one; of several, one in a subnet of this
// host, else the first.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	resolved, err := h.resolve(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return h.stack.DialContext(ctx, network, resolved)
}

// Dial is DialContext without an end.
func (h *Host) Dial(network, address string) (net.Conn, error) {
	return h.DialContext(context.Background(), network, address)
}

// Listen announces on an address of the host, as net.Listen does: ":80" is all of them. The lab closes what the test does not.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	resolved, err := h.resolve(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return h.stack.Listen(network, resolved)
}

// ListenPacket announces on an address of the host, as net.ListenPacket does for UDP.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	resolved, err := h.resolve(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return h.stack.ListenPacket(network, resolved)
}

// resolve replaces a node's name in an address by its IP address.
func (h *Host) resolve(network, address string) (string, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil || name == "" || name == "localhost" {
		return address, nil // the stack knows, or says what is wrong
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return address, nil
	}
	addrs, known := h.lab.lookup(name)
	if addrs == nil {
		return "", &net.DNSError{Err: "no such host; this lab has " + strings.Join(known, ", "), Name: name, IsNotFound: true}
	}
	own := h.Addrs()
	if name == h.name && len(own) == 0 {
		return net.JoinHostPort("localhost", port), nil
	}
	var best netip.Addr
	score := -1
	for _, p := range addrs {
		a := p.Addr()
		if strings.HasSuffix(network, "4") && !a.Is4() || strings.HasSuffix(network, "6") && !a.Is6() {
			continue
		}
		s := 0
		if a.Is4() {
			s += 2
		}
		if slices.ContainsFunc(own, func(o netip.Prefix) bool { return o.Contains(a) }) {
			s++
		}
		if s > score {
			best, score = a, s
		}
	}
	if score < 0 {
		return "", &net.DNSError{Err: "it has no address for " + network, Name: name, IsNotFound: true}
	}
	return net.JoinHostPort(best.String(), port), nil
}

// lookup returns the addresses of the node of that name, nil if there is none, and the names that there are.
func (l *Lab) lookup(name string) (addrs []netip.Prefix, known []string) {
	for _, n := range l.snapshot() {
		a, ok := n.(interface{ Addrs() []netip.Prefix })
		if !ok {
			continue
		}
		known = append(known, n.Name())
		if n.Name() == name {
			addrs = append([]netip.Prefix{}, a.Addrs()...)
		}
	}
	return addrs, known
}

// Transport returns a new http.Transport that dials from the host; it speaks HTTP/1. The lab closes its idle connections.
func (h *Host) Transport() *http.Transport {
	t := &http.Transport{DialContext: h.DialContext}
	h.lab.onClose(t.CloseIdleConnections)
	return t
}

// Client returns a new http.Client on a Transport of its own.
func (h *Host) Client() *http.Client { return &http.Client{Transport: h.Transport()} }

// httpPort is where Serve listens if it can.
const httpPort = 80

// Serve serves HTTP/1 and, with prior knowledge, HTTP/2 without TLS (h2c), on port 80, or on any port if that is taken. It
// returns the server's URL, "http://server" or "http://server:32768"; with an IP address in a lab that has a Namespace, whose
// programs do not know the lab's names. Handlers must return when their connection is gone; the lab waits for them.
func (h *Host) Serve(handler http.Handler) (url string) {
	h.lab.t.Helper()
	l, err := h.Listen("tcp", ":"+strconv.Itoa(httpPort))
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = h.Listen("tcp", ":0")
	}
	if err != nil {
		h.lab.fatalf("serve on %s: %v", h.name, err)
	}
	var handlers sync.RWMutex // held for reading by each that runs
	closed := false           // guarded by handlers
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.RLock()
			defer handlers.RUnlock()
			if !closed {
				handler.ServeHTTP(w, r)
			}
		}),
		ErrorLog:  log.New(testWriter{h.lab}, h.name+": ", 0),
		Protocols: new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	h.lab.serving.Go(func() {
		srv.Serve(l) // returns once closed
		handlers.Lock()
		defer handlers.Unlock()
		closed = true
	})
	h.lab.onClose(func() { srv.Close() })

	name, port := h.name, l.Addr().(*net.TCPAddr).Port
	if h.lab.hasNamespace() {
		name = h.Addr().String()
		if h.Addr().Is6() {
			name = "[" + name + "]"
		}
	}
	if port == httpPort {
		return "http://" + name
	}
	return "http://" + name + ":" + strconv.Itoa(port)
}

func (l *Lab) hasNamespace() bool {
	return slices.ContainsFunc(l.snapshot(), func(n node) bool { _, ok := n.(*Namespace); return ok })
}

// testWriter logs what servers have to say.
type testWriter struct{ lab *Lab }

func (w testWriter) Write(b []byte) (int, error) {
	w.lab.t.Log("lab: " + strings.TrimSpace(string(b)))
	return len(b), nil
}
