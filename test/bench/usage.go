//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
)

// usageArgs asks for an agent's usage; Collect runs the garbage collector first, so
// that memory is what is live.
type usageArgs struct{ Collect bool }

// usage is what a process holds, and what it has done so far.
type usage struct {
	Live   uint64 // bytes of live heap objects and goroutine stacks
	RSS    uint64 // bytes resident
	Slab   uint64 // bytes in the kernel's slabs, of the whole machine
	Allocs uint64 // heap objects allocated so far
	Calls  uint64 // read and write system calls so far (proc_pid_io(5))
	Held   int64  // connections that the hold service keeps
}

func readUsage(a usageArgs, s *server) (u usage, err error) {
	if a.Collect {
		runtime.GC()
		runtime.GC() // the second one finds what finalizers and pools let go
	}
	m := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/gc/heap/allocs:objects"},
		{Name: "/gc/heap/tiny/allocs:objects"},
	}
	metrics.Read(m)
	for _, x := range m {
		if x.Value.Kind() != metrics.KindUint64 {
			return u, fmt.Errorf("this Go has no metric %s", x.Name)
		}
	}
	u.Live = m[0].Value.Uint64() + m[1].Value.Uint64()
	u.Allocs = m[2].Value.Uint64() + m[3].Value.Uint64()
	if s != nil {
		u.Held = s.held.n.Load()
	}
	kib, err := procField("/proc/self/status", "VmRSS")
	if err != nil {
		return u, err
	}
	u.RSS = kib << 10
	if kib, err = procField("/proc/meminfo", "Slab"); err != nil {
		return u, err
	}
	u.Slab = kib << 10
	for _, field := range []string{"syscr", "syscw"} {
		n, err := procField("/proc/self/io", field)
		if os.IsNotExist(err) {
			continue // a kernel without TASK_IO_ACCOUNTING
		}
		if err != nil {
			return u, err
		}
		u.Calls += n
	}
	return u, nil
}
