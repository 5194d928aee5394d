//go:build !unix

package main

import (
	"errors"
	"os"
	"time"
)

func canWaitForInput() error {
	return &remedyError{errors.New("this system's terminal is not supported"), "for one table: catflap top --once"}
}

func waitForInput(*os.File, time.Duration) (bool, error) { return false, canWaitForInput() }
