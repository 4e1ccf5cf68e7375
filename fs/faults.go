package fs

import (
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// faultsPerWindow bounds the log lines of one errno in faultWindow: a disk that fails must not also fill the log.
const (
	faultsPerWindow = 20
	faultWindow     = 10 * time.Second
)

// faultLimiter admits a bounded number of reports of each errno in a stretch of time. Its zero value is ready; safe for concurrent use.
type faultLimiter struct {
	mu     sync.Mutex
	start  time.Time
	counts map[syscall.Errno]int
}

// admit says whether to report one more fault with this errno.
func (l *faultLimiter) admit(errno syscall.Errno) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.counts == nil || now.Sub(l.start) >= faultWindow {
		l.start, l.counts = now, map[syscall.Errno]int{}
	}
	l.counts[errno]++
	return l.counts[errno] <= faultsPerWindow
}

// errnoName returns the symbol of an errno, such as "EIO".
func errnoName(e syscall.Errno) string {
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return e.Error()
}
