//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// measureCalls counts the server's system calls by name with strace while a load is
// on it.
func (s *site) measureCalls(ctx context.Context, l load) (sample, error) {
	path, err := exec.LookPath("strace")
	if err != nil {
		return nil, fmt.Errorf("strace: %w; on Debian: apt-get install strace", errNotInstalled)
	}
	tracer := exec.Command(path, "-c", "-f", "-q", "-p", strconv.Itoa(s.server.pid()))
	tracer.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT} // strace detaches
	var out bytes.Buffer
	tracer.Stdout, tracer.Stderr = &out, &out
	if err := tracer.Start(); err != nil {
		return nil, err
	}
	x := sample{}
	err = errors.Join(inOrder(
		func() error { return s.awaitTracer(ctx, tracer.Process.Pid) },
		func() error { return s.client.call(ctx, "load", l, &x) },
	), tracer.Process.Signal(os.Interrupt))
	tracer.Wait() // an interrupt is what ends it
	if err != nil {
		return nil, errors.Join(err, errors.New(strings.TrimSpace(out.String())))
	}
	counts, err := parseStrace(out.String())
	if err != nil {
		return nil, err
	}
	n := exchanges(l, x)
	for name, c := range counts {
		x[name+per(l.Kind)] = float64(c) / n
	}
	return x, nil
}

// awaitTracer waits until every thread of the server is traced.
func (s *site) awaitTracer(ctx context.Context, tracer int) error {
	for range 500 {
		traced := true
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", s.server.pid()))
		if err != nil {
			return err
		}
		for _, t := range tasks {
			by, err := procField(fmt.Sprintf("/proc/%d/task/%s/status", s.server.pid(), t.Name()), "TracerPid")
			traced = traced && err == nil && by == uint64(tracer)
		}
		if traced {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("strace does not trace the server")
}
