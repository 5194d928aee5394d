package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

func hostPort(a netip.Addr, port uint16) string {
	host := a.String()
	if a.Is6() {
		host = "[" + host + "]"
	}
	if port == 80 {
		return host
	}
	return host + ":" + strconv.Itoa(int(port))
}

func newGet(e *env) *cobra.Command {
	var f instanceFlags
	var o getOptions
	c := &cobra.Command{
		Use:   "get [flags] URL",
		Short: "Fetch a URL from the cat server, all in this process: no device, no privilege",
		Long: `get runs the cat server on one userspace stack and an HTTP client on a second, joined by an
in-memory wire in this process, and prints the body of the answer.`,
		Example: `  catflap get http://10.9.0.2/
  catflap get --trace http://10.9.0.2/
  catflap get -o cat.png http://10.9.0.2/cat/felix.png`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &remedy.UsageError{Msg: fmt.Sprintf("get: want one URL, got %d arguments", len(args)), Remedy: getExample}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return get(c.Context(), e, &f, o, args[0]) },
	}
	f.add(c, false)
	c.Flags().StringVarP(&o.output, "output", "o", "", "write the body to `FILE`")
	c.Flags().BoolVarP(&o.include, "include", "i", false, "print the answer's header too")
	c.Flags().BoolVar(&o.trace, "trace", false, "print each packet's way through the server's stack and each socket call to stderr")
	return c
}

type getOptions struct {
	output         string
	include, trace bool
}

func get(ctx context.Context, e *env, f *instanceFlags, o getOptions, rawURL string) (err error) {
	s, err := f.parse(e.logger())
	if err != nil {
		return err
	}
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" || u.Host == "" || !validPort(u.Port()) {
		return &remedy.UsageError{Msg: fmt.Sprintf("get: URL %q: want http://HOST[:PORT]/PATH", rawURL), Remedy: getExample}
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()

	fail := func(err error, advice string) error {
		if ctx.Err() != nil {
			return fmt.Errorf("get: %w", context.Cause(ctx))
		}
		return remedy.With(fmt.Errorf("get: %w", err), advice)
	}

	p, err := instance.StartPair(s.instance, s.hostAddrs, s.device.MTU)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	defer p.Close()
	if o.trace {
		tr := startTrace(e, p.Server.Stack())
		defer tr.stop()
		defer tr.settle(p.Server.Stack())
	}
	if err := p.Server.Serve(s.port); err != nil {
		return fmt.Errorf("get: %w", err)
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return p.Client.DialContext(ctx, network, address)
	}
	tp := &http.Transport{DialContext: dial, DisableCompression: true}
	defer tp.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return remedy.Usagef("get: URL %q: %s", rawURL, err)
	}
	req.Header.Set("User-Agent", "catflap")
	req.Header.Set("Accept", "*/*")
	resp, err := (&http.Client{Transport: tp}).Do(req)
	if err != nil {
		return fail(err, s.whereServed())
	}
	defer resp.Body.Close()

	out, done, err := e.output(o.output)
	if err != nil {
		return fail(err, outputRemedy)
	}
	w := bufio.NewWriter(out)
	if o.include {
		fmt.Fprintf(w, "%s %s\r\n", resp.Proto, resp.Status)
		resp.Header.Write(w)
		fmt.Fprint(w, "\r\n")
	}
	_, err = io.Copy(w, resp.Body)
	if ferr := w.Flush(); err == nil {
		err = ferr
	}
	if derr := done(err == nil); err == nil {
		err = derr
	}
	if err != nil {
		return fail(err, outputRemedy)
	}
	return nil
}

const (
	getExample   = "for example: catflap get http://10.9.0.2/"
	outputRemedy = "is there room for it, and may you write there? -o FILE writes to another file"

	// dialTimeout leaves time for two retransmissions of the SYN, after 1 s and 3 s. Nobody answers on
	// this wire but the cat server, and it is in this process.
	dialTimeout = 5 * time.Second
)

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && n > 0
}

// whereServed says at which URLs the cat server answers.
func (s *setup) whereServed() string {
	var urls []string
	for _, p := range s.instance.Addrs {
		urls = append(urls, "http://"+hostPort(p.Addr(), s.port)+"/")
	}
	return fmt.Sprintf("the cat server is at %s (port %d): see --addr and --port", strings.Join(urls, " and "), s.port)
}

// output returns where a body goes: stdout, or a file that appears under its name
// only when done(true) says that it is whole.
func (e *env) output(name string) (w io.Writer, done func(ok bool) error, err error) {
	if name == "" || name == "-" {
		return e.stdout, func(bool) error { return nil }, nil
	}
	if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() {
		// A device or a pipe is written to, not replaced.
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return nil, nil, err
		}
		return f, func(bool) error { return f.Close() }, nil
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".catflap-*")
	if err != nil {
		return nil, nil, err
	}
	return f, func(ok bool) error {
		if err := f.Chmod(0o666 &^ umask()); err != nil {
			ok = false
		}
		if err := f.Close(); err != nil || !ok {
			os.Remove(f.Name())
			return err
		}
		return os.Rename(f.Name(), name)
	}, nil
}
