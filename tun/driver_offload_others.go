//go:build !linux

package tun

import (
	"errors"
	"runtime"
)

func openOffload(cfg Config) (opened, error) {
	return opened{}, &OpError{Op: OpOpen, Name: cfg.Path, Err: unsupported("the offload driver")}
}

// unsupported is the error of what exists on Linux only.
func unsupported(what string) error {
	return &unsupportedError{what}
}

type unsupportedError struct{ what string }

func (e *unsupportedError) Error() string {
	return e.what + " needs Linux; this is " + runtime.GOOS
}
func (e *unsupportedError) Unwrap() error { return errors.ErrUnsupported }
