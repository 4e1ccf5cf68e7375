package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

// TestConcurrent reads and writes whole blocks of a few files from many goroutines while others sync, checkpoint, truncate and punch. A block is
// always of one piece: all zeros, or all of one write.
func TestConcurrent(t *testing.T) {
	rigs(t, rigOptions{blockSize: 4096}, func(t *testing.T, r *rig) {
		const blocks = 64
		inos := []meta.Ino{r.create(), r.create()}
		var wg sync.WaitGroup
		work := func(n int, fn func(rng *rand.Rand, f *File) error) {
			for i := range n {
				wg.Add(1)
				go func() {
					defer wg.Done()
					rng := rand.New(rand.NewPCG(uint64(i), uint64(n)))
					for range 150 {
						f, err := r.eng.Open(ctx, inos[rng.IntN(len(inos))])
						if err == nil {
							err = errors.Join(fn(rng, f), f.Close())
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				}()
			}
		}
		work(3, func(rng *rand.Rand, f *File) error {
			n := 1 + rng.IntN(4)
			p := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, n*4096)
			_, err := f.WriteAt(ctx, p, uint64(rng.IntN(blocks-n)*4096), WriteOpts{})
			return err
		})
		work(3, func(rng *rand.Rand, f *File) error {
			p := make([]byte, 8*4096)
			n, err := f.ReadAt(ctx, p, uint64(rng.IntN(blocks)*4096))
			for b := p[:n]; len(b) > 0; b = b[min(4096, len(b)):] {
				if block := b[:min(4096, len(b))]; bytes.Count(block, block[:1]) != len(block) {
					return fmt.Errorf("block of several pieces")
				}
			}
			return err
		})
		work(1, func(rng *rand.Rand, f *File) error {
			switch rng.IntN(8) {
			case 0:
				return f.Sync(ctx)
			case 1:
				return r.eng.Checkpoint(ctx)
			case 2:
				return f.Truncate(ctx, uint64(rng.IntN(blocks)*4096), WriteOpts{})
			case 3:
				return f.Fallocate(ctx, 3, uint64(rng.IntN(blocks)*4096), 8192, WriteOpts{})
			case 4:
				return r.eng.SyncAll(ctx)
			case 5:
				return r.eng.CheckFile(ctx, f.Ino(), func(f Fault) { t.Errorf("fault: %+v", f) })
			}
			return nil
		})
		wg.Wait()
		must(t, r.eng.Checkpoint(ctx))
		r.check(inos...)
	})
}

// TestUnlinkRaces opens and unlinks the same files from two sides: an Open either fails or gives a file that works until it is closed, and
// afterwards nothing is left.
func TestUnlinkRaces(t *testing.T) {
	r := newRig(t, rigOptions{inline: 100})
	for i := range 100 {
		name := fmt.Appendf(nil, "race%d", i)
		a, err := r.meta.Create(ctx, meta.RootIno, name, meta.NewNode{Mode: meta.ModeRegular | 0o600, Params: r.params()})
		must(t, err)
		var wg sync.WaitGroup
		for range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				f, err := r.eng.Open(ctx, a.Ino)
				if errors.Is(err, meta.ErrNotFound) {
					return
				}
				if err == nil {
					_, err = f.WriteAt(ctx, pattern(5000, 1), 0, WriteOpts{})
					err = errors.Join(err, f.Close())
				}
				if err != nil {
					t.Error(err)
				}
			}()
		}
		removal := r.eng.Removal()
		victim, err := r.meta.Unlink(ctx, meta.RootIno, name, removal.Busy)
		removal.Done()
		must(t, err)
		if victim.Flags.Orphan() {
			must(t, r.eng.Unlinked(ctx, a.Ino))
		}
		wg.Wait()
		if _, err := r.meta.Getattr(ctx, a.Ino); !errors.Is(err, meta.ErrNotFound) {
			t.Fatalf("inode is left: %v", err)
		}
	}
	must(t, r.eng.Checkpoint(ctx))
	must(t, r.eng.CheckObjects(ctx, false, func(f Fault) { t.Errorf("left: %+v", f) }))
	if len(r.eng.files)+len(r.eng.residues)+len(r.eng.removing) != 0 {
		t.Errorf("engine remembers %d files, %d residues, %d removals", len(r.eng.files), len(r.eng.residues), len(r.eng.removing))
	}
}

