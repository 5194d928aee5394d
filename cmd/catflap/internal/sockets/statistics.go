package sockets

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/catflap/catflap/stack"
)

// statistic is how netstat -s says a counter: a sentence in which the number stands at %d.
var statistics = map[string]string{
	"IpInReceives": "%d total packets received", "IpInHdrErrors": "%d with invalid headers", "IpInAddrErrors": "%d with invalid addresses",
	"IpInDelivers": "%d incoming packets delivered", "IpOutRequests": "%d requests sent out", "IpOutDiscards": "%d outgoing packets dropped",
	"IpOutNoRoutes": "%d dropped because of missing route",
	"IcmpInMsgs":    "%d ICMP messages received", "IcmpInErrors": "%d input ICMP message failed", "IcmpInDestUnreachs": "destination unreachable: %d",
	"IcmpInTimeExcds": "timeout in transit: %d", "IcmpInParmProbs": "wrong parameters: %d", "IcmpInRedirects": "redirects: %d", "IcmpInEchos": "echo requests: %d", "IcmpInEchoReps": "echo replies: %d",
	"TcpActiveOpens": "%d active connection openings", "TcpPassiveOpens": "%d passive connection openings",
	"TcpEstabResets": "%d connection resets received", "TcpCurrEstab": "%d connections established", "TcpInSegs": "%d segments received",
	"TcpOutSegs": "%d segments sent out", "TcpRetransSegs": "%d segments retransmitted", "TcpInErrs": "%d bad segments received", "TcpOutRsts": "%d resets sent",
	"UdpInDatagrams": "%d packets received", "UdpNoPorts": "%d packets to unknown port received", "UdpInErrors": "%d packet receive errors", "UdpOutDatagrams": "%d packets sent",
	"TcpExtSyncookiesSent": "%d SYN cookies sent", "TcpExtSyncookiesRecv": "%d SYN cookies received", "TcpExtSyncookiesFailed": "%d invalid SYN cookies received",
	"TcpExtListenOverflows": "%d times the listen queue of a socket overflowed", "TcpExtListenDrops": "%d SYNs to LISTEN sockets dropped",
	"TcpExtTCPSackRecovery": "%d times recovered from packet loss by selective acknowledgements", "TcpExtTCPRenoRecovery": "%d times recovered from packet loss due to fast retransmit",
	"TcpExtTCPFastRetrans": "%d fast retransmits", "TcpExtTCPSlowStartRetrans": "%d retransmits in slow start",
}

// PrintStatistics writes the counters as netstat -s does: each protocol's under its name, those that have no sentence by
// their own name. If tcp or udp is given, of those protocols alone.
func PrintStatistics(w io.Writer, counters []stack.Counter, tcp, udp bool) error {
	b := bufio.NewWriter(w)
	last := ""
	for _, c := range counters {
		g := c.Group()
		if (tcp || udp) && !(tcp && (g == "Tcp" || g == "TcpExt") || udp && g == "Udp") {
			continue
		}
		if g != last {
			fmt.Fprintf(b, "%s:\n", g)
			last = g
		}
		sentence := statistics[c.Name]
		if sentence == "" {
			sentence = c.Name[len(g):] + ": %d"
		}
		fmt.Fprintf(b, "    "+sentence+"\n", c.Value)
	}
	return b.Flush()
}

// PrintInterfaces writes the links as netstat -i does. What the stack does not count is "-".
func PrintInterfaces(w io.Writer, links []stack.LinkInfo) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "Kernel Interface table")
	fmt.Fprintln(b, "Iface             MTU    RX-OK RX-ERR RX-DRP RX-OVR    TX-OK TX-ERR TX-DRP TX-OVR Flg")
	for _, l := range links {
		flags := "MOPRU"
		if l.Loopback {
			flags = "LRU"
		}
		c := l.Counters
		fmt.Fprintf(b, "%-14s %6d %8d %6s %6s %-6s %8d %6s %6s %6s %s\n", l.Name, l.MTU, c.RxPackets, "-", "-", "-", c.TxPackets, "-", "-", "-", flags)
	}
	return b.Flush()
}

// PrintRoutes writes routes of the main table as netstat -r does.
func PrintRoutes(w io.Writer, routes []stack.Route) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "Kernel IP routing table")
	fmt.Fprintln(b, "Destination     Gateway         Genmask         Flags   MSS Window  irtt Iface")
	for _, r := range routes {
		if r.Dst.Addr().Is6() {
			continue
		}
		gateway, flags, dev := netip.IPv4Unspecified(), "U", r.Dev
		if r.Gateway.IsValid() {
			gateway, flags = r.Gateway, "UG"
		}
		if r.Dst.IsSingleIP() {
			flags += "H"
		}
		if r.Type == stack.Unreachable || r.Type == stack.Prohibit || r.Type == stack.Blackhole || r.Type == stack.Throw {
			flags, dev = "!", "-"
		}
		mask := net.IP(net.CIDRMask(r.Dst.Bits(), 32))
		fmt.Fprintf(b, "%-15s %-15s %-15s %-6s %5d %-5d %6d %s\n", r.Dst.Addr(), gateway, mask, flags, 0, 0, 0, dev)
	}
	return b.Flush()
}
