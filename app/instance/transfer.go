package instance

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"strconv"
)

// Client moves bytes between itself and a cat server.
type Client struct {
	Base string // URL of the server, such as http://10.9.0.2/

	// Dial makes the connection; nil: of this process's own kernel.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Transfer moves so many bytes down from the server or up to it, on a connection of its own, and calls connected with
// the client's address once it has one. It is what Dashboard.Transfer asks for.
func (c Client) Transfer(ctx context.Context, bytes int64, up bool, connected func(netip.AddrPort)) error {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if a, err := netip.ParseAddrPort(i.Conn.LocalAddr().String()); err == nil {
			connected(a)
		}
	}})
	method, url, body := http.MethodGet, c.Base+"bytes/"+strconv.FormatInt(bytes, 10), io.Reader(nil)
	if up {
		method, url, body = http.MethodPost, c.Base+"upload", io.LimitReader(zeros{}, bytes)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	if up {
		req.ContentLength = bytes
	}
	tp := &http.Transport{DialContext: c.Dial, DisableKeepAlives: true, DisableCompression: true}
	defer tp.CloseIdleConnections()
	resp, err := tp.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && !up && n != bytes {
		err = fmt.Errorf("%d of %d bytes came", n, bytes)
	}
	return err
}

// Transfer is a Client's, between the pair's two stacks; port is the cat server's.
func (p *Pair) Transfer(port uint16) func(ctx context.Context, bytes int64, up bool, connected func(netip.AddrPort)) error {
	at := netip.AddrPortFrom(p.Server.cfg.Addrs[0].Addr(), port)
	return Client{Base: "http://" + at.String() + "/", Dial: p.Client.DialContext}.Transfer
}

// zeros yields zero bytes for ever.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
