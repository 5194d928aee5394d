// Package bridge joins a running stack, and through it the programs at the other end of
// its link, with the host: egress leads the programs' flows out, a published port leads
// the host's clients in to them, and a forward puts a service of the host on an address
// of the stack.
package bridge
