package transport

import (
	"testing"
	"time"
)

func TestPollWindowFollowsWhatPollingEarns(t *testing.T) {
	w := newPollWindow(0, 2)
	w.arrived(10 * time.Microsecond)
	if w.window != defaultPoll {
		t.Errorf("after a quick request: %v", w.window)
	}
	for range 20 {
		w.arrived(time.Second)
	}
	if w.window != minPoll {
		t.Errorf("after twenty late requests: %v", w.window)
	}
	w.arrived(defaultPoll)
	if w.window != defaultPoll {
		t.Errorf("after a quick request again: %v", w.window)
	}
}

func TestPollWindowOff(t *testing.T) {
	for name, w := range map[string]pollWindow{"one processor": newPollWindow(0, 1), "asked": newPollWindow(-1, 8)} {
		w.arrived(time.Microsecond)
		if w.window != 0 {
			t.Errorf("%s: polls for %v", name, w.window)
		}
	}
}

func TestTakesLong(t *testing.T) {
	request := func(op byte, length int, size uint32) []byte {
		b := make([]byte, length)
		b[4] = op
		if op == opRead {
			b[inHeaderSize+16], b[inHeaderSize+17], b[inHeaderSize+18] = byte(size), byte(size>>8), byte(size>>16)
		}
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"empty", nil, false},
		{"short", make([]byte, inHeaderSize-1), false},
		{"lookup", request(1, 60, 0), false},
		{"fsync", request(opFsync, 56, 0), true},
		{"small write", request(opWrite, 80+4096, 0), false},
		{"large write", request(opWrite, 80+longPayload, 0), true},
		{"small read", request(opRead, 80, 4096), false},
		{"large read", request(opRead, 80, longPayload), true},
		{"cut read", make([]byte, inHeaderSize)[:inHeaderSize], false},
	} {
		if got := takesLong(c.b); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
