//go:build !linux

package drill

import "errors"

func newKernelTarget(settings) (target, error) {
	return nil, errors.New("the kernel's TCP can only be tested on Linux")
}
