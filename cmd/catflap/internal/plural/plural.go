// Package plural writes numbers of things.
package plural

import "fmt"

// Of is n things, such as "1 packet" or "2 packets".
func Of(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
