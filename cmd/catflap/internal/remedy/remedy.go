// Package remedy has errors that say what the user can do about them.
package remedy

import "fmt"

// Error is a failure for which there is something to do.
type Error struct {
	Err    error
	Remedy string
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the failure.
func (e *Error) Unwrap() error { return e.Err }

// With adds what to do about it to an error.
func With(err error, remedy string) error { return &Error{Err: err, Remedy: remedy} }

// UsageError is a command line that makes no sense. The program prints it and exits with status 2.
type UsageError struct {
	Msg    string // the command, what is wrong with it, and what it wants instead
	Remedy string // if empty, the user is sent to the help
}

func (e *UsageError) Error() string { return e.Msg }

// Usagef makes a UsageError without a remedy of its own.
func Usagef(format string, args ...any) error { return &UsageError{Msg: fmt.Sprintf(format, args...)} }
