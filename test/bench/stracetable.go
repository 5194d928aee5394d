package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parseStrace reads the table that strace -c prints, and returns the calls by name,
// those that are not in callNames under callsOther, and all of them under "calls".
//
//	% time     seconds  usecs/call     calls    errors syscall
//	------ ----------- ----------- --------- --------- ----------------
//	 66.67    0.000002           1         2         1 read
//	------ ----------- ----------- --------- --------- ----------------
//	100.00    0.000003           1         3         1 total
func parseStrace(text string) (map[string]uint64, error) {
	counts := map[string]uint64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 5 && len(f) != 6 { // the column of errors is empty if there were none
			continue
		}
		n, err := strconv.ParseUint(f[3], 10, 64)
		if err != nil {
			continue
		}
		switch name := f[len(f)-1]; {
		case name == "total":
		case slices.Contains(callNames, name):
			counts[name] += n
			counts["calls"] += n
		default:
			counts[callsOther] += n
			counts["calls"] += n
		}
	}
	if counts["calls"] == 0 {
		return nil, fmt.Errorf("strace counted no call: %q", text)
	}
	return counts, nil
}
