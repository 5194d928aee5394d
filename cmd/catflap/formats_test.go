package main

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/cmd/catflap/internal/clitest"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/event"
)

func TestStraceLines(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 6789000, time.Local)
	c := &stack.CallEvent{Name: "close", FD: 5, Start: start, Duration: 12345 * time.Nanosecond}
	long := &stack.CallEvent{Name: "read", FD: 5, Buffer: &event.Buffer{Size: 4096, Len: 34, Data: []byte("GET / HTTP/1.1\r\nHost: = \"10.9.0.2\"")}, Ret: 34, Start: start.Add(1500 * time.Microsecond)}
	failed := &stack.CallEvent{Name: "shutdown", FD: 3, Op: stack.SHUT_WR, Ret: -1, Error: "ENOTCONN", Start: start}
	for _, tc := range []struct {
		o    straceOptions
		c    *stack.CallEvent
		want string
	}{
		{straceOptions{size: 32}, c, "close(5)                                = 0\n"},
		{straceOptions{size: 32, durations: true}, c, "close(5)                                = 0 <0.000012>\n"},
		{straceOptions{size: 32, stamp: 1}, c, "03:04:05 close(5)                       = 0\n"},
		{straceOptions{size: 32, stamp: 2}, c, "03:04:05.006789 close(5)                = 0\n"},
		{straceOptions{size: 32, relative: true}, c, "     0.000000 close(5)                  = 0\n"},
		{straceOptions{size: 8}, long, "read(5, \"GET / HT\"..., 4096)            = 34\n"},
		{straceOptions{size: 64}, long, "read(5, \"GET / HTTP/1.1\\r\\nHost: = \\\"10.9.0.2\\\"\", 4096) = 34\n"},
		{straceOptions{size: 32}, failed, "shutdown(3, SHUT_WR)                    = -1 ENOTCONN (Transport endpoint is not connected)\n"},
	} {
		if got := (&straceWriter{o: tc.o}).line(tc.c); got != tc.want {
			t.Errorf("%+v:\n got %q\nwant %q", tc.o, got, tc.want)
		}
	}
	r := &straceWriter{o: straceOptions{size: 8, relative: true}}
	r.line(c)
	if got, want := r.line(long), "     0.001500 read(5, \"GET / HT\"..., 4096) = 34\n"; got != want {
		t.Errorf("-r, second line:\n got %q\nwant %q", got, want)
	}
}

func TestStraceSummary(t *testing.T) {
	var b bytes.Buffer
	s := &straceWriter{o: straceOptions{count: true}, w: bufio.NewWriter(&b), calls: map[string]*callCount{}}
	for range 3 {
		s.call(&stack.CallEvent{Name: "read", Duration: 100 * time.Microsecond})
	}
	s.call(&stack.CallEvent{Name: "read", Error: "EAGAIN", Duration: 100 * time.Microsecond})
	s.call(&stack.CallEvent{Name: "close", Duration: 100 * time.Microsecond})
	s.summary()
	s.w.Flush()
	clitest.Equal(t, "strace -c", b.String(), `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 80.00    0.000400         100         4         1 read
 20.00    0.000100         100         1           close
------ ----------- ----------- --------- --------- ----------------
100.00    0.000500         100         5         1 total
`)
}

func TestTraceFilter(t *testing.T) {
	for _, tc := range []struct {
		exprs    []string
		yes, no  string
		unlisted bool // whether a call that this command does not know is shown
	}{
		{nil, "read accept4 close", "", true},
		{[]string{"trace=read,write"}, "read write", "close accept4", false},
		{[]string{"%net"}, "accept4 setsockopt bind", "read close epoll_ctl", false},
		{[]string{"trace=network,close"}, "accept4 close", "read", false},
		{[]string{"t=!read"}, "close accept4", "read", true},
		{[]string{"!%desc"}, "accept4", "read write close", true},
		{[]string{"trace=all"}, "read accept4", "", false},
		{[]string{"trace=none"}, "", "read accept4", false},
		{[]string{"trace=read", "trace=write"}, "write", "read", false},
	} {
		f, err := parseTraceFilter(tc.exprs)
		if err != nil {
			t.Errorf("%v: %v", tc.exprs, err)
			continue
		}
		for _, n := range strings.Fields(tc.yes) {
			if !f.want(n) {
				t.Errorf("%v hides %s", tc.exprs, n)
			}
		}
		for _, n := range strings.Fields(tc.no) {
			if f.want(n) {
				t.Errorf("%v shows %s", tc.exprs, n)
			}
		}
		if f.want("brk") != tc.unlisted {
			t.Errorf("%v: brk: %v", tc.exprs, f.want("brk"))
		}
	}
}
