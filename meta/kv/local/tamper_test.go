package local

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// TestFlippedByte flips one byte of the journal at a time: the whole of every header, and bytes of every
// part of records. The store does not open, or its log ends there: it never shows anything that was not its
// state at some record. With an anchor it does not open where the log has lost something anchored.
func TestFlippedByte(t *testing.T) {
	t.Parallel()
	opts := create(t)
	sim := newSimFiles()
	opts.Files, opts.Settler = sim, newSettler()
	s := open(t, opts)
	h := newHistory()
	r := rand.New(rand.NewPCG(10, 10))
	for i := range 260 {
		if err := h.commit(s, r); err != nil {
			t.Fatal(err)
		}
		if i == 20 {
			checkpointNow(t, s)
		}
	}
	if err := h.sync(s); err != nil {
		t.Fatal(err)
	}
	head := s.Head()
	chain := append(slices.Clone(s.journal.sealed), s.journal.current)
	frozenOpts := copyStore(t, opts)
	frozenOpts.Files, frozenOpts.Settler, frozenOpts.ReadOnly = sim.clone(), opts.Settler, true
	before := open(t, frozenOpts) // also brings the copy of Badger in order, once
	h.check(t, before, opts.Settler.(*fakeSettler), h.last())
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	if len(chain) < 3 {
		t.Fatalf("only %d segments", len(chain))
	}
	outcomes := map[string]int{}
	for _, seg := range chain {
		for _, off := range flips(t, seg, r) {
			flipped := sim.clone()
			flipped.files[seg.name].cache[off] ^= byte(1 + r.IntN(255))
			o := frozenOpts
			o.Files = flipped
			outcome, at := openFlipped(t, o, h)
			outcomes[outcome]++
			o.Head = head
			anchored, _ := openFlipped(t, o, h)
			if lost := outcome != "opens" || at < head.Sequence; lost != (anchored != "opens") {
				t.Fatalf("segment %d, byte %d: %s at %d without anchor, %s with", seg.number, off, outcome, at, anchored)
			}
		}
	}
	t.Log(outcomes)
	if outcomes["opens"] == 0 || outcomes["corrupt"] == 0 {
		t.Errorf("outcomes %v", outcomes)
	}
}

// flips returns the places to flip in a segment: the header, the first and some other records' heads whole,
// and some bytes of their ops, tags and blobs, and of the space behind.
func flips(t *testing.T, seg *segment, r *rand.Rand) (offs []int) {
	t.Helper()
	for i := range segmentCovered + TagSize {
		offs = append(offs, i)
	}
	b := seg.file.(*simFile).cache
	p, off := point{seg.firstSeq - 1, seg.previous}, segmentHeaderSize
	for n := 0; ; n++ {
		var scratch []byte
		f, ok := openRecord(seg.aead, b[off:], p.seq, p.tag, &scratch)
		if !ok {
			break
		}
		if n%40 == 0 {
			for i := range recordHeaderSize {
				offs = append(offs, off+i)
			}
		}
		if n%4 == 0 {
			offs = append(offs, off+recordHeaderSize+r.IntN(f.opsLen), off+f.blobOff-1-r.IntN(TagSize), off+f.size()-1)
		}
		p, off = point{f.sequence, f.tag}, off+f.size()
	}
	if off+100 < len(b) {
		offs = append(offs, off, off+4, off+8, off+20, off+90)
	}
	return offs
}

