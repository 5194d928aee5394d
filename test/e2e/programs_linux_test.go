package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

func init() {
	programs["short-connections"] = shortConnections
	programs["talk"] = talk
	programs["sink"] = sink
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
