package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/dashboard"
	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

// dashboardFlags are the flags of run, serve and view that are about the dashboard.
type dashboardFlags struct {
	addr    string
	payload bool
	named   func() bool // whether the user has given the address
}

// noDashboard is the address that turns a default off.
const noDashboard = "off"

func (f *dashboardFlags) add(c *cobra.Command, def string) {
	fs := c.Flags()
	fs.StringVar(&f.addr, "dashboard", def, "serve the live web page on `ADDR`, such as 127.0.0.1:8098; \"off\" for none")
	fs.BoolVar(&f.payload, "show-payload", false, "let the page show, and offer for download, the bytes that connections carry")
	f.named = func() bool { return fs.Changed("dashboard") }
}

// defaultDashboard is where serve and view serve the page.
var defaultDashboard = net.JoinHostPort("127.0.0.1", strconv.Itoa(instance.DashboardPort))

// address checks the address; "" is none.
func (f *dashboardFlags) address() (string, error) {
	if f.addr == "" || f.addr == noDashboard {
		return "", nil
	}
	host, port, err := net.SplitHostPort(f.addr)
	if err == nil && host == "" {
		err = errors.New("no host")
	}
	if _, perr := strconv.ParseUint(port, 10, 16); err == nil && perr != nil {
		err = errors.New("no port number")
	}
	if err != nil {
		return "", &remedy.UsageError{
			Msg:    fmt.Sprintf("--dashboard %s: want HOST:PORT", f.addr),
			Remedy: "for example --dashboard " + defaultDashboard + "; another host than a loopback address lets others look",
		}
	}
	return f.addr, nil
}

// open starts the dashboard of an instance, if one is wanted, and says where it is. The cat server's port is taken.
func (f *dashboardFlags) open(e *env, i *instance.Instance, port uint16, d instance.Dashboard) error {
	addr, err := f.address()
	if err != nil || addr == "" {
		return err
	}
	d.Addr, d.Payload, d.Version = addr, f.payload, buildInfo().Version
	if port != instance.DashboardPort {
		d.StackPort = instance.DashboardPort
	}
	board, err := i.Dashboard(d)
	if err != nil && !f.named() && (errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL)) {
		// Nobody asked for this address: that it is taken, or that a namespace's loopback interface is down, is
		// no reason not to serve.
		fmt.Fprintf(e.stderr, "catflap: %s\ncatflap: no dashboard on this host; --dashboard HOST:PORT chooses another address\n", err)
		d.Addr = ""
		if d.StackPort == 0 {
			return nil
		}
		board, err = i.Dashboard(d)
	}
	if err != nil {
		return dashboardError(err)
	}
	sayDashboard(e, board)
	return nil
}

// sayDashboard prints where the page is, and the token that changes need: on stderr alone.
func sayDashboard(e *env, board *dashboard.Server) {
	if board.URL() != "" {
		fmt.Fprintf(e.stderr, "catflap: dashboard at %s, token %s\n", board.URL(), board.Token())
	}
}

// dashboardError adds the remedy to why a page cannot be served.
func dashboardError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return remedy.With(err, "another program has this address; choose another with --dashboard HOST:PORT: port 0 is any that is free")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return remedy.With(err, "want an address of this machine, such as --dashboard "+defaultDashboard)
	}
	return err
}
