package stack_test

import (
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/strace"
)

func init() {
	stack.FormatCall = func(c *stack.CallEvent) string { return strace.Format(c, strace.DefaultSize) }
}
