package main

import (
	"maps"
	"testing"
)

func TestParseStrace(t *testing.T) {
	got, err := parseStrace(`strace: Process 1 attached with 9 threads
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.20    0.412040           4    100001       325 readv
 30.00    0.212040           4     50000           writev
  5.00    0.100000         500       200       100 futex
  3.00    0.100000         500         7           tgkill
  0.80    0.000100          50         2         2 restart_syscall
------ ----------- ----------- --------- --------- ----------------
100.00    0.824180           5    150210       427 total
`)
	want := map[string]uint64{"readv": 100001, "writev": 50000, "futex": 200, callsOther: 9, "calls": 150210}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("parseStrace = %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "strace: attach: ptrace(PTRACE_SEIZE, 1): Operation not permitted\n"} {
		if got, err := parseStrace(bad); err == nil {
			t.Errorf("parseStrace(%q) = %v, want an error", bad, got)
		}
	}
}