// TestTmpfileLinked: an orphan that got a name before its last close stays.
func TestTmpfileLinked(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, linked := range []bool{false, true} {
		a, err := r.meta.Tmpfile(ctx, meta.RootIno, meta.NewNode{Mode: meta.ModeRegular | 0o600, Params: r.params()})
		must(t, err)
		f := r.openFile(a.Ino)
		must(t, r.eng.Unlinked(ctx, a.Ino))
		mustWrite(t, f, pattern(5000, 1), 0)
		if linked {
			_, err := r.meta.Link(ctx, a.Ino, meta.RootIno, []byte("linked"))
			must(t, err)
			if got := mustRead(t, f, 0, 5000); !bytes.Equal(got, pattern(5000, 1)) {
				t.Fatal("content differs after the link")
			}
		}
		must(t, f.Close())
		if _, err := r.meta.Getattr(ctx, a.Ino); linked != (err == nil) {
			t.Fatalf("linked %v: %v", linked, err)
		}
	}
}

// TestRemovalHoldsOpen: an Open of an inode that is being freed waits for the outcome.
func TestRemovalHoldsOpen(t *testing.T) {
	r := newRig(t, rigOptions{})
	ino := r.create()
	removal, other := r.eng.Removal(), r.eng.Removal()
	if removal.Busy(ino) || removal.Busy(ino) || other.Busy(ino) {
		t.Fatal("busy")
	}
	removal.Done()
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.eng.Open(short, ino); !errors.Is(err, context.Canceled) {
		t.Fatalf("open did not wait: %v", err)
	}
	opened := make(chan error)
	go func() {
		f, err := r.eng.Open(ctx, ino)
		if err == nil {
			err = f.Close()
		}
		opened <- err
	}()
	other.Done()
	other.Done()
	must(t, <-opened)
	f := r.openFile(ino)
	if !r.eng.IsOpen(ino) || !r.eng.Removal().Busy(ino) {
		t.Fatal("open file is not busy")
	}
	must(t, f.Close())
}

// TestRun: the upkeep syncs and checkpoints by itself, and stops when told.
func TestRun(t *testing.T) {
	r := newRig(t, rigOptions{disk: true, untidy: true})
	r.eng.cfg.SyncEvery, r.eng.cfg.CheckpointEvery = 1, 1 // as often as it can
	running, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- r.eng.Run(running) }()
	f := r.file()
	data := pattern(100000, 1)
	mustWrite(t, f, data, 0)
	mustWrite(t, f, data[:50000], 50000)
	for settled := false; !settled; { // until the images are in their slots
		runtime.Gosched()
		settled = !f.res.hasImage(13)
	}
	for r.eng.dirty() != nil {
		runtime.Gosched()
	}
	must(t, f.Truncate(ctx, 0, WriteOpts{}))
	must(t, f.Close())
	for gone := false; !gone; {
		obj, err := r.objects.Get(r.eng.object(f.Ino(), 1))
		if gone = err != nil; !gone {
			obj.Release()
		}
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Run: %v", err)
	}
}

func TestClosed(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	must(t, f.Close())
	must(t, r.eng.Close(ctx))
	must(t, r.eng.Close(ctx))
	if _, err := r.eng.Open(ctx, f.Ino()); !errors.Is(err, ErrClosed) {
		t.Fatalf("open: %v", err)
	}
	_, err := f.WriteAt(ctx, []byte("x"), 0, WriteOpts{})
	wantErr(t, err, ErrClosed)
}

// TestSyncOfObjectLeft: a sync that has seen an object which the file leaves, and which is destroyed, before the sync comes to it, does not fail: there is nothing left to make
// durable.
func TestSyncOfObjectLeft(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	mustWrite(t, f, pattern(5000, 1), 0)
	seen := f.st
	must(t, f.Truncate(ctx, 0, WriteOpts{}))
	must(t, r.eng.Checkpoint(ctx))
	must(t, f.syncPlanes(&seen))
	mustWrite(t, f, pattern(5000, 2), 0)
	must(t, r.objects.Remove(r.eng.object(f.ino, f.st.serial)))
	if err := f.syncPlanes(&f.st); !errors.Is(err, ErrDamaged) {
		t.Errorf("an object that is gone and not left: %v", err)
	}
}
