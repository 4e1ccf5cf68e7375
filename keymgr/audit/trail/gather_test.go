package trail

import (
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// gathering is a log whose writer is the test; records of it are handed over without anybody waiting.
func gathering(expected int, patience time.Duration) (l *Log, hand func()) {
	l = &Log{wake: make(chan struct{}, 1)}
	l.w.expected, l.w.patience = expected, patience
	return l, func() {
		if err := l.enqueue(&entry{class: audit.KeyUse}); err != nil {
			panic(err)
		}
	}
}

// TestGather: a batch waits for the records that are expected, whoever else asks meanwhile, and not for more.
func TestGather(t *testing.T) {
	l, hand := gathering(3, time.Hour)
	hand()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(hand)
	}
	l.gather()
	if n := len(l.take()); n < 3 {
		t.Errorf("%d records", n)
	}
	wg.Wait()
	l, hand = gathering(1, time.Hour) // nobody else is expected
	hand()
	l.gather()
	if n := len(l.take()); n != 1 || l.w.inVain != 0 {
		t.Errorf("%d records, %d", n, l.w.inVain)
	}
}

// TestGatherInVain: a batch that waited for nobody is written all the same, and the next ones do not wait.
func TestGatherInVain(t *testing.T) {
	l, hand := gathering(2, time.Nanosecond)
	hand()
	l.gather()
	if n := len(l.take()); n != 1 || l.w.inVain != notGathered {
		t.Errorf("%d records, %d", n, l.w.inVain)
	}
	l.w.patience = time.Hour
	for i := range notGathered {
		hand()
		l.gather()
		if n := len(l.take()); n != 1 || l.w.inVain != notGathered-1-i {
			t.Errorf("batch %d: %d records, %d", i, n, l.w.inVain)
		}
	}
}
