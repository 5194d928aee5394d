package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"

	"github.com/catflap/catflap/app/relay/bridge"
	"github.com/catflap/catflap/stack"
)

// ErrNotRunning says that no instance answers at a path.
var ErrNotRunning = errors.New("no running catflap answers")

// Client speaks to the instance behind a control socket. It holds no connection
// between requests.
type Client struct {
	path string
	http *http.Client
}

// NewClient makes a client for the socket at path. Nothing is sent yet.
func NewClient(path string) (*Client, error) {
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}}, nil
}

// Path returns the path of the socket.
func (c *Client) Path() string { return c.path }

// send sends one request. The caller closes the answer's body.
func (c *Client) send(ctx context.Context, method, path string, q url.Values, body any) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "catflap", Path: fmt.Sprintf("/v%d%s", Version, path), RawQuery: q.Encode()}
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if err := c.check(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

func (c *Client) explain(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the made-up URL
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket %s: %w", c.path, ErrNotRunning)
	}
	return fmt.Errorf("control socket %s: %w", c.path, err)
}

// check turns a refusal into an error.
func (c *Client) check(resp *http.Response) error {
	switch v := resp.Header.Get(versionHeader); v {
	case strconv.Itoa(Version):
	case "":
		return fmt.Errorf("control socket %s: what answers is no catflap", c.path)
	default:
		return fmt.Errorf("control socket %s: the instance speaks version %s of the control API, this command version %d: use the catflap that started it", c.path, v, Version)
	}
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	e := new(Error)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(e); err != nil || e.Message == "" {
		return fmt.Errorf("control socket %s: %s", c.path, resp.Status)
	}
	return e
}

// do sends a request and decodes the answer into a T.
func do[T any](ctx context.Context, c *Client, method, path string, q url.Values, body any) (v T, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.send(ctx, method, path, q, body)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("control socket %s: answer: %w", c.path, err)
	}
	return v, nil
}

func (c *Client) change(ctx context.Context, method, path string, body any) error {
	_, err := do[struct{}](ctx, c, method, path, nil, body)
	return err
}

// Info describes the instance.
func (c *Client) Info(ctx context.Context) (Info, error) {
	return do[Info](ctx, c, http.MethodGet, "/info", nil, nil)
}

// Rules lists the rules of a family.
func (c *Client) Rules(ctx context.Context, f stack.Family) ([]stack.Rule, error) {
	rs, err := do[[]Rule](ctx, c, http.MethodGet, "/rules", url.Values{"family": {f.String()}}, nil)
	var out []stack.Rule
	for _, r := range rs {
		out = append(out, r.unwrap())
	}
	return out, err
}

// AddRule adds a rule: stack.AddRule.
func (c *Client) AddRule(ctx context.Context, r stack.Rule) error {
	return c.change(ctx, http.MethodPost, "/rules", Rule{Rule: r, Family: r.Family})
}

// DelRule removes a rule: stack.DelRule.
func (c *Client) DelRule(ctx context.Context, m stack.RuleMatch) error {
	return c.change(ctx, http.MethodDelete, "/rules", m)
}

// Routes lists the routes of a family in table t, or in all tables for t 0.
func (c *Client) Routes(ctx context.Context, f stack.Family, t stack.TableID) ([]stack.Route, error) {
	q := url.Values{"family": {f.String()}}
	if t != 0 {
		q.Set("table", t.String())
	}
	return do[[]stack.Route](ctx, c, http.MethodGet, "/routes", q, nil)
}

// AddRoute adds a route: stack.AddRoute.
func (c *Client) AddRoute(ctx context.Context, rt stack.Route) error {
	return c.change(ctx, http.MethodPost, "/routes", rt)
}

// AppendRoute adds a route after others: stack.AppendRoute.
func (c *Client) AppendRoute(ctx context.Context, rt stack.Route) error {
	return c.change(ctx, http.MethodPost, "/routes/append", rt)
}

// ReplaceRoute puts a route in another's place: stack.ReplaceRoute.
func (c *Client) ReplaceRoute(ctx context.Context, rt stack.Route) error {
	return c.change(ctx, http.MethodPut, "/routes", rt)
}

// DelRoute removes a route: stack.DelRoute.
func (c *Client) DelRoute(ctx context.Context, m stack.RouteMatch) error {
	return c.change(ctx, http.MethodDelete, "/routes", m)
}

// Links lists the links and their addresses.
func (c *Client) Links(ctx context.Context) ([]stack.LinkInfo, error) {
	return do[[]stack.LinkInfo](ctx, c, http.MethodGet, "/links", nil, nil)
}

// AddAddr gives a link an address.
func (c *Client) AddAddr(ctx context.Context, dev string, p netip.Prefix) error {
	return c.change(ctx, http.MethodPost, "/addrs", Addr{Dev: dev, Prefix: p})
}

// DelAddr takes an address from a link.
func (c *Client) DelAddr(ctx context.Context, dev string, p netip.Prefix) error {
	return c.change(ctx, http.MethodDelete, "/addrs", Addr{Dev: dev, Prefix: p})
}

// Sockets lists the sockets: stack.Sockets.
func (c *Client) Sockets(ctx context.Context) ([]stack.SocketInfo, error) {
	return do[[]stack.SocketInfo](ctx, c, http.MethodGet, "/sockets", nil, nil)
}

// Destroy ends a TCP connection or listener: stack.Destroy.
func (c *Client) Destroy(ctx context.Context, e stack.Ends) error {
	return c.change(ctx, http.MethodDelete, "/sockets", e)
}

