package trail

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// becomeFull notes that there is no space.
func (l *Log) becomeFull() {
	if !l.w.full {
		l.w.full, l.w.reserve = true, l.opts.Reserve
		l.opts.Log.Error("the audit log is full: only administrative and repair events are taken", "dir", l.dir)
	}
	l.w.askSpace = time.Now().Add(time.Second)
	l.mu.Lock()
	l.mu.status.Full = true
	l.mu.Unlock()
}

// appendFromReserve writes a batch with the space of the reserve, given up bit by bit.
func (l *Log) appendFromReserve(batch []*entry) error {
	const step = 64 << 10
	for {
		err := l.append(batch)
		if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) || l.w.reserve == 0 {
			return err
		}
		l.w.reserve = max(0, l.w.reserve-max(step, 2*int64(len(l.w.buf))))
		if err := l.disk.SetReserve(l.w.reserve); err != nil {
			return err
		}
	}
}

// lookForSpace fills the reserve up again, at most every second; while that cannot be done, the log stays full.
func (l *Log) lookForSpace() {
	if time.Now().Before(l.w.askSpace) {
		return
	}
	l.w.askSpace = time.Now().Add(time.Second)
	if err := l.disk.SetReserve(l.opts.Reserve); err != nil {
		return
	}
	l.w.full, l.w.reserve = false, l.opts.Reserve
	l.opts.Log.Info("the audit log has space again", "dir", l.dir)
}
