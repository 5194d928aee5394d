package main

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/clitest"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
)

// kernelNamespace makes a namespace whose device has the addresses of the stack
// under test, and no others.
const kernelNamespace = `set -e
ip link set lo up
ip link add cat0 type veth peer name peer
ip link set cat0 addrgenmode none
echo 1 >/proc/sys/net/ipv6/conf/peer/disable_ipv6
ip link set peer up
ip link set cat0 up
ip addr add 10.9.0.2/24 dev cat0
ip addr add fd00:9::2/64 dev cat0 nodad
`

// twin is a stack like kernelNamespace's, with a control socket.
func twin(t *testing.T) (socket string) {
	t.Helper()
	a, b := tun.Pipe(1500)
	t.Cleanup(func() { b.Close() })
	s, err := stack.New(stack.Config{Links: []stack.Link{{Name: "cat0", Endpoint: a, Addrs: []netip.Prefix{
		netip.MustParsePrefix("10.9.0.2/24"), netip.MustParsePrefix("fd00:9::2/64"),
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	srv, err := control.Serve(filepath.Join(t.TempDir(), "c.sock"), control.Parts{Stack: s}, control.Info{Dev: "cat0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	return srv.Path()
}

// inProcess runs a command line of catflap in this process.
func inProcess(socket string, args ...string) (stdout string, status int) {
	var out, stderr bytes.Buffer
	e := &env{stdout: &out, stderr: &stderr, getenv: func(name string) string {
		if name == controlEnv {
			return socket
		}
		return ""
	}}
	status = run(context.Background(), e, args)
	return out.String() + stderr.String(), status
}

// TestBesideRealIP makes the same changes to the kernel and to the stack, by the
// same command lines, and compares what both print, byte for byte.
func TestBesideRealIP(t *testing.T) {
	testenv.Require(t, testenv.Root, "unshare", "ip", "sh")
	socket := twin(t)
	const split = "\x00"
	lines := []string{
		"rule", "rule show", "-6 ru sh", "-j rule", "-j -p ru list", "-6 -j rule",
		"route", "ro sh table local", "ro sh table main", "-6 route", "-6 ro sh table local", "-j route", "-j -p route", "-j ro sh table local", "-6 -j -p ro sh table local", "ro sh table all",
		"route add local 192.0.2.0/24 dev cat0",
		"route add default via 10.9.0.1 dev cat0",
		"route add 203.0.113.0/24 via 10.9.0.1 metric 7 src 10.9.0.2",
		"route add unreachable 198.51.100.0/24",
		"route add prohibit 198.51.101.0/24 metric 5 proto static",
		"route add blackhole 198.51.102.5 table 100",
		"route add throw 198.51.103.0/24 table 100",
		"route add broadcast 198.51.104.255 dev cat0",
		"-6 route add default via fd00:9::1",
		"-6 route add local 2001:db8::/32 dev cat0",
		"-6 route add unreachable 2001:db8:1::/48 metric 9",
		"route replace 203.0.113.0/24 via 10.9.0.7 metric 7",
		"rule add from 192.0.2.0/24 table 100",
		"rule add not to 198.51.100.0/24 iif lo prohibit",
		"rule add prio 77 from all to 10.9.0.0/24 oif lo lookup main",
		"-6 rule add from 2001:db8::/32 unreachable",
		"rule", "-j rule", "-j -p rule", "-6 rule", "-6 -j rule",
		"route", "-j route", "route show table local", "route show table 100", "route show table all", "-6 route show table all", "-j ro sh table all", "-6 -j -p ro",
		"route show dev cat0", "route show dev cat0 table local", "route show type local table all", "route show proto kernel", "route show scope link", "route show via 10.9.0.1",
		"route show root 198.51.0.0/16", "route show match 198.51.100.7", "route show exact 198.51.100.0/24", "route show 198.51.100.0/24", "-j route show dev cat0 table local",
		"-j route show type broadcast",
		"route del 198.51.100.0/24", "route del 203.0.113.0/24 metric 7", "route del default", "route del local 192.0.2.0/24", "rule del prio 77", "rule del from 192.0.2.0/24", "-6 route del default",
		"rule", "route", "-6 route", "route show table local",
		"route replace multicast 239.0.0.0/8 dev cat0", "route replace multicast 239.0.0.0/8 dev cat0",
		"route replace multicast ff05::/16 dev cat0", "route replace multicast ff05::/16 dev cat0",
		"-6 route replace multicast ff05::/16 dev cat0",
		"route show table all type multicast", "-6 route show", "-j route show table all type multicast",
		"route add blackhole 198.20.0.0/16", "route append 198.20.0.0/16 dev cat0", "route append prohibit 198.20.0.0/16", "route show",
		"route replace throw 198.20.0.0/16", "route show",
		"route del prohibit 198.20.0.0/16", "route show", "route del 198.20.0.0/16", "route show", "route del 198.20.0.0/16 dev cat0", "route del 239.0.0.0/8", "route show",
		"-6 route add 2001:db8:2::/48 dev cat0", "-6 route del unreachable 2001:db8:2::/48", "-6 route del ff05::/16", "-6 route show",
		"rule add not from 192.0.2.0/24 prio 60 prohibit", "rule add from 192.0.2.0/24 prio 61 prohibit", "rule del from 192.0.2.0/24", "rule",
		"rule del prio 61 type prohibit", "rule del table default", "rule del prio 32766", "rule",
		"-6 route get fd00:9::2", "-6 route get fd00:9::7",
	}
	script := kernelNamespace
	for _, l := range lines {
		script += "ip " + l + "; printf '\\0'\n"
	}
	cmd := exec.Command("unshare", "-n", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	want := strings.Split(string(out), split)
	for i, l := range lines {
		got, _ := inProcess(socket, append([]string{"ip"}, strings.Fields(l)...)...)
		if got != want[i] {
			t.Errorf("ip %s\n--- kernel\n%s--- catflap\n%s", l, want[i], got)
		}
	}
}

// TestBesideRealAddr compares addresses. The words that the stack has nothing for
// are cut from the kernel's lines.
func TestBesideRealAddr(t *testing.T) {
	testenv.Require(t, testenv.Root, "unshare", "ip", "sh")
	socket := twin(t)
	out, err := exec.Command("unshare", "-n", "sh", "-c", kernelNamespace+"ip addr show dev cat0; ip -4 addr show dev lo; ip -6 addr show dev lo").Output()
	if err != nil {
		t.Fatal(err)
	}
	ours := ""
	for _, args := range []string{"ip addr show dev cat0", "ip -4 addr show dev lo", "ip -6 addr show dev lo"} {
		s, _ := inProcess(socket, strings.Fields(args)...)
		ours += s
	}
	addresses := func(s string) (lines []string) {
		for l := range strings.Lines(s) {
			if strings.HasPrefix(l, "    inet") || strings.Contains(l, "valid_lft") {
				lines = append(lines, strings.Replace(l, "nodad ", "", 1))
			}
		}
		return lines
	}
	clitest.Equal(t, "ip addr", strings.Join(addresses(ours), ""), strings.Join(addresses(string(out)), ""))
}

// TestBesideRealRouteGet asks the kernel and the stack for the routes of packets. Of the
// kernel's answer the user and the cache are cut, for which the stack has nothing.
func TestBesideRealRouteGet(t *testing.T) {
	testenv.Require(t, testenv.Root, "unshare", "ip", "sh")
	socket := twin(t)
	const split = "\x00"
	setup := []string{ // with a rule of its own the kernel names tables also in IPv4
		"rule add from 203.0.113.0/24 table 100",
		"addr add 10.8.0.2/24 dev cat0", "addr add 10.8.0.3/24 dev cat0",
		"route add default via 10.8.0.1",
		"route add 198.18.0.0/15 via 10.9.0.1",
		"route add 198.20.0.0/16 dev cat0",
		"route add 198.21.0.0/16 dev cat0 src 10.8.0.2",
		"route add 198.22.0.0/16 via 10.9.0.1 table 100",
		"rule add to 198.22.0.0/16 table 100",
		"route add local 192.0.2.0/24 dev cat0",
		"route add unreachable 198.51.100.0/24", "route add prohibit 198.51.101.0/24", "route add blackhole 198.51.102.0/24",
		"-6 route add default via fd00:9::1", "-6 route add 2001:db8::/32 via fd00:9::7 src fd00:9::2 metric 5", "-6 route add prohibit 2001:db9::/32",
	}
	lines := []string{
		"10.9.0.2", "10.8.0.3", "127.0.0.1", "127.0.0.5", "10.9.0.255", "192.0.2.77", "10.9.0.7", "10.8.0.7",
		"8.8.8.8", "198.18.0.1", "198.20.0.1", "198.21.0.1", "198.22.0.1",
		"8.8.8.8 from 10.9.0.2", "10.8.0.7 from 10.9.0.2", "198.18.0.1 oif cat0", "10.9.0.2 from 10.9.0.7 iif cat0",
		"198.51.100.1", "198.51.101.1", "198.51.102.1", "10.9.0.2 from 127.0.0.1 iif cat0",
		"fd00:9::2", "fd00:9::7", "::1", "2600::1", "2600::1 from fd00:9::2", "2001:db8::1", "2001:db8::1 from fd00:9::2", "2001:db9::1", "ff05::1",
		"fd00:9::2 from fd00:9::7 iif cat0",
	}
	script := kernelNamespace
	for _, l := range setup {
		script += "ip " + l + "\n"
		if out, status := inProcess(socket, append([]string{"ip"}, strings.Fields(l)...)...); status != exitOK {
			t.Fatalf("ip %s: %s", l, out)
		}
	}
	for _, l := range lines {
		script += "ip route get " + l + " 2>&1 || true; ip -j route get " + l + " 2>&1 || true; printf '\\0'\n"
	}
	cmd := exec.Command("unshare", "-n", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cut := regexp.MustCompile(`uid 0 |,"uid":0|\n    cache (<[^>]*> )?|,"cache":\[[^]]*\]`)
	want := strings.Split(string(out), split)
	for i, l := range lines {
		ours := ""
		for _, json := range []string{"", "-j "} {
			got, _ := inProcess(socket, strings.Fields("ip "+json+"route get "+l)...)
			// A refusal: the kernel's words are in ours, which say more.
			if _, why, refused := strings.Cut(got, "catflap: ip route get: "); refused {
				why, _, _ = strings.Cut(why, "\n")
				got = "RTNETLINK answers: " + why[strings.LastIndex(why, ": ")+2:] + "\n"
			}
			ours += got
		}
		clitest.Equal(t, "ip route get "+l, ours, cut.ReplaceAllString(want[i], ""))
	}
}
