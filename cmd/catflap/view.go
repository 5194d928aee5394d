package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/dashboard"
	"github.com/catflap/catflap/app/record"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

func newView(e *env) *cobra.Command {
	var f dashboardFlags
	c := &cobra.Command{
		Use:   "view [flags] FILE",
		Short: "Open a capture in the dashboard's page",
		Long: `view serves the dashboard's page for a file that catflap capture, or the page itself, has written, until SIGINT
or SIGTERM. Captures of other programs open too, without what only the stack can tell. FILE - is stdin.`,
		Example: `  catflap view session.pcapng
  catflap view --dashboard 127.0.0.1:0 session.pcapng`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &remedy.UsageError{Msg: fmt.Sprintf("view: want one file, got %d arguments", len(args)), Remedy: "for example: catflap view session.pcapng"}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return view(c.Context(), e, &f, args[0]) },
	}
	f.add(c, defaultDashboard)
	return c
}

func view(ctx context.Context, e *env, f *dashboardFlags, file string) error {
	addr, err := f.address()
	if err != nil {
		return err
	}
	if addr == "" {
		return remedy.Usagef("view: --dashboard off: there is nothing else to view it with")
	}
	rec, err := readRecording(e, file)
	if err != nil {
		return fmt.Errorf("view: %w", err)
	}
	if len(rec.Events) == 0 {
		return remedy.With(fmt.Errorf("view: %s: there is no IP packet in it", file), "want a capture of at least one packet")
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) && !f.named() {
		// Another page is open already. Nobody asked for this port.
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return dashboardError(fmt.Errorf("view: dashboard: %w", err))
	}
	name := filepath.Base(file)
	if file == "-" {
		name = "stdin"
	}
	board := dashboard.New(dashboard.Config{
		Version: buildInfo().Version, Name: name, Payload: f.payload, Recording: rec, Logger: e.logger(),
	})
	defer board.Close()
	board.Serve(l, addr)
	fmt.Fprintf(e.stderr, "catflap: %s at %s\n", name, board.URL())
	<-ctx.Done()
	return nil
}

func readRecording(e *env, file string) (record.Recording, error) {
	var r io.Reader = e.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return record.Recording{}, err
		}
		defer f.Close()
		r = f
	}
	rec, err := record.Read(r)
	if err != nil {
		return rec, remedy.With(fmt.Errorf("%s: %w", file, err), "want a pcapng file, as catflap capture writes it")
	}
	return rec, nil
}
