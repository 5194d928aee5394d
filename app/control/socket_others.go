//go:build !unix

package control

import (
	"io/fs"
	"syscall"
)

// lockDir does nothing: the user's own temporary directory is not shared.
func lockDir(string) (func(), error) { return func() {}, nil }

// private is true: modes say nothing here.
func private(fs.FileInfo) bool { return true }

func ownerOnly(syscall.RawConn) error { return nil }
