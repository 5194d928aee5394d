// Package drill tests a TCP/IP stack packet by packet.
//
// It reads the language of packetdrill, the tool that the field writes such tests in: lines with a time, and what
// happens then: a packet to the stack (<), a packet that the stack must send (>), a socket call with its result, or an
// assertion on TCP_INFO.
//
//	 0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
//	+0 bind(3, ..., ...) = 0
//	+0 listen(3, 1) = 0
//	+0 < S 0:0(0) win 32792 <mss 1000>
//	+0 > S. 0:0(0) ack 1 <...>
//	+.1 < . 1:1(0) ack 1 win 257
//	+0 accept(3, ..., ...) = 4
//
// [RunFiles] runs scripts from files, [Run] and [Dir] run them in a Go test. Against the userspace stack they need no
// privilege, and run on any operating system in virtual time: a timer of a minute takes no longer than any other, and each
// run gives the same result. The same scripts run against Linux's own TCP in real time, to see where the two differ.
//
// Beneath lies [Host], which sends and expects packets in the same notation, for tests written in Go.
//
// # Differences from packetdrill
//
// The contents of packets are checked: a stream's bytes follow from their place in it, so that lost, doubled or moved
// data shows. An expected segment with data may come as several, unless the script says --strict_segments, because
// Linux's own segments are cut only on their way out. A script that says --quiet_end=SECONDS also fails when the stack
// sends anything after the last event, and with --ignore_push PSH is not compared. The comment "expected-fail: REASON"
// marks a script that is known to fail, or to be refused; it fails the run when it passes. Ports before the flags
// ("33000 > 8080 S 0:0(0)") are those on the wire, and so tell connections apart. In brackets before the flags, badsum and
// badipsum spoil a checksum, nosum leaves it out, "frag FROM:TO" sends a part of the packet as a fragment, "proto N" gives
// another protocol number, "hopopt 0xBYTES" an IPv6 hop-by-hop option, and "routing 0xBYTES" an IPv6 routing header from its
// type on. An option of TCP without a name is written unknown-KIND 0xDATA. The option "FO *" is a Fast Open cookie that only
// the stack knows: any in what it sends, and in what the script sends the one that came last. An expected packet may have
// "*" for its sequence numbers.
//
// A super-packet of the kernel counts as the segments that it leaves in.
//
// Shell lines are read here and not by a shell: sysctl, the files that public suites call for their settings, nstat and grep
// on counters, sockstat, and on the kernel ip and tc, which change nothing outside the script's network namespace. On the
// stack the settings must be such as it has; FreeBSD's are put into Linux's words. All other lines are refused by name, or,
// with [Environment].Shell, left to a shell. Files that a script makes lie in memory.
//
// # What each target has
//
// On the kernel target there are Fast Open, control messages (TCP_INQ, the error queue with MSG_ZEROCOPY and
// SO_TIMESTAMPING), splice, sendfile, NULL buffers and settings in the middle of a script. The stack has none of these. A script that asks for what the
// target has not is refused before it starts, with file, line and reason; [Script.Check] says the same without a run.
//
// Not supported on either: signatures of MD5 in what a script sends, GRE, MPLS and PSP, and control messages that a script sends.
package drill
