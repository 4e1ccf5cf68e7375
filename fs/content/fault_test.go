package content

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/object"
)

// faults makes calls to the lower filesystem fail, or runs something before them.
type faults struct {
	object.Lower
	mu   sync.Mutex
	fail map[string]error
	do   map[string]func()
}

func newFaults() (*faults, func(object.Lower) object.Lower) {
	f := &faults{fail: map[string]error{}, do: map[string]func(){}}
	return f, func(lower object.Lower) object.Lower {
		f.Lower = lower
		return f
	}
}

// set makes a call fail with err from now on; nil heals it.
func (f *faults) set(call string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[call] = err
}

// before runs fn once, before the next such call.
func (f *faults) before(call string, fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.do[call] = fn
}

func (f *faults) check(call string) error {
	f.mu.Lock()
	fn := f.do[call]
	delete(f.do, call)
	err := f.fail[call]
	f.mu.Unlock()
	if fn != nil {
		fn()
	}
	return err
}

func (f *faults) OpenFile(path string, create bool) (object.LowerFile, error) {
	if err := f.check("open"); err != nil {
		return nil, err
	}
	file, err := f.Lower.OpenFile(path, create)
	return faultyFile{file, f}, err
}

func (f *faults) Unlink(path string) error {
	if err := f.check("unlink"); err != nil {
		return err
	}
	return f.Lower.Unlink(path)
}

func (f *faults) SyncAll() error {
	if err := f.check("syncall"); err != nil {
		return err
	}
	return f.Lower.SyncAll()
}

type faultyFile struct {
	object.LowerFile
	f *faults
}

func (h faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := h.f.check("read"); err != nil {
		return 0, err
	}
	return h.LowerFile.ReadAt(p, off)
}

func (h faultyFile) WriteAt(p []byte, off int64) error {
	if err := h.f.check("write"); err != nil {
		_ = h.LowerFile.WriteAt(p[:len(p)/2], off) // half of it
		return err
	}
	return h.LowerFile.WriteAt(p, off)
}

func (h faultyFile) Datasync() error {
	if err := h.f.check("datasync"); err != nil {
		return err
	}
	return h.LowerFile.Datasync()
}

// TestLowerErrors: an error below is reported as it is, changes nothing, and is over when its cause is gone.
func TestLowerErrors(t *testing.T) {
	faults, wrap := newFaults()
	r := newRig(t, rigOptions{lower: wrap})
	f := r.file()
	defer f.Close()
	data := pattern(3*4096, 1)
	mustWrite(t, f, data, 0)

	faults.set("read", syscall.EIO)
	p := make([]byte, len(data))
	n, err := f.ReadAt(ctx, p, 0)
	if wantErr(t, err, syscall.EIO); errors.Is(err, ErrDamaged) || n != 0 || firstNonZero(p) >= 0 {
		t.Fatalf("read: %d bytes, %v", n, err)
	}
	_, err = f.WriteAt(ctx, []byte("part"), 10, WriteOpts{})
	wantErr(t, err, syscall.EIO)
	faults.set("read", nil)

	faults.set("write", syscall.ENOSPC)
	n, err = f.WriteAt(ctx, pattern(8192, 2), 4*4096, WriteOpts{})
	wantErr(t, err, syscall.ENOSPC)
	if n != 0 || f.Size() != uint64(len(data)) {
		t.Fatalf("%d bytes written, size %d", n, f.Size())
	}
	faults.set("write", nil)
	must(t, r.eng.CheckObjects(ctx, false, func(f Fault) { t.Errorf("a write that failed left %+v", f) }))
	if got := mustRead(t, f, 0, 1<<20); !bytes.Equal(got, data) {
		t.Fatal("content changed")
	}
	mustWrite(t, f, pattern(8192, 2), 4*4096)
	if got := mustRead(t, f, 4*4096, 1<<20); !bytes.Equal(got, pattern(8192, 2)) {
		t.Fatal("content differs after there is room again")
	}
	r.check(f.Ino())
}

// TestSyncFails: after a failed sync nothing is ever reported as durable, and nothing is written.
func TestSyncFails(t *testing.T) {
	for _, call := range []string{"datasync", "syncall"} {
		t.Run(call, func(t *testing.T) {
			faults, wrap := newFaults()
			r := newRig(t, rigOptions{lower: wrap})
			f, g := r.file(), r.file()
			mustWrite(t, f, pattern(8192, 1), 0)
			mustWrite(t, g, pattern(8192, 2), 0)
			sync := f.Sync
			if call == "syncall" {
				sync = r.eng.Checkpoint
			}
			faults.set(call, syscall.EIO)
			wantErr(t, sync(ctx), object.ErrFailed, syscall.EIO)
			faults.set(call, nil)
			for range 2 {
				wantErr(t, f.Sync(ctx), object.ErrFailed)
				wantErr(t, g.Sync(ctx), object.ErrFailed)
				wantErr(t, r.eng.SyncAll(ctx), object.ErrFailed)
				_, err := g.WriteAt(ctx, pattern(4096, 3), 8192, WriteOpts{})
				wantErr(t, err, object.ErrFailed)
			}
			if got := mustRead(t, f, 0, 8192); !bytes.Equal(got, pattern(8192, 1)) {
				t.Fatal("content differs")
			}
		})
	}
}