// LookupRoute asks where a packet would go: stack.LookupRoute.
func (c *Client) LookupRoute(ctx context.Context, rq stack.RouteQuery) (*stack.RouteLookup, error) {
	q := url.Values{"dst": {rq.Dst.String()}}
	if rq.Src.IsValid() {
		q.Set("src", rq.Src.String())
	}
	if rq.IIF != "" {
		q.Set("iif", rq.IIF)
	}
	if rq.OIF != "" {
		q.Set("oif", rq.OIF)
	}
	return do[*stack.RouteLookup](ctx, c, http.MethodGet, "/lookup/route", q, nil)
}

// LookupSocket asks whose packet it would be: stack.LookupSocket.
func (c *Client) LookupSocket(ctx context.Context, t stack.FourTuple) (*stack.SocketLookup, error) {
	q := url.Values{"network": {t.Network}, "src": {t.Src.String()}, "dst": {t.Dst.String()}}
	return do[*stack.SocketLookup](ctx, c, http.MethodGet, "/lookup/socket", q, nil)
}

// LookupPacket asks what would become of a packet: stack.LookupPacket.
func (c *Client) LookupPacket(ctx context.Context, t stack.FourTuple, iif string) (*stack.PacketLookup, error) {
	q := url.Values{"network": {t.Network}, "src": {t.Src.String()}, "dst": {t.Dst.String()}}
	if iif != "" {
		q.Set("iif", iif)
	}
	return do[*stack.PacketLookup](ctx, c, http.MethodGet, "/lookup/packet", q, nil)
}

// Steering lists the steering rules.
func (c *Client) Steering(ctx context.Context) ([]stack.SteerRule, error) {
	return do[[]stack.SteerRule](ctx, c, http.MethodGet, "/steering", nil, nil)
}

// AddSteering adds a steering rule.
func (c *Client) AddSteering(ctx context.Context, r stack.SteerRule) error {
	return c.change(ctx, http.MethodPost, "/steering", r)
}

// DelSteering removes a steering rule.
func (c *Client) DelSteering(ctx context.Context, r stack.SteerRule) error {
	return c.change(ctx, http.MethodDelete, "/steering", r)
}

// Forwards lists the services of the host that are on addresses of the stack.
func (c *Client) Forwards(ctx context.Context) ([]bridge.Forward, error) {
	return do[[]bridge.Forward](ctx, c, http.MethodGet, "/forwards", nil, nil)
}

// AddForward puts a service of the host on an address of the stack.
func (c *Client) AddForward(ctx context.Context, f bridge.Forward) error {
	return c.change(ctx, http.MethodPost, "/forwards", f)
}

// DelForward takes one away. Its target need not be given.
func (c *Client) DelForward(ctx context.Context, f bridge.Forward) error {
	return c.change(ctx, http.MethodDelete, "/forwards", f)
}

// Drops counts the packets that the routing policy database did not let through.
func (c *Client) Drops(ctx context.Context) (stack.Drops, error) {
	return do[stack.Drops](ctx, c, http.MethodGet, "/drops", nil, nil)
}

// Counters returns what the stack counts, by the kernel's names: stack.Counters.
func (c *Client) Counters(ctx context.Context) ([]stack.Counter, error) {
	return do[[]stack.Counter](ctx, c, http.MethodGet, "/counters", nil, nil)
}

// Sysctls returns the settings of the stack, by the kernel's names: stack.Sysctls.
func (c *Client) Sysctls(ctx context.Context) ([]stack.Sysctl, error) {
	return do[[]stack.Sysctl](ctx, c, http.MethodGet, "/sysctl", nil, nil)
}

// SetSysctl changes a setting of the stack: stack.SetSysctl.
func (c *Client) SetSysctl(ctx context.Context, v stack.Sysctl) error {
	return c.change(ctx, http.MethodPut, "/sysctl", v)
}

// SendEcho sends an echo request from the stack: stack.SendEcho.
func (c *Client) SendEcho(ctx context.Context, e stack.Echo) error {
	return c.change(ctx, http.MethodPost, "/echo", e)
}

// Stream is a live stream of events. Close it, or end its context.
type Stream struct {
	body    io.ReadCloser
	dec     *json.Decoder
	dropped uint64
}

// Events starts a stream of the given kinds of events, which ends with ctx. When
// it returns, whatever happens from here on is in the stream.
func (c *Client) Events(ctx context.Context, k Kinds) (*Stream, error) {
	resp, err := c.send(ctx, http.MethodGet, "/events", k.query(), nil)
	if err != nil {
		return nil, err
	}
	return &Stream{body: resp.Body, dec: json.NewDecoder(resp.Body)}, nil
}

// Next returns the next event; io.EOF when the instance has ended.
func (s *Stream) Next() (stack.Event, error) {
	for {
		l := line{Event: new(stack.Event)}
		if err := s.dec.Decode(&l); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
				err = io.EOF // it was killed
			}
			return stack.Event{}, err
		}
		if l.Dropped > 0 {
			s.dropped = l.Dropped
		}
		if l.Event.Seq != 0 {
			return *l.Event, nil
		}
	}
}

// Dropped returns how many of its events did not reach the stream because
// its reader fell behind.
func (s *Stream) Dropped() uint64 { return s.dropped }

// Close ends the stream.
func (s *Stream) Close() error { return s.body.Close() }

// Buffered reports whether another event is here already, so that Next does not wait.
func (s *Stream) Buffered() bool {
	r, ok := s.dec.Buffered().(*bytes.Reader)
	return ok && r.Len() > 1 // more than the end of the line before
}
