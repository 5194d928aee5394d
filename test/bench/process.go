//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// An agent is this program again as a child process, in a network namespace, doing
// what it is told: JSON requests on its standard input, JSON answers on its
// standard output, one at a time. It ends when its input does, so that nothing is
// left of a run however the run ended; its namespace goes with it.
type agent struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	once sync.Once
}

// agentArg is the first argument that makes the program an agent.
const agentArg = "-agent"

// killDelay is how long an agent may take to leave once its input has ended.
const killDelay = 5 * time.Second

type request struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

type response struct {
	Err    string          `json:"err,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// startAgent starts an agent in a network namespace of its own, or in that of peer.
func startAgent(name string, peer *agent) (*agent, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, agentArg, name)
	cmd.Stderr = os.Stderr
	// A process group of its own: an interrupt from the terminal is for the parent.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if peer == nil {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
		err = cmd.Start()
	} else {
		err = startIn(cmd, peer.pid())
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &agent{name: name, cmd: cmd, in: in, out: json.NewDecoder(out)}, nil
}

// startIn starts a command in the network namespace of process pid: a child is born
// into the namespace of the thread that makes it.
func startIn(cmd *exec.Cmd, pid int) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer own.Close()
	there, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return err
	}
	startErr := cmd.Start()
	if err := netns.Set(own); err != nil {
		return errors.Join(startErr, err) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return startErr
}

func (a *agent) pid() int { return a.cmd.Process.Pid }

// call has the agent do one thing. If ctx ends first, the agent is killed.
func (a *agent) call(ctx context.Context, op string, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { a.cmd.Process.Kill() })
	defer stop()
	var resp response
	if err = json.NewEncoder(a.in).Encode(request{op, raw}); err == nil {
		err = a.out.Decode(&resp)
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %s: %w", a.name, op, context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("%s: %s: the process is gone: %w", a.name, op, err)
	case resp.Err != "":
		return fmt.Errorf("%s: %s: %s", a.name, op, resp.Err)
	case result == nil:
		return nil
	}
	return json.Unmarshal(resp.Result, result)
}

// close ends the agent and waits for it.
func (a *agent) close() {
	a.once.Do(func() {
		a.in.Close()
		kill := time.AfterFunc(killDelay, func() { a.cmd.Process.Kill() })
		defer kill.Stop()
		a.cmd.Wait()
	})
}

// runAgent is the main function of an agent.
func runAgent() {
	requests := make(chan request)
	go func() {
		in := json.NewDecoder(os.Stdin)
		for {
			var r request
			if err := in.Decode(&r); err != nil {
				os.Exit(0) // the parent has closed the pipe, or is gone
			}
			requests <- r
		}
	}()
	a := &worker{}
	out := json.NewEncoder(os.Stdout)
	for r := range requests {
		var resp response
		result, err := a.do(r)
		if err == nil {
			resp.Result, err = json.Marshal(result)
		}
		if err != nil {
			resp = response{Err: err.Error()}
		}
		if err := out.Encode(resp); err != nil {
			os.Exit(1)
		}
	}
}

// fileLimit is for 50,000 connections and what else a process has open.
const fileLimit = 1 << 16

// raiseFileLimit raises the limit of open files, for this process and those that it
// starts, and returns it. Beyond the hard limit only CAP_SYS_RESOURCE leads.
func raiseFileLimit() int {
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil && lim.Max < fileLimit {
		more := syscall.Rlimit{Cur: fileLimit, Max: fileLimit}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) == nil {
			lim = more
		}
	}
	return int(min(lim.Max, fileLimit))
}
