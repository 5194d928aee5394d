package stack

// FormatCall writes a call as package strace does. That package needs this one, so
// that only an external test can give it.
var FormatCall func(*CallEvent) string
