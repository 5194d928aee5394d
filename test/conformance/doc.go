// Package conformance holds scripts in packetdrill's language that say, RFC by RFC, what a TCP/IP stack must do, and
// measures what netstack and Linux do.
//
// The first comment line of a script names the RFC, the section and how binding the rule is; the next says the rule. A
// script that fails on netstack says so, with what happens instead: "expected-fail: REASON". It fails the run when it
// starts to pass. The matrix, every kind of segment in every state of a connection, is written by matrix.go.
//
// What the language cannot express, because it needs two links, thousands of packets or arithmetic, is written in Go:
// cases_test.go.
//
// TABLE.md has the results; "make conformance" measures them anew. Linux's column needs root.
package conformance
