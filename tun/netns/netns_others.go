//go:build !linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/catflap/catflap/tun"
)

// Init does nothing: there are no network namespaces on this system.
func Init() {}

// Namespace exists on Linux only.
type Namespace struct{}

// Start fails with an error that wraps errors.ErrUnsupported.
func Start(ctx context.Context, cfg Config) (*Namespace, error) {
	return nil, fmt.Errorf("netns: network namespaces need Linux; this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Device exists on Linux only.
func (*Namespace) Device() *tun.Device { return nil }

// Run exists on Linux only.
func (*Namespace) Run(ctx context.Context, c Command) (int, error) { return 0, errors.ErrUnsupported }

// Done exists on Linux only.
func (*Namespace) Done() <-chan struct{} { return nil }

// PID exists on Linux only.
func (*Namespace) PID() int { return 0 }

// Close exists on Linux only.
func (*Namespace) Close() error { return nil }

// ErrNoNsenter is an error of Linux only.
var ErrNoNsenter = errors.ErrUnsupported

// Process exists on Linux only.
type Process struct{}

// FindProcess fails with an error that wraps errors.ErrUnsupported.
func FindProcess(pid int) (*Process, error) {
	return nil, fmt.Errorf("netns: network namespaces need Linux; this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Done exists on Linux only.
func (*Process) Done() <-chan struct{} { return nil }

// Close exists on Linux only.
func (*Process) Close() error { return nil }
