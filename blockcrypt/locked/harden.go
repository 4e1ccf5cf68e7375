package locked

import (
	"log/slog"
	"math"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Harden makes the calling process keep its memory to itself: not dumpable (no core, and other processes of the same user neither trace it nor read its /proc entries), core size
// limit zero, no descriptor but the standard ones for programs that it runs, umask 077, and a panic prints the stack of its own goroutine only. Call it first in a daemon that holds keys. A step that the system refuses is logged
// (log may be nil) and left out; none is worth not starting for. It has no effect on child processes but for the umask and the core limit.
func Harden(log *slog.Logger) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		log.Warn("process stays dumpable", "error", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		log.Warn("core dumps stay possible", "error", err)
	}
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		log.Warn("inherited descriptors stay open in programs that are run", "error", err)
	}
	unix.Umask(0o077)
	debug.SetTraceback("single")
}