// TestMarkerDoesNotReach: blocks written while an object is being synced are not marked durable by that sync: recovery must not find damage
// where data was only not synced yet.
func TestMarkerDoesNotReach(t *testing.T) {
	faults, wrap := newFaults()
	r := newRig(t, rigOptions{disk: true, lower: wrap})
	f := r.file()
	ino := f.Ino()
	first, second := pattern(4096, 1), pattern(2*smallWrite, 2)
	mustWrite(t, f, first, 0)
	faults.before("datasync", func() { mustWrite(t, f, second, 4*4096) })
	must(t, f.Sync(ctx))
	dir := r.copyDir()
	path := r.objectPath(f)[len(r.dir):]
	b := readFile(t, dir+path)
	clear(b[4*4096:]) // never made it
	must(t, os.WriteFile(dir+path, b, 0o600))
	must(t, f.Close())
	r.reopenAt(dir)
	if r.report.Lost != 2*smallWrite/4096 {
		t.Fatalf("recovery: %+v", r.report)
	}
	f = r.openFile(ino)
	defer f.Close()
	got := mustRead(t, f, 0, 1<<20)
	if !bytes.Equal(got[:4096], first) || firstNonZero(got[4096:]) >= 0 {
		t.Fatal("content differs")
	}
}

// TestSyncedBlockLost: a block that a marker covers and that is gone is damage, not a hole.
func TestSyncedBlockLost(t *testing.T) {
	r := newRig(t, rigOptions{disk: true})
	f := r.file()
	ino := f.Ino()
	mustWrite(t, f, pattern(3*4096, 1), 0)
	must(t, f.Sync(ctx))
	dir := r.copyDir()
	path := dir + r.objectPath(f)[len(r.dir):]
	b := readFile(t, path)
	clear(b[4096:8192])
	must(t, os.WriteFile(path, b, 0o600))
	must(t, f.Close())
	r.reopenAt(dir)
	f = r.openFile(ino)
	defer f.Close()
	p := make([]byte, 4096)
	n, err := f.ReadAt(ctx, p, 4096)
	expectDamage(t, err, n, p, nil)
	if got := mustRead(t, f, 8192, 4096); !bytes.Equal(got, pattern(3*4096, 1)[8192:]) {
		t.Fatal("another block differs")
	}
}

// TestUnsyncedLost: blocks that were written directly, not synced, and lost are holes, and the size goes back.
func TestUnsyncedLost(t *testing.T) {
	r := newRig(t, rigOptions{disk: true})
	synced, lost := r.file(), r.file()
	mustWrite(t, synced, pattern(8192, 1), 0)
	must(t, synced.Sync(ctx))
	mustWrite(t, synced, pattern(2*smallWrite, 2), 16384)
	mustWrite(t, lost, pattern(2*smallWrite, 3), 0) // too much for the journal, where a sync is expected by now
	dir := r.copyDir()
	must(t, os.Truncate(dir+r.objectPath(synced)[len(r.dir):], 8192))
	must(t, os.Remove(dir+r.objectPath(lost)[len(r.dir):]))
	a, b := synced.Ino(), lost.Ino()
	must(t, synced.Close())
	must(t, lost.Close())
	r.reopenAt(dir)
	synced, lost = r.openFile(a), r.openFile(b)
	defer synced.Close()
	defer lost.Close()
	if got := mustRead(t, synced, 0, 1<<20); !bytes.Equal(got[:8192], pattern(8192, 1)) || firstNonZero(got[8192:]) >= 0 {
		t.Fatalf("synced file: %d bytes, recovery %+v", len(got), r.report)
	}
	if lost.Size() != 0 {
		t.Fatalf("lost file has %d bytes, recovery %+v", lost.Size(), r.report)
	}
	r.check(a, b)
}

// TestReleasedSlotKeepsItsContent: while the release of a slot may still be undone by a power cut, nothing is written to it.
func TestReleasedSlotKeepsItsContent(t *testing.T) {
	r := newRig(t, rigOptions{disk: true})
	punched, cut, emptied := r.file(), r.file(), r.file()
	files := []*File{punched, cut, emptied}
	data := pattern(4*4096, 1)
	for _, f := range files {
		mustWrite(t, f, data, 0)
	}
	must(t, r.eng.Checkpoint(ctx))
	before := make([][]byte, len(files))
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = r.objectPath(f)
		before[i] = readFile(t, paths[i])
	}
	must(t, punched.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 8192, WriteOpts{}))
	must(t, cut.Truncate(ctx, 4096, WriteOpts{}))
	must(t, emptied.Truncate(ctx, 0, WriteOpts{}))
	for _, f := range files {
		mustWrite(t, f, pattern(4*4096, 2), 0)
	}
	must(t, r.eng.SyncAll(ctx))
	for i := range files {
		if got := readFile(t, paths[i]); !bytes.Equal(got, before[i]) {
			t.Errorf("file %d: an old slot was overwritten at %d", i, diff(got, before[i]))
		}
	}
	must(t, r.eng.Checkpoint(ctx))
	for i, f := range files {
		if got := mustRead(t, f, 0, 1<<20); !bytes.Equal(got, pattern(4*4096, 2)) {
			t.Errorf("file %d differs after the checkpoint", i)
		}
		must(t, f.Close())
	}
	if _, err := os.Stat(paths[2]); !errors.Is(err, os.ErrNotExist) {
		t.Error("the object of the emptied file is still there")
	}
}

