//go:build !unix

package top

import (
	"errors"
	"os"
	"time"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

func canWaitForInput() error {
	return remedy.With(errors.New("this system's terminal is not supported"), "for one table: catflap top --once")
}

func waitForInput(*os.File, time.Duration) (bool, error) { return false, canWaitForInput() }
