package mount

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How much garbage the file daemon lets gather: half of what is in use, and leastGarbage at least. Caches and rows that wait for a checkpoint are most of what it holds: with the
// runtime's 100 % it would take twice their size. A small heap would be collected some ten times a second while files are made, on processors that the programs want.
const (
	garbageShare = 50 // percent
	leastGarbage = 64 << 20
)

// collectEarly sets the share, now and whenever the heap has grown or shrunk. GOGC in the environment has precedence.
func collectEarly() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbageShare)
		followHeap(garbageShare)
	}
}

// followHeap has the share, now of present percent, adjusted after the next collection.
func followHeap(present int) {
	type token struct{ next *token } // with a pointer, so that it has a place of its own
	runtime.AddCleanup(new(token), func(present int) {
		if share := shareOf(liveHeap()); share != present {
			debug.SetGCPercent(share)
			present = share
		}
		followHeap(present)
	}, present)
}

// shareOf returns the percentage for a heap of which so many bytes are in use, in steps of ten.
func shareOf(live uint64) int {
	const most = 400
	return max(garbageShare, min(most, int(leastGarbage*100/max(live, 1))/10*10))
}

// liveHeap returns how many bytes the last collection has left.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