// failingJournal fails checkpoints.
type failingJournal struct {
	Journal
	err error
}

func (j *failingJournal) Checkpoint(ctx context.Context) error {
	if j.err != nil {
		return j.err
	}
	return j.Journal.Checkpoint(ctx)
}

// TestNoCheckpointNoDestruction: garbage is kept when the checkpoint fails, and slots are not taken for virgin.
func TestNoCheckpointNoDestruction(t *testing.T) {
	r := newRig(t, rigOptions{})
	journal := &failingJournal{Journal: r.kv}
	r.eng.cfg.KV = journal
	f := r.file()
	defer f.Close()
	mustWrite(t, f, pattern(4*4096, 1), 0)
	must(t, r.eng.Checkpoint(ctx))
	path := r.objectPath(f)
	before := readFile(t, path)
	must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 4096, WriteOpts{}))
	journal.err = errors.New("no")
	wantErr(t, r.eng.Checkpoint(ctx), journal.err)
	mustWrite(t, f, pattern(4096, 2), 4096)
	if !bytes.Equal(readFile(t, path), before) {
		t.Fatal("object changed without a checkpoint")
	}
	must(t, f.Truncate(ctx, 0, WriteOpts{}))
	wantErr(t, r.eng.Checkpoint(ctx), journal.err)
	if !bytes.Equal(readFile(t, path), before) {
		t.Fatal("object changed without a checkpoint")
	}
	journal.err = nil
	must(t, r.eng.Checkpoint(ctx))
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("object is still there")
	}
}

// TestUnlinkFails: garbage that cannot be destroyed is tried again.
func TestUnlinkFails(t *testing.T) {
	faults, wrap := newFaults()
	r := newRig(t, rigOptions{lower: wrap})
	f := r.file()
	defer f.Close()
	mustWrite(t, f, pattern(4*4096, 1), 0)
	path := r.objectPath(f)
	must(t, f.Truncate(ctx, 0, WriteOpts{}))
	faults.set("unlink", syscall.EIO)
	wantErr(t, r.eng.Checkpoint(ctx), syscall.EIO)
	faults.set("unlink", nil)
	must(t, r.eng.Checkpoint(ctx))
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("object is still there")
	}
}

// TestPunchFrees: a checkpoint gives the space of holes back, and only that.
func TestPunchFrees(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	data := pattern(256*4096, 1)
	mustWrite(t, f, data, 0)
	must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 10*4096, 100*4096, WriteOpts{}))
	mustWrite(t, f, data[50*4096:60*4096], 50*4096)
	must(t, f.Truncate(ctx, 200*4096+7, WriteOpts{}))
	clear(data[10*4096 : 50*4096])
	clear(data[60*4096 : 110*4096])
	data = data[:200*4096+7]
	must(t, r.eng.Checkpoint(ctx))
	must(t, r.eng.Checkpoint(ctx)) // settles the images first, which lie within what was punched
	if got := mustRead(t, f, 0, 1<<21); !bytes.Equal(got, data) {
		t.Fatalf("content differs at %d", diff(got, data))
	}
	obj, err := r.objects.Get(r.eng.object(f.Ino(), 1))
	must(t, err)
	defer obj.Release()
	size, allocated, err := obj.Stat()
	must(t, err)
	if size > 201*4096 || allocated > 125*4096 {
		t.Errorf("object has %d bytes and takes %d", size, allocated)
	}
	r.check(f.Ino())
}

// TestCutTwice cuts the power again before anything happened after the first recovery.
func TestCutTwice(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newRig(t, rigOptions{disk: true, cutting: true, untidy: true})
	f := r.file()
	ino := f.Ino()
	mustWrite(t, f, pattern(4*4096, 1), 0)
	must(t, f.Sync(ctx))
	mustWrite(t, f, pattern(4*4096, 2), 4*4096)
	must(t, f.Close())
	for range 3 {
		r.cutPower(rng)
		f = r.openFile(ino)
		if got := mustRead(t, f, 0, 1<<20); !bytes.Equal(got[:4*4096], pattern(4*4096, 1)) {
			t.Fatal("synced content differs")
		}
		must(t, f.Sync(ctx))
		must(t, f.Close())
	}
}
