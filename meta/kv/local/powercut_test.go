package local

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestPowerCut drops what was not synced: in the journal torn at sectors, in Badger's files page by page, of
// what was settled row by row. It cuts between updates, with checkpoints in the background, or at a step of
// a checkpoint. What comes back is a prefix of the history that holds all that was synced, and the store can
// be used and cut again.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	const seed = 6
	for round := range rounds(6, 400) {
		t.Run(fmt.Sprint("seed ", seed, " round ", round), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(round)))
			c := &cutter{T: t, r: r, opts: create(t), h: newHistory(), settler: newSettler()}
			c.opts.Export = true
			c.opts.Files = newSimFiles()
			for range 4 {
				c.live()
			}
		})
	}
}

// TestKillThenPowerCut: what recovery found may have been in the page cache only. A sync after it makes that
// durable, too.
func TestKillThenPowerCut(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files = sim
	put(t, open(t, opts), "a", strings.Repeat("x", 3000))
	killed := copyStore(t, opts)
	sim = sim.clone()
	killed.Files = sim
	s := open(t, killed)
	syncNow(t, s, put(t, s, "b", "2"))
	cut := copyStore(t, killed)
	for seed := range uint64(20) {
		cut.Files, cut.ReadOnly = sim.powerCut(rand.New(rand.NewPCG(15, seed))), true
		again := open(t, cut)
		if got := dump(t, again); len(got) != 2 {
			t.Fatalf("power cut %d leaves %d rows", seed, len(got))
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// cutter takes one store from cut to cut.
type cutter struct {
	*testing.T
	r       *rand.Rand
	opts    Options
	h       *history
	settler *fakeSettler

	synced  string       // copy of Badger's directory as of its last sync
	durable *fakeSettler // what was settled as of its last sync
	killed  bool         // the last life ended without a power cut: nothing is lost yet, and nothing more durable
	next    *Options     // where the end has left the store
}

// live recovers the store, works on it and cuts the power.
func (c *cutter) live() {
	c.opts.Settler = c.settler
	s := open(c, c.opts)
	if c.killed {
		c.h.check(c.T, s, c.settler, c.h.last())
	} else {
		at := c.h.check(c.T, s, c.settler, c.h.synced)
		c.h.states, c.h.synced = c.h.states[:at+1], at
		c.durable = c.settler.clone()
		c.synced = filepath.Join(c.TempDir(), "synced")
		copyStable(c, metaDir(c.opts), c.synced)
	}
	s.step = c.noteSyncs
	var wg sync.WaitGroup
	for range 20 + c.r.IntN(150) {
		if err := c.h.commit(s, c.r); err != nil {
			c.Fatal(err)
		}
		switch c.r.IntN(25) {
		case 0:
			if err := c.h.sync(s); err != nil {
				c.Fatal(err)
			}
		case 1:
			wg.Wait()
			wg.Go(func() { checkpointNow(c, s) })
		}
	}
	wg.Wait()
	c.next = nil
	switch c.killed = c.r.IntN(3) == 0; {
	case c.killed:
		c.kill()
	case c.r.IntN(3) > 0:
		c.cutInCheckpoint(s)
	}
	if c.next == nil {
		c.cut(s)
	}
	s.step = nil
	if err := s.Close(); err != nil {
		c.Fatal(err)
	}
	c.opts, c.settler = *c.next, c.next.Settler.(*fakeSettler)
}

// noteSyncs remembers what is durable below the store after the steps that make it so.
func (c *cutter) noteSyncs(step string) {
	switch step {
	case "(badger is synced)":
		if err := os.RemoveAll(c.synced); err != nil {
			c.Error(err)
		}
		copyStable(c, metaDir(c.opts), c.synced)
	case "write rows":
		c.durable = c.settler.clone()
	}
}

// cutInCheckpoint cuts before a random step of a checkpoint, with a few more updates made meanwhile.
func (c *cutter) cutInCheckpoint(s *Store) {
	at := 1 + c.r.IntN(10)
	s.step = func(step string) {
		c.noteSyncs(step)
		if at--; at != 0 {
			return
		}
		for range c.r.IntN(10) {
			if err := c.h.commit(s, c.r); err != nil {
				c.Fatal(err)
			}
		}
		c.cut(s)
	}
	checkpointNow(c, s)
}

// kill makes the state after the death of the process.
func (c *cutter) kill() {
	next := copyStore(c, c.opts)
	next.Files, next.Settler = c.opts.Files.(*simFiles).clone(), c.settler.clone()
	c.next = &next
}

// cut makes the state after a power cut.
func (c *cutter) cut(s *Store) {
	c.h.synced = max(c.h.synced, s.Stats().Durable)
	next := c.opts
	next.Dir = filepath.Join(c.TempDir(), "cut")
	if err := os.Mkdir(next.Dir, 0o700); err != nil {
		c.Fatal(err)
	}
	mixTrees(c.T, c.r, c.synced, metaDir(c.opts), metaDir(next))
	next.Files = c.opts.Files.(*simFiles).powerCut(c.r)
	left := c.durable.clone()
	for k, v := range c.settler.clone().rows {
		if c.r.IntN(2) == 0 {
			left.rows[k] = v
		}
	}
	next.Settler = left
	c.cutExport(next)
	c.next = &next
}

// cutExport copies the export, whose files get their names when they are durable, and sometimes loses Badger.
func (c *cutter) cutExport(next Options) {
	copyStable(c, exportDir(c.opts), exportDir(next))
	if c.r.IntN(3) > 0 {
		return
	}
	if err := os.RemoveAll(metaDir(next)); err != nil {
		c.Fatal(err)
	}
	if _, err := Rebuild(ctx, next, RebuildOptions{}); err != nil {
		c.Fatal(err)
	}
}

// mixTrees makes a directory of Badger files of which every page is as it was or as it is.
func mixTrees(t *testing.T, r *rand.Rand, was, is, to string) {
	t.Helper()
	copyStable(t, is, to)
	files, err := filepath.Glob(filepath.Join(to, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		if !strings.HasSuffix(name, ".mem") && !strings.HasSuffix(name, ".vlog") {
			continue
		}
		old, err := os.ReadFile(filepath.Join(was, name))
		if err != nil {
			old = nil // made since: all of it may be missing
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const page = 4096
		old = append(old, make([]byte, max(0, len(b)-len(old)))...)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for off := 0; off < len(b); off += page {
			end := min(off+page, len(b))
			if string(b[off:end]) != string(old[off:end]) && r.IntN(2) == 0 {
				if _, err := f.WriteAt(old[off:end], int64(off)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilledBesideNewSegment: a segment file whose name was not made durable before its process was killed is a
// spare for the next one, which makes the name durable before it is used, also if there is no room for more.
func TestKilledBesideNewSegment(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files = sim
	s := open(t, opts)
	put(t, s, "a", "1")
	killed := copyStore(t, opts)
	left := sim.clone()
	left.disk = map[string]*simFile{s.journal.current.name: left.files[s.journal.current.name]}
	left.setFault(func(op string, _ int) error {
		if op == "create" {
			return syscall.ENOSPC
		}
		return nil
	})
	killed.Files = left
	again := open(t, killed)
	syncNow(t, again, put(t, again, "b", "2"))
	for seed := range uint64(20) {
		after := copyStore(t, killed)
		after.Files = left.powerCut(rand.New(rand.NewPCG(15, seed)))
		last := open(t, after)
		if got := dump(t, last); got["a"] != "1" || got["b"] != "2" {
			t.Fatalf("power cut %d: rows %q", seed, got)
		}
	}
}
