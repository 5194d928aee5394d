package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/tun/netns"
)

// base is the URL of the cat server.
func (s *setup) base() string {
	return "http://" + hostPort(s.instance.Addrs[0].Addr(), s.port) + "/"
}

// transferHere is what the dashboard of serve starts: the host's end of the link is this namespace's.
func (s *setup) transferHere(ctx context.Context, bytes int64, up bool, connected func(netip.AddrPort)) error {
	return instance.Client{Base: s.base()}.Transfer(ctx, bytes, up, connected)
}

// transferCommand is a command of catflap's own, which does the same in another namespace.
const transferCommand = "transfer"

// transferIn is what the dashboard of run starts.
func (s *setup) transferIn(ns *netns.Namespace) func(context.Context, int64, bool, func(netip.AddrPort)) error {
	return func(ctx context.Context, bytes int64, up bool, connected func(netip.AddrPort)) error {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		args := []string{exe, transferCommand, "--bytes", strconv.FormatInt(bytes, 10), s.base()}
		if up {
			args = append(args, "--up")
		}
		r, w := io.Pipe()
		var said strings.Builder
		read := make(chan struct{})
		go func() {
			defer close(read)
			lines := bufio.NewScanner(r)
			for lines.Scan() {
				if a, err := netip.ParseAddrPort(strings.TrimPrefix(lines.Text(), connectedPrefix)); err == nil {
					connected(a)
				} else {
					said.WriteString(lines.Text())
				}
			}
		}()
		status, err := ns.Run(ctx, netns.Command{Args: args, Stdout: w, Stderr: w})
		w.Close()
		<-read
		if err == nil && status != 0 {
			err = errors.New(said.String())
		}
		return err
	}
}

// connectedPrefix begins the line in which the command tells the client's address.
const connectedPrefix = "connected "

func newTransfer(e *env) *cobra.Command {
	var bytes int64
	var up bool
	c := &cobra.Command{
		Use: transferCommand + " URL", Hidden: true, Args: cobra.ExactArgs(1),
		Short: "Move bytes between this namespace's kernel and a cat server, for the dashboard",
		RunE: func(c *cobra.Command, args []string) error {
			connected := func(a netip.AddrPort) { fmt.Fprintf(e.stdout, "%s%s\n", connectedPrefix, a) }
			return instance.Client{Base: args[0]}.Transfer(c.Context(), bytes, up, connected)
		},
	}
	c.Flags().Int64Var(&bytes, "bytes", 0, "")
	c.Flags().BoolVar(&up, "up", false, "")
	return c
}