// TestBadgerFlipped flips a byte, or cuts, or removes a file of Badger's, in a store that was closed and in one
// whose process died. It does not open, or shows just what was there, by way of the journal if need be.
func TestBadgerFlipped(t *testing.T) {
	t.Parallel()
	opts := create(t)
	settler := newSettler()
	opts.Settler = settler
	s := open(t, opts)
	h := newHistory()
	r := rand.New(rand.NewPCG(13, 13))
	for i := range 400 {
		if err := h.commit(s, r); err != nil {
			t.Fatal(err)
		}
		if i%100 == 50 {
			checkpointNow(t, s)
		}
	}
	killed := copyStore(t, opts)
	killed.Settler = settler.clone()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for what, o := range map[string]Options{"closed": opts, "killed": killed} {
		files, err := filepath.Glob(filepath.Join(metaDir(o), "*"))
		if err != nil || len(files) < 5 {
			t.Fatal(files, err)
		}
		outcomes := map[string]int{}
		for _, path := range files {
			for i := range rounds(8, 150) {
				name := filepath.Base(path)
				damaged := copyStore(t, o)
				damaged.Settler = o.Settler.(*fakeSettler).clone()
				damage := damageFile(t, r, filepath.Join(metaDir(damaged), name), i)
				outcome, at := openFlipped(t, damaged, h)
				outcomes[outcome]++
				if outcome == "opens" && at != h.last() {
					t.Fatalf("%s, %s: %s: opens at %d of %d", what, name, damage, at, h.last())
				}
				if err := os.RemoveAll(damaged.Dir); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Log(what, outcomes)
		if outcomes["corrupt"] == 0 {
			t.Errorf("%s: outcomes %v", what, outcomes)
		}
	}
}

// damageFile changes a file and says how.
func damageFile(t *testing.T, r *rand.Rand, path string, i int) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(b, "\x00"))
	if i == 0 {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return "removed"
	}
	what := "empty, one byte added"
	switch {
	case used == 0:
		b = append(b, 1)
	case i == 1:
		b, what = b[:r.IntN(used)], "cut"
	default:
		off := r.IntN(used)
		b[off] ^= byte(1 + r.IntN(255))
		what = fmt.Sprint("byte ", off, " of ", used, " flipped")
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return what
}

func openFlipped(t *testing.T, o Options, h *history) (outcome string, at uint64) {
	t.Helper()
	s, err := Open(ctx, o)
	switch {
	case errors.Is(err, kv.ErrRollback):
		return "rollback", 0
	case errors.Is(err, kv.ErrCorrupt):
		return "corrupt", 0
	case err != nil:
		t.Fatal(err)
	}
	at = h.check(t, s, o.Settler.(*fakeSettler), 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return "opens", at
}

// TestSegmentsMoved removes, swaps and replaces segments: the same rule holds.
func TestSegmentsMoved(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files, opts.Settler = sim, newSettler()
	s := open(t, opts)
	h := newHistory()
	r := rand.New(rand.NewPCG(11, 11))
	work := func(n int) {
		for range n {
			if err := h.commit(s, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	work(100)
	old := sim.clone()
	checkpointNow(t, s)
	work(300)
	if err := h.sync(s); err != nil {
		t.Fatal(err)
	}
	frozenOpts := copyStore(t, opts)
	frozenOpts.Settler, frozenOpts.ReadOnly = opts.Settler, true
	names := slices.Sorted(maps.Keys(sim.files))
	try := func(what string, change func(f map[string]*simFile)) {
		t.Helper()
		o := frozenOpts
		changed := sim.clone()
		change(changed.files)
		o.Files = changed
		openFlipped(t, o, h) // checks what it shows
		o.Head = s.Head()
		if outcome, at := openFlipped(t, o, h); outcome == "opens" && at != h.last() {
			t.Errorf("%s: opens at %d in spite of the anchor at %d", what, at, h.last())
		}
	}
	for i, a := range names {
		try("remove "+a, func(f map[string]*simFile) { delete(f, a) })
		try("empty "+a, func(f map[string]*simFile) { f[a].cache = nil })
		try("cut "+a, func(f map[string]*simFile) { f[a].cache = f[a].cache[:len(f[a].cache)/3] })
		try("old "+a, func(f map[string]*simFile) {
			if o, ok := old.files[a]; ok {
				f[a] = o
			}
		})
		for _, b := range names[i+1:] {
			try("swap "+a+" and "+b, func(f map[string]*simFile) { f[a], f[b] = f[b], f[a] })
			try("copy "+a+" over "+b, func(f map[string]*simFile) { f[b] = f[a] })
		}
	}
}

// TestRollback opens older and forked copies with the anchor of the store they were copied from.
func TestRollback(t *testing.T) {
	t.Parallel()
	opts := create(t)
	s := open(t, opts)
	put(t, s, "a", "1")
	old := copyStore(t, opts)
	rev := put(t, s, "a", "2")
	syncNow(t, s, rev)
	anchor := s.Head()
	rolledBack := func(o Options, what string) {
		t.Helper()
		o.Head = anchor
		if _, err := Open(ctx, o); !errors.Is(err, kv.ErrRollback) {
			t.Errorf("%s: %v", what, err)
		}
	}
	accepted := func(o Options, what string) {
		t.Helper()
		o.Head = anchor
		s, err := Open(ctx, o)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	rolledBack(old, "an older copy")
	accepted(copyStore(t, opts), "the same, killed")
	for i := range 20 {
		put(t, s, "a", fmt.Sprint(i))
	}
	accepted(copyStore(t, opts), "newer than the anchor")
	checkpointNow(t, s)
	accepted(copyStore(t, opts), "checkpoint newer than the anchor")

	fork := open(t, old) // the owner of the anchor is not asked
	for i := range 30 {
		put(t, fork, "a", fmt.Sprint("other history ", i))
	}
	rolledBack(copyStore(t, old), "a longer fork")
	checkpointNow(t, fork)
	put(t, fork, "a", "more")
	forked := copyStore(t, old)
	forked.Head = anchor
	// The fork was opened without its anchor after a crash, so it cannot tell which heads the first process
	// had given out up to there; the anchor is of a record that it made itself.
	rolledBack(forked, "a fork that was checkpointed")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	anchor = s.Head()
	anchor.Closed = true
	accepted(opts, "closed")
	accepted(opts, "closed, opened and closed without a change")
	longer := copyStore(t, opts)
	put(t, open(t, longer), "a", "by somebody who had an older store")
	rolledBack(copyStore(t, longer), "going on after the end")
	anchor.Closed = false
	accepted(copyStore(t, longer), "going on after an anchor that is not the end")
	s = open(t, opts)
	anchor.Sequence++
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	rolledBack(opts, "an anchor from the future")
}

func TestHeadLog(t *testing.T) {
	at := func(seq uint64) point { return point{seq, [TagSize]byte{byte(seq), byte(seq >> 8)}} }
	other := func(seq uint64) point { return point{seq, [TagSize]byte{0xff}} }
	var l headLog
	for seq := uint64(10); seq <= 300; seq += 10 {
		l.add(at(seq))
		l.add(at(seq - 5)) // late
	}
	before := l.before(200)
	cases := []struct {
		l    headLog
		p    point
		want bool
	}{
		{l, at(10), true}, {l, at(300), true}, {l, other(10), false}, {l, at(11), false}, {l, at(310), false},
		{before, at(200), true}, {before, at(210), false}, {before, other(200), false},
	}
	for _, c := range cases {
		if got := c.l.admits(c.p); got != c.want {
			t.Errorf("admits(%d, %x) = %v", c.p.seq, c.p.tag[:2], got)
		}
	}
	for seq := uint64(1000); seq < 1000+2*maxHeads; seq++ {
		l.add(at(seq))
	}
	if len(l.points) != maxHeads || !l.admits(at(10)) || !l.admits(other(20)) || l.admits(other(1000+2*maxHeads-1)) {
		t.Errorf("a full log: %d heads from %d", len(l.points), l.from)
	}
	l.forget(5000)
	if !l.admits(other(4999)) || l.admits(other(5000)) {
		t.Error("a log that forgot")
	}
}

func TestLiveSet(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 12))
	var l liveSet
	var held []uint64
	seq := uint64(0)
	for range 20000 {
		if len(held) == 0 || r.IntN(2) == 0 && len(held) < 40 {
			seq += uint64(r.IntN(3))
			l.add(seq)
			held = append(held, seq)
		} else {
			i := r.IntN(len(held))
			if i == 0 && r.IntN(50) > 0 {
				i = len(held) - 1 // some stay for long
			}
			l.remove(held[i])
			held = slices.Delete(held, i, i+1)
		}
		want := uint64(1 << 60)
		if len(held) > 0 {
			want = slices.Min(held)
		}
		if got := l.oldest(1 << 60); got != want {
			t.Fatalf("oldest of %v is %d", held, got)
		}
		if len(l.items) > 2*40+33 {
			t.Fatalf("%d items for %d snapshots", len(l.items), len(held))
		}
	}
}
