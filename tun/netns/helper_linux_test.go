package netns

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/catflap/catflap/tun"
)

const helper = "netns-test-helper"

// runHelper makes this program, started as "helper PATH COMMAND…", a maker of a namespace, whose device file
// is PATH: it runs the command in it with its own standard files, and prints what came of it. It ends the program.
func runHelper() {
	if len(os.Args) < 4 || os.Args[1] != helper {
		return
	}
	ns, err := Start(context.Background(), Config{Device: tun.Config{Path: os.Args[2]}, HostAddrs: hostAddrs})
	if err != nil {
		fmt.Printf("start: %v\nremedy: %s\n", err, tun.Diagnose(err))
		os.Exit(1)
	}
	fmt.Println("init", ns.PID())
	status, err := ns.Run(context.Background(), Command{Args: os.Args[3:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	fmt.Println("status", status, "err", err, "foreground", inForeground(os.Stdin), "device", ns.Device().Driver(), strings.ReplaceAll(ns.Device().Name(), " ", "_"))
	if err := ns.Close(); err != nil {
		fmt.Println("close:", err)
	}
	os.Exit(0)
}
