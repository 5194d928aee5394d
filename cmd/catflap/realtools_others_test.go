//go:build !linux

package main

// The tests beside the kernel's tools are Linux's.
const socketsHelper = "catflap-test-sockets"

func runSocketsHelper() {}
