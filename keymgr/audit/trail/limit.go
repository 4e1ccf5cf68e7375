package trail

import (
	"context"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// standstills is how many of them one wait may outlast.
const standstills = 3

// limit bounds a wait by time in which this process ran. One that was stopped (SIGSTOP, a frozen container or cgroup) would find its time over when it goes on, though nobody was
// slow, and refuse what was under way.
type limit struct {
	timer *time.Timer
	each  time.Duration
	due   time.Time
	more  int
}

func newLimit(d time.Duration) *limit {
	return &limit{timer: time.NewTimer(d), each: d, due: time.Now().Add(d), more: standstills}
}

func (l *limit) stop() { l.timer.Stop() }

// over is asked when the timer has fired. The time is not over if it fired late by half of it: then nothing ran meanwhile, and it begins again.
func (l *limit) over() bool {
	now := time.Now()
	if l.more == 0 || now.Sub(l.due) < l.each/2 {
		return true
	}
	l.more--
	l.due = now.Add(l.each)
	l.timer.Reset(l.each)
	return false
}

// await waits until done is closed. audit.ErrBlocked when the limit is over, or the context's error.
func await(ctx context.Context, l *limit, done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-l.timer.C:
			if l.over() {
				return audit.ErrBlocked
			}
		}
	}
}
