package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/tun"
)

func newServe(e *env) *cobra.Command {
	var f instanceFlags
	var trace bool
	c := &cobra.Command{
		Use:   "serve [flags]",
		Short: "Serve cats on a TUN device of this namespace until SIGINT or SIGTERM",
		Long: `serve opens the TUN device in the current network namespace, gives it its addresses, and serves
until SIGINT or SIGTERM; then it drains, and leaves nothing behind. A second signal ends it at once.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return serve(c.Context(), e, &f, trace) },
	}
	f.add(c, true)
	f.board.add(c, defaultDashboard)
	c.Flags().BoolVar(&trace, "trace", false, "print each packet's way through the stack and each socket call to stderr")
	return c
}

func serve(ctx context.Context, e *env, f *instanceFlags, trace bool) error {
	s, err := f.parse(e.logger())
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	dev, err := tun.Open(s.device)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	err = tun.ConfigureHost(dev.Name(), tun.HostConfig{Addrs: s.hostAddrs, Up: true})
	if tun.IPv6Off(err) && s.dropIPv6(e) {
		err = tun.ConfigureHost(dev.Name(), tun.HostConfig{Addrs: s.hostAddrs, Up: true})
	}
	if err != nil {
		dev.Close()
		return fmt.Errorf("serve: %w", err)
	}
	s.instance.Tell = e.say
	path := e.controlPath()
	if path == "" {
		path = control.DefaultPath(dev.Name())
	}
	i, err := s.open(e, f, dev, opening{trace: trace, control: path, board: instance.Dashboard{OnDemand: !f.board.named(), Transfer: s.transferHere}})
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer i.close()
	fmt.Fprintf(e.stderr, "catflap: serving on %s, %s driver, MTU %d, offloads: %s\n", dev.Name(), dev.Driver(), dev.MTU(), dev.Offloads())
	for _, p := range s.instance.Addrs {
		if s.noCats {
			break
		}
		fmt.Fprintf(e.stderr, "catflap: http://%s/\n", hostPort(p.Addr(), s.port))
	}

	select {
	case err := <-i.Failed():
		return remedy.With(fmt.Errorf("serve: %w", err), tun.Diagnose(err))
	case <-ctx.Done():
	case <-signals:
	}
	fmt.Fprintf(e.stderr, "catflap: draining for up to %s\n", s.drain)
	drain, cancel := context.WithTimeout(ctx, s.drain)
	defer cancel()
	go func() {
		select {
		case <-signals:
			cancel()
		case <-drain.Done():
		}
	}()
	if err := i.Drain(drain); err != nil {
		fmt.Fprintln(e.stderr, "catflap: ended before all requests were answered")
	}
	return nil
}
