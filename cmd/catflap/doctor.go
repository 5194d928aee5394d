package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/netns"
)

// finding is one line of doctor's report.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // without it, catflap run does not work
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

func newDoctor(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check device, permissions, namespaces and offloads; say the remedy for each",
		Long: `doctor tries what catflap run needs, in a namespace of its own that is gone afterwards. Its exit
status is 1 if something that catflap run needs is missing. catflap get needs none of it.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			fs := examine(c.Context())
			bad := false
			for _, f := range fs {
				bad = bad || f.Needed && !f.OK
			}
			if e.json {
				if err := json.NewEncoder(e.stdout).Encode(fs); err != nil {
					return err
				}
			} else {
				for _, f := range fs {
					printFinding(e, f)
				}
			}
			if bad {
				return statusError(exitFailure)
			}
			return nil
		},
	}
}

func printFinding(e *env, f finding) {
	mark := "ok  "
	switch {
	case !f.OK && f.Needed:
		mark = "FAIL"
	case !f.OK:
		mark = "no  "
	}
	fmt.Fprintf(e.stdout, "%s  %-20s %s\n", mark, f.Check, f.Detail)
	if f.Remedy != "" {
		fmt.Fprintf(e.stdout, "      %-20s -> %s\n", "", f.Remedy)
	}
}

func examine(ctx context.Context) []finding {
	who := "unknown user"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	fs := []finding{{Check: "system", OK: true, Detail: fmt.Sprintf("%s/%s, %d processors, as %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), who)}}
	fs = append(fs, netstackFindings(stack.CheckNetstack())...)
	if runtime.GOOS != "linux" {
		return append(fs, finding{Check: "private namespace", Needed: true, Detail: "network namespaces are Linux's", Remedy: "catflap get works here, and catflap serve as administrator"})
	}

	dev := finding{Check: "device file", Needed: true}
	f, err := os.OpenFile(tun.DefaultPath, os.O_RDWR, 0)
	if dev.OK = err == nil; dev.OK {
		f.Close()
		dev.Detail = tun.DefaultPath + " can be read and written"
	} else {
		dev.Detail = err.Error()
		dev.Remedy = tun.Diagnose(&tun.OpError{Op: tun.OpOpen, Name: tun.DefaultPath, Err: err})
	}
	fs = append(fs, dev)

	for _, d := range []tun.Driver{tun.Offload, tun.Water} {
		fs = append(fs, tryNamespace(ctx, d)...)
	}

	curl := finding{Check: "curl"}
	if path, err := exec.LookPath("curl"); err == nil {
		curl.OK, curl.Detail = true, path
	} else {
		curl.Detail, curl.Remedy = "not found", "install curl to try: catflap run -- curl -s http://10.9.0.2/"
	}
	return append(fs, curl)
}

// netstackFindings says of each part of netstack that is not as catflap knows it what does
// not work without it. err is of stack.CheckNetstack.
func netstackFindings(err error) (fs []finding) {
	if err == nil {
		return []finding{{Check: "netstack", OK: true, Detail: "all is there that catflap looks for in it"}}
	}
	for _, missing := range strings.Split(err.Error(), "\n") {
		fs = append(fs, finding{Check: "netstack", Detail: missing, Remedy: "build catflap with the gvisor.dev/gvisor that its go.mod names"})
	}
	return fs
}

// tryNamespace opens a device with driver d in a namespace of its own.
func tryNamespace(ctx context.Context, d tun.Driver) []finding {
	f := finding{Check: "namespace, " + d.String(), Needed: d == tun.Offload}
	ns, err := netns.Start(ctx, netns.Config{Device: tun.Config{Driver: d}, HostAddrs: instance.DefaultHostAddrs})
	if err != nil {
		f.Detail, f.Remedy = err.Error(), tun.Diagnose(err)
		return []finding{f}
	}
	defer ns.Close()
	f.OK = true
	f.Detail = "a private namespace with a TUN device, both IPv4 and IPv6"
	fs := []finding{f}
	if d != tun.Offload {
		return fs
	}
	o := ns.Device().Offloads()
	for _, g := range []struct {
		name  string
		grant tun.Grant
	}{
		{"virtio-net header", o.VnetHdr}, {"receive checksum", o.RxChecksum}, {"receive TSO IPv4", o.RxTSO4}, {"receive TSO IPv6", o.RxTSO6},
		{"send checksum", o.TxChecksum}, {"send TSO IPv4", o.TxTSO4}, {"send TSO IPv6", o.TxTSO6},
	} {
		fs = append(fs, offloadFinding(g.name, g.grant))
	}
	return fs
}

func offloadFinding(name string, g tun.Grant) finding {
	f := finding{Check: "offload: " + name, OK: g.Granted, Detail: "granted"}
	if !g.Granted {
		f.Detail = g.Reason
		f.Remedy = "catflap works without it, more slowly"
	}
	return f
}
