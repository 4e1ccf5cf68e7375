package mount

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestShareOfGarbage: half of a large heap, 64 MiB of a small one.
func TestShareOfGarbage(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 32 << 20: 200, 64 << 20: 100, 128 << 20: 50, 1 << 30: 50} {
		if got := shareOf(live); got != want {
			t.Errorf("%d MiB in use: %d %%, want %d", live>>20, got, want)
		}
	}
}

// TestShareFollowsTheHeap: the share is adjusted after collections.
func TestShareFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	collectEarly()
	present := func() int {
		p := debug.SetGCPercent(garbageShare)
		debug.SetGCPercent(p)
		return p
	}
	await := func(what string, done func(int) bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !done(present()); runtime.GC() {
			if time.Now().After(end) {
				t.Fatalf("%s: %d %%", what, present())
			}
		}
	}
	await("a small heap", func(p int) bool { return p > garbageShare })
	large := make([]byte, 2*leastGarbage)
	await("a large heap", func(p int) bool { return p == garbageShare })
	runtime.KeepAlive(large)
}
