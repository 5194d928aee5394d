package stack

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gvisor.dev/gvisor/pkg/log"
)

// netstackLog hands what netstack logs, which would go to stderr, to a logger. Its
// warnings are about single packets of peers, so they are for those who debug.
type netstackLog struct{ log *slog.Logger }

// Emit implements log.Emitter.
func (n netstackLog) Emit(_ int, _ log.Level, _ time.Time, format string, v ...any) {
	if n.log.Enabled(context.Background(), slog.LevelDebug) {
		n.log.Debug("netstack: " + fmt.Sprintf(format, v...))
	}
}

// LogNetstack sends netstack's own log, which goes to stderr otherwise, to l at debug
// level. A process has one such log, for all stacks: this is for programs, not for
// packages.
func LogNetstack(l *slog.Logger) { log.SetTarget(netstackLog{l}) }
