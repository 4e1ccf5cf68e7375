package server

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
)

// numbered is a signature.
func numbered(i int) string {
	var b [32]byte
	binary.BigEndian.PutUint64(b[8:], uint64(i)*0x9e3779b97f4a7c15)
	return hex.EncodeToString(b[:])
}

// TestReplay: a request that is sent again later is refused; two equal ones within a moment, as AWS' command line may sign them, are not.
func TestReplay(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	r := &newSignatures(func() time.Time { return now }, 0).replays
	begin := now
	for _, c := range []struct {
		signature int
		signed    time.Duration // after begin
		after     time.Duration
		ok        bool
	}{
		{1, 0, 0, true}, {1, 0, sigRepeat, true}, {2, 0, 0, true}, {1, 0, time.Millisecond, false}, {1, 0, 4 * time.Minute, false}, {2, 0, 0, false}, {3, 0, 0, true},
		{4, 9 * time.Minute, 0, true}, {4, 9 * time.Minute, 9 * time.Minute, false}, // signed by a clock that is 5 minutes ahead
	} {
		now = now.Add(c.after)
		if err := r.check(numbered(c.signature), begin.Add(c.signed)); (err == nil) != c.ok || err != nil && !errors.Is(err, keymgr.ErrInvalidSignature) {
			t.Errorf("%d at %v: %v", c.signature, now, err)
		}
	}
	now = now.Add(time.Hour)
	if err := r.check(numbered(5), now); err != nil || r.mu.count != 1 || len(r.mu.minutes) != 1 {
		t.Errorf("%d signatures of %d minutes are remembered, %v", r.mu.count, len(r.mu.minutes), err)
	}
}

// TestReplayFull: where there is no room, the answer says so, and what is remembered is still refused; as signatures get old, there is room again.
func TestReplayFull(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	r := &newSignatures(func() time.Time { return now }, 100*signatureSize).replays
	for i := range 100 {
		if err := r.check(numbered(i), now); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := r.check(numbered(100), now); !errors.Is(err, keymgr.ErrThrottling) {
		t.Errorf("full: %v", err)
	}
	now = now.Add(2 * sigRepeat)
	if err := r.check(numbered(7), now.Add(-2*sigRepeat)); !errors.Is(err, keymgr.ErrInvalidSignature) {
		t.Errorf("again, while it is full: %v", err)
	}
	now = now.Add(sigSkew + time.Minute)
	if err := r.check(numbered(101), now); err != nil {
		t.Errorf("later: %v", err)
	}
}

// TestReplayRate: 10 minutes of 2,000 requests a second are taken with the memory that there is, and no more of it is used.
func TestReplayRate(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	r := &newSignatures(func() time.Time { return now }, 0).replays
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 10 * 60 * 2000 {
		if i%2000 == 0 {
			now = now.Add(time.Second)
		}
		if err := r.check(numbered(i), now); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > int64(r.mu.count)*signatureSize+1<<20 {
		t.Errorf("%d signatures take %d bytes", r.mu.count, used)
	}
	runtime.KeepAlive(r)
}
