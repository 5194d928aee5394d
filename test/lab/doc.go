// Package lab builds networks in memory for "go test", bad ones if you like: hosts that are userspace TCP/IP stacks, joined by
// links, switches and routers. It needs no privilege and runs on any operating system.
//
//	func TestRetry(t *testing.T) {
//		l := lab.New(t, lab.Options{})
//		client, server := l.Host("client"), l.Host("server")
//		l.Link(client, server, lab.Netem("delay 10ms loss 1%"), lab.Netem("drop tcp synack 1"))
//		url := server.Serve(handler)
//		resp, err := client.Client().Get(url)
//		…
//	}
//
// A Host has what programs ask of package net: DialContext, Listen, ListenPacket, and for HTTP Transport, Client and Serve. Hosts
// know each other's names, and all nodes reach all others: routes are set up as links are made. Everything is closed when the test
// ends.
//
// # Addresses
//
// Each link is a subnet, and so is each switch with its links. They are numbered from 0 in the order in which they are made; the
// n-th is 10.9.n.0/24 and fd00:9:0:n::/64, and its nodes have the addresses 1, 2, 3 and so on in the order in which they were
// linked. So of a single link the ends are 10.9.0.1 and 10.9.0.2. Subnet chooses other prefixes.
//
// # Bad links
//
// Each direction of a link is impaired by tc-netem's words, and by rules that name packets ("drop tcp data 2 from server", "cut
// 5s", "reset tcp byte 50000"): see Netem, NetemFrom and, for both grammars, package tun/impair. Link.Set, SetFrom, AddRule, Down
// and Up change it while packets pass. Packets on links are as they would be on a wire: none is larger than the MTU, and each has
// its checksums, which their receivers verify.
//
// # Time
//
// Without Options.Clock time is real. With one it is virtual, and moves only within Clock.Run, Advance and Step, and only when all
// that a packet or timer has set in motion, in stacks and in the program, is over; so a transfer of minutes takes milliseconds,
// and times are exact. What a program must do to follow virtual time is said at Clock.
//
// # The same again
//
// All that is random comes from one seed, which a test that fails logs with how to repeat. With the same seed links do the same
// to the same packets. In real time the packets themselves depend on the machine; in virtual time they are the same as far as the
// program is: goroutines that run at the same moment may still do so in any order, while a program that acts between Steps of
// the Clock, in one goroutine, gives the same packets at the same times to the last byte.
//
// # When a test fails
//
// It logs a timeline of all packets, with what the stacks decided and the links did, of changes of TCP states, and of socket
// calls; and writes the whole of it to a file, with a pcapng capture of each end of each link, in whose comments is what became of
// a packet. Options.Artifacts says where. Nothing is written when a test passes. What is kept is bounded; what was left out is said.
//
// # Real programs
//
// TUN makes a network with one node that is a Linux network namespace, in which curl, or any program, is the peer.
package lab
