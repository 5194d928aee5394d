// Package record keeps a stack's events in pcapng files, which Wireshark opens, and reads them back.
//
// Each packet is a packet of the file. Its first comment says in words what the stack decided: the route, the
// socket lookup with its candidates, why it was dropped or sent again, and what happened since the packet before:
// socket calls, changes of state, samples, timers, and what the link did. The comments after it are the same for
// programs, as JSON:
//
//	catflap events 2 [{"seq":7,"time":…,"state":{…}},{"seq":8,"time":…,"packet":{…}}]
//
// The last event of a packet's last comment is the packet itself; its bytes are those of the packet, and not
// repeated. Events that no packet follows are in the comment of an interface statistics block.
//
// A packet that the link lost on its way in, so that the stack has never seen it, is a packet of the file too, and
// its comment says so. What the link did to a packet on its way out is told in the comment of the next one, since
// the packet itself is in the file already, as the stack sent it.
package record

// prefix begins a comment that is for programs. The number is the version of what follows.
const prefix = "catflap events 2 "
