package main

const socketsHelper = "catflap-test-sockets"

func runSocketsHelper() {}
