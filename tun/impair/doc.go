// Package impair is a link layer that makes a network bad on purpose: it loses, delays, reorders,
// duplicates and corrupts packets as Linux's tc netem does, and applies faults to exactly the packets that
// a rule names. It needs no privilege and no kernel module, and everything it does is seeded.
//
// A [Link] wraps a netstack link endpoint that carries bare IP packets. Each direction has settings of its
// own, a [Spec], which may be changed while packets pass; none that waits is lost by that. While a
// direction is off, packets pass untouched, TCP super-packets too. While it is on, each of its packets is
// made what it would be on a wire: super-packets are cut into segments and partial checksums are completed,
// so that one loss takes one segment, and one flipped bit is found by whoever verifies the checksum.
//
// # Settings
//
// [Parse] reads tc's words (tc-netem(8)):
//
//	delay TIME [JITTER [CORRELATION]] [distribution uniform|normal|pareto|paretonormal]
//	loss [random] PERCENT [CORRELATION]
//	loss state P13 [P31 [P32 [P23 [P14]]]]
//	loss gemodel P [R [1-H [1-K]]]
//	duplicate PERCENT [CORRELATION]
//	corrupt PERCENT [CORRELATION]
//	reorder PERCENT [CORRELATION] [gap N]
//	rate RATE [PACKETOVERHEAD [CELLSIZE [CELLOVERHEAD]]]
//	slot MIN [MAX] [packets N] [bytes N]
//	limit N
//	seed N
//
// They mean what they mean to the kernel's sch_netem, with these differences: a packet's size is that of
// its IP packet, since there is no Ethernet header here; random numbers come from seeded PCG generators, one
// for each direction and cause, of which each packet draws one number whatever else becomes of it, so
// that changing one cause does not shift another's sequence; and the correlation of delays is effective (the
// kernel takes correlated numbers modulo a table's size, which leaves little of it).
package impair
