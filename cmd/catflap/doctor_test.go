package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/catflap/catflap/stack"
)

// doctor has a line for each thing that netstack lacks, with what is lost.
func TestNetstackFindings(t *testing.T) {
	show := func(err error) string {
		var out strings.Builder
		for _, f := range netstackFindings(err) {
			printFinding(&env{stdout: &out}, f)
		}
		return out.String()
	}
	if got, want := show(stack.CheckNetstack()), "ok    netstack             all is there that catflap looks for in it\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	const remedy = "                           -> build catflap with the gvisor.dev/gvisor that its go.mod names\n"
	got := show(errors.Join(errors.New("tcp.sender.resendTimer: no stall guard"), errors.New("tcp.Endpoint.txHash: no samples")))
	if want := "no    netstack             tcp.sender.resendTimer: no stall guard\n" + remedy + "no    netstack             tcp.Endpoint.txHash: no samples\n" + remedy; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
