package stack

import (
	"strings"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Counter is one of the stack's counters, by the name that the kernel gives it in /proc/net/snmp, snmp6 and netstat:
// TcpRetransSegs, Ip6InReceives, TcpExtTCPTimeouts.
type Counter struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"` // since New, but for TcpCurrEstab, which is of now
}

// Counters returns what the stack counts, in the kernel's order. What it does not count is not in the list, not even as
// 0. UDP is counted for both families together.
func (s *Stack) Counters() []Counter {
	var out []Counter
	add := func(name string, counters ...*tcpip.StatCounter) {
		c := Counter{Name: name}
		for _, sc := range counters {
			c.Value += sc.Value()
		}
		out = append(out, c)
	}
	d := s.Drops()
	s.countIP("Ip", ipv4.ProtocolNumber, &out)
	out = append(out, Counter{"IpOutNoRoutes", d.OutNoRoutes})

	st := s.ns.Stats()
	in := st.ICMP.V4.PacketsReceived
	add("IcmpInMsgs", in.EchoRequest, in.EchoReply, in.DstUnreachable, in.SrcQuench, in.Redirect, in.TimeExceeded, in.ParamProblem,
		in.Timestamp, in.TimestampReply, in.InfoRequest, in.InfoReply, in.Invalid)
	add("IcmpInErrors", in.Invalid)
	add("IcmpInDestUnreachs", in.DstUnreachable)
	add("IcmpInTimeExcds", in.TimeExceeded)
	add("IcmpInParmProbs", in.ParamProblem)
	add("IcmpInRedirects", in.Redirect)
	add("IcmpInEchos", in.EchoRequest)
	add("IcmpInEchoReps", in.EchoReply)

	t := st.TCP
	add("TcpActiveOpens", t.ActiveConnectionOpenings)
	add("TcpPassiveOpens", t.PassiveConnectionOpenings)
	add("TcpEstabResets", t.EstablishedResets)
	add("TcpCurrEstab", t.CurrentEstablished)
	add("TcpInSegs", t.ValidSegmentsReceived, t.InvalidSegmentsReceived, t.ChecksumErrors)
	add("TcpOutSegs", t.SegmentsSent)
	add("TcpRetransSegs", t.Retransmits)
	add("TcpInErrs", t.InvalidSegmentsReceived, t.ChecksumErrors)
	add("TcpOutRsts", t.ResetsSent)
	add("TcpInCsumErrors", t.ChecksumErrors)

	u := st.UDP
	add("UdpInDatagrams", u.PacketsReceived)
	add("UdpNoPorts", u.UnknownPortErrors)
	add("UdpInErrors", u.ReceiveBufferErrors, u.MalformedPacketsReceived, u.ChecksumErrors)
	add("UdpOutDatagrams", u.PacketsSent)
	add("UdpRcvbufErrors", u.ReceiveBufferErrors)
	add("UdpInCsumErrors", u.ChecksumErrors)

	s.countIP("Ip6", ipv6.ProtocolNumber, &out)
	in6 := st.ICMP.V6.PacketsReceived
	add("Icmp6InErrors", in6.Invalid)
	add("Icmp6InDestUnreachs", in6.DstUnreachable)
	add("Icmp6InPktTooBigs", in6.PacketTooBig)
	add("Icmp6InTimeExcds", in6.TimeExceeded)
	add("Icmp6InParmProblems", in6.ParamProblem)
	add("Icmp6InEchos", in6.EchoRequest)
	add("Icmp6InEchoReplies", in6.EchoReply)

	add("TcpExtSyncookiesSent", t.ListenOverflowSynCookieSent)
	add("TcpExtSyncookiesRecv", t.ListenOverflowSynCookieRcvd)
	add("TcpExtSyncookiesFailed", t.ListenOverflowInvalidSynCookieRcvd)
	out = append(out, Counter{"TcpExtPAWSEstab", d.PAWS})
	add("TcpExtListenOverflows", t.ListenOverflowAckDrop)
	add("TcpExtListenDrops", t.ListenOverflowSynDrop, t.ListenOverflowAckDrop)
	add("TcpExtTCPRenoRecovery", t.FastRecovery)
	add("TcpExtTCPSackRecovery", t.SACKRecovery)
	add("TcpExtTCPFastRetrans", t.FastRetransmit)
	add("TcpExtTCPSlowStartRetrans", t.SlowStartRetransmits)
	add("TcpExtTCPTimeouts", t.Timeouts)
	add("TcpExtTCPLossProbeRecovery", t.TLPRecovery)
	add("TcpExtTCPDSACKRecv", t.SegmentsAckedWithDSACK)
	add("TcpExtTCPSpuriousRTOs", t.SpuriousRTORecovery)
	return append(out, Counter{"IpExtInNoRoutes", d.InNoRoutes})
}

// countIP adds up what the links count of a family.
func (s *Stack) countIP(prefix string, proto tcpip.NetworkProtocolNumber, out *[]Counter) {
	var sum [6]uint64
	for _, nic := range s.ns.NICInfo() {
		st, ok := nic.NetworkStats[proto].(stack.IPNetworkEndpointStats)
		if !ok {
			continue
		}
		ip := st.IPStats()
		for i, c := range []*tcpip.StatCounter{
			ip.PacketsReceived, ip.MalformedPacketsReceived, ip.InvalidDestinationAddressesReceived, ip.PacketsDelivered, ip.PacketsSent, ip.OutgoingPacketErrors,
		} {
			sum[i] += c.Value()
		}
	}
	for i, name := range []string{"InReceives", "InHdrErrors", "InAddrErrors", "InDelivers", "OutRequests", "OutDiscards"} {
		*out = append(*out, Counter{prefix + name, sum[i]})
	}
}

// Group is the protocol that a counter is of, as the kernel's files have it: Ip, Icmp, Tcp, Udp, Ip6, Icmp6, TcpExt, IpExt.
func (c Counter) Group() string {
	for _, g := range []string{"TcpExt", "Tcp", "Udp", "Icmp6", "Icmp", "Ip6", "IpExt"} {
		if strings.HasPrefix(c.Name, g) {
			return g
		}
	}
	return "Ip"
}

// LinkCounters are what a link has carried since it was attached. A TCP super-packet counts once; an ACK that is left
// out because a newer one says the same does not count.
type LinkCounters struct {
	RxPackets uint64 `json:"rx_packets"`
	RxBytes   uint64 `json:"rx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxBytes   uint64 `json:"tx_bytes"`
}

// traffic counts packets one way through a link.
type traffic struct{ packets, bytes atomic.Uint64 }

func (t *traffic) count(size int) {
	t.packets.Add(1)
	t.bytes.Add(uint64(size))
}

func (l *link) counters() LinkCounters {
	return LinkCounters{l.rx.packets.Load(), l.rx.bytes.Load(), l.tx.packets.Load(), l.tx.bytes.Load()}
}
