package soak

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

const (
	lateAtFirst = 32   // answers that may be late before many were given: the calls that are under way when the token is late, some times
	lateOf      = 5000 // of so many answers one more
)

// late counts the answers that say that something took too long, or is not there, though nobody took it away: on a machine that does other things, the limits of the daemon pass. They allow nothing and deny
// nothing, so they are not wrong; but they are few, or the daemon hangs. No answer at all is not among them.
type late struct {
	mu     sync.Mutex
	given  int // other answers
	late   int
	failed bool
}

// isLate reports whether a code says that the key could not be used at the moment.
func isLate(code string) bool {
	return slices.Contains([]string{"KeyUnavailableException", "DependencyTimeoutException", "KeyUseLogException"}, code)
}

// answered counts an answer that is held to the model.
func (l *late) answered() { l.mu.Lock(); l.given++; l.mu.Unlock() }

// tolerates counts an answer that is late; false, and the test has failed, if there are too many.
func (l *late) tolerates(t testing.TB, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.late++; l.late <= lateAtFirst {
		t.Logf("late: %v", err)
	}
	if l.late <= lateAtFirst+l.given/lateOf {
		return true
	}
	if !l.failed {
		t.Errorf("%d answers were late without an outage, %d were not: %v", l.late, l.given, err)
		l.failed = true
	}
	return false
}

func (l *late) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.late == 0 {
		return fmt.Sprintf("none of %d answers late", l.given)
	}
	return fmt.Sprintf("%d answers late, %d not", l.late, l.given)
}

// silent is a test that may fail.
type silent struct {
	testing.TB
	failed bool
}

func (s *silent) Logf(string, ...any)   {}
func (s *silent) Errorf(string, ...any) { s.failed = true }

// TestLate: few late answers are tolerated, and more where there are many others.
func TestLate(t *testing.T) {
	var l late
	s := &silent{TB: t}
	for range lateAtFirst {
		if !l.tolerates(s, fmt.Errorf("late")) {
			t.Fatal("the first are not tolerated")
		}
	}
	for range lateOf {
		l.answered()
	}
	if !l.tolerates(s, fmt.Errorf("late")) || s.failed {
		t.Error("one more of many is not tolerated")
	}
	if l.tolerates(s, fmt.Errorf("late")) || !s.failed {
		t.Error("a daemon that hangs is not found")
	}
}
