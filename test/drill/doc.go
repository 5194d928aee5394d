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
// marks a script that is known to fail; it fails the run when it passes. Ports before the flags ("33000 > 8080 S 0:0(0)") are those on the wire, and so tell
// connections apart. In brackets before the flags, badsum and badipsum spoil a checksum, "frag FROM:TO" sends a
// part of the packet as a fragment, "proto N" gives another protocol number, and "hopopt 0xBYTES" an IPv6 hop-by-hop
// option. An option of TCP without a name is written unknown-KIND 0xDATA. An expected packet may have "*" for its sequence
// numbers.
//
// Shell lines are not run. The settings that they make most are understood, with sysctl or the scripts that public tests
// call; all others are refused.
//
// Not supported: Fast Open, MD5, ECN and control messages (netstack has none of them), and encapsulated packets.
package drill
