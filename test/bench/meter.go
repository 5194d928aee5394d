//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// meter reads what a load cost: processor time of the server's processes and of the
// machine, and packets on the client's interface.
type meter struct {
	pids []int
	dev  string // may be empty
}

// reading is the state of a meter at one time.
type reading struct {
	at      time.Time
	server  time.Duration // of processor time, user and system
	own     time.Duration // of processor time of this process
	machine time.Duration // of processor time that was not idle, of all processors
	packets uint64        // on the interface
	drops   uint64        // by the interface
}

func (m meter) read() (r reading, err error) {
	if m.dev != "" {
		if r.packets, r.drops, err = linkCounts(m.dev); err != nil {
			return r, err
		}
	}
	if r.machine, err = machineTime(); err != nil {
		return r, err
	}
	if r.own, err = processTime(os.Getpid()); err != nil {
		return r, err
	}
	for _, pid := range m.pids {
		d, err := processTime(pid)
		if err != nil {
			return r, err
		}
		r.server += d
	}
	r.at = time.Now()
	return r, nil
}

// processTime returns the processor time that a process has used so far, in
// nanoseconds: clock_getcpuclockid(3), where the clock of a process is its id,
// inverted, above three bits that say which clock (2: CPUCLOCK_SCHED).
func processTime(pid int) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// machineTime returns the processor time that was used so far on the machine.
func machineTime() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseMachineTime(b)
}

// userHZ is the unit of /proc/stat, a constant of Linux's interface on all but Alpha.
const userHZ = 100

// parseMachineTime reads the first line of /proc/stat: user, nice, system, idle,
// iowait, irq, softirq, and steal, which is not ours; see proc_stat(5).
func parseMachineTime(stat []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 8 || f[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q: want cpu and seven or more numbers", line)
	}
	var ticks uint64
	for i, s := range f[1:8] {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if idle := i == 3 || i == 4; !idle {
			ticks += n
		}
	}
	return time.Duration(ticks) * (time.Second / userHZ), nil
}

// procField returns a number from a file of "Name: 123 kB" lines.
func procField(file, name string) (uint64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name+":"); ok {
			return strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: no field %s", file, name)
}
