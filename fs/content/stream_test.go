package content

import (
	"math/rand/v2"
	"testing"
)

const streamStep = 1 << 20

// Of writes that follow each other every byte is begun with once, but for the end.
func TestStream(t *testing.T) {
	var s stream
	next := int64(0)
	for off := int64(0); off < 3*streamChunk+streamStep; off += streamStep {
		from, n := s.wrote(1, off, streamStep)
		if n == 0 {
			continue
		}
		if from != next || n != streamChunk || from+n != off+streamStep {
			t.Errorf("after %d bytes: %d from %d", off+streamStep, n, from)
		}
		next = from + n
	}
	if next != 3*streamChunk {
		t.Errorf("begun with %d bytes", next)
	}
}

// Nor does it matter in which order the writes come that the kernel has sent at once.
func TestStreamInAnyOrder(t *testing.T) {
	const all, window = 256, 16
	rng := rand.New(rand.NewPCG(1, 2))
	order := make([]int64, all)
	for i := range order {
		order[i] = int64(i)
	}
	for i := 0; i < all; i += window {
		part := order[i : i+window]
		rng.Shuffle(window, func(a, b int) { part[a], part[b] = part[b], part[a] })
	}
	var s stream
	begun := map[int64]bool{}
	for _, i := range order {
		from, n := s.wrote(1, i*streamStep, streamStep)
		for at := from; at < from+n; at += streamStep {
			begun[at] = true
		}
	}
	if len(begun) != all {
		t.Errorf("begun with %d of %d", len(begun), all)
	}
}

// Of writes far from each other, and to several objects, nothing is begun with.
func TestNoStream(t *testing.T) {
	var s stream
	for i := range int64(3 * streamChunk / streamStep) {
		if _, n := s.wrote(1, i*2*streamReach, streamStep); n > 0 {
			t.Fatal("writes far from each other are taken for a stream")
		}
	}
	for i := range int64(3 * streamChunk / streamStep) {
		if _, n := s.wrote(uint64(i), i*streamStep, streamStep); n > 0 {
			t.Fatal("writes to several objects are taken for a stream")
		}
	}
}
