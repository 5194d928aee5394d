//go:build !linux

package drill

import "errors"

// kernelInfo is empty: no other kernel can be tested.
var kernelInfo []string

func onKernelThread(f func()) { f() }

func newKernelTarget(settings) (target, error) {
	return nil, errors.New("the kernel's TCP can only be tested on Linux")
}
