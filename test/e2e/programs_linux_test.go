package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"
)

// programs are what this program is as well, in a process that a test may kill: "-program NAME ARG ARG".
var programs = map[string]func(string, string){
	"short-connections": shortConnections,
	"talk":              talk,
	"sink":              sink,
}

const programFlag = "-program"

// program returns the start of a command line.
func program(t testing.TB, name string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{self, programFlag, name}
}

// runProgram ends this program, if it is to be another.
func runProgram() {
	if len(os.Args) == 5 && os.Args[1] == programFlag {
		programs[os.Args[2]](os.Args[3], os.Args[4])
		os.Exit(0)
	}
}

// talk sends a little now and then on so many connections, and says when all are there and when all have ended.
func talk(addr, count string) {
	n, err := strconv.Atoi(count)
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	for range n {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		go func() {
			for b := make([]byte, 1<<10); ; time.Sleep(5 * time.Millisecond) {
				if _, err := c.Write(b); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	fmt.Println("all there")
	for range n {
		<-ended
	}
	fmt.Println("all ended")
}

// sink reads from so many connections until they end, and says when all are there and when all have ended.
func sink(addr, count string) {
	n, err := strconv.Atoi(count)
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening")
	ended := make(chan error)
	for range n {
		c, err := l.Accept()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		go func() {
			_, err := io.Copy(io.Discard, c)
			c.Close()
			ended <- err
		}()
	}
	fmt.Println("all there")
	for range n {
		<-ended
	}
	fmt.Println("all ended")
}
