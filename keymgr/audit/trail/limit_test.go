package trail

import (
	"errors"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// TestStandstill: time in which the process did not run does not count, but not without end.
func TestStandstill(t *testing.T) {
	l := newLimit(time.Hour)
	defer l.stop()
	for i := range standstills {
		l.due = time.Now().Add(-time.Hour)
		if l.over() {
			t.Fatalf("standstill %d counts", i)
		}
	}
	l.due = time.Now().Add(-time.Hour)
	if !l.over() {
		t.Error("the wait has no end")
	}
	onTime := newLimit(time.Hour)
	defer onTime.stop()
	onTime.due = time.Now()
	if !onTime.over() {
		t.Error("a limit that passed while the process ran does not count")
	}
	short := newLimit(time.Millisecond)
	if err := await(t.Context(), short, nil); !errors.Is(err, audit.ErrBlocked) {
		t.Errorf("nothing comes: %v", err)
	}
}
