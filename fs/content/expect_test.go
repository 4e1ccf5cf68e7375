package content

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/meta"
)

// hasObject tells whether a file's content has an object.
func (r *rig) hasObject(f *File) bool {
	obj, err := r.eng.objects.Get(r.eng.object(f.Ino(), f.st.serial))
	if err == nil {
		obj.Release()
	}
	return err == nil
}

// written is a new file with n bytes of a pattern.
func (r *rig) written(n int, seed uint64) *File {
	r.t.Helper()
	f := r.file()
	if _, err := f.WriteAt(ctx, pattern(n, seed), 0, WriteOpts{}); err != nil {
		r.t.Fatal(err)
	}
	return f
}

// TestExpectedSync: once a small new file was synced, what is written to the next one in its directory is in the journal, has no object, and survives a power cut after its
// sync. A large file has one.
func TestExpectedSync(t *testing.T) {
	r := newRig(t, rigOptions{disk: true, cutting: true})
	first := r.written(20000, 1)
	if !r.hasObject(first) {
		t.Fatal("a file of which no sync was expected has no object")
	}
	must(t, first.Sync(ctx))
	second, large := r.written(20000, 2), r.written(smallWrite+1, 3)
	if r.hasObject(second) {
		t.Error("a file of which a sync was expected has an object before a checkpoint")
	}
	if !r.hasObject(large) {
		t.Error("a large file has no object")
	}
	must(t, second.Sync(ctx))
	ino := second.Ino()
	for _, f := range []*File{first, second, large} {
		must(t, f.Close())
	}
	r.cutPower(rand.New(rand.NewPCG(1, 2)))
	f := r.openFile(ino)
	defer f.Close()
	if got, want := mustRead(t, f, 0, 30000), pattern(20000, 2); !bytes.Equal(got, want) {
		t.Errorf("after a power cut: content differs at %d", diff(got, want))
	}
	r.check(ino)
}

// TestSmallFilesBeginInTheJournal: a small new file has no object until a checkpoint, and none ever if it is removed before. A larger one has one at once, and every one
// has where half of what makes a checkpoint due waits already.
func TestSmallFilesBeginInTheJournal(t *testing.T) {
	r := newRig(t, rigOptions{disk: true, cutting: true, small: true})
	small, large := r.written(smallFile, 1), r.written(smallFile+1, 2)
	if r.hasObject(small) || !r.hasObject(large) {
		t.Errorf("objects: of the small file %v, of the large one %v", r.hasObject(small), r.hasObject(large))
	}
	mustWrite(t, small, pattern(1, 3), smallFile) // grows beyond
	if !r.hasObject(small) {
		t.Error("a file that has grown has no object")
	}
	brief := r.written(5000, 4)
	name := fmt.Appendf(nil, "file%d", r.names)
	if _, err := r.meta.Unlink(ctx, meta.RootIno, name, r.eng.IsOpen); err != nil {
		t.Fatal(err)
	}
	must(t, r.eng.Unlinked(ctx, brief.Ino()))
	must(t, brief.Close())
	must(t, r.eng.Checkpoint(ctx))
	if r.hasObject(brief) {
		t.Error("a file that was removed before the checkpoint has an object")
	}
	for waiting, due := r.kv.Backlog(); waiting < due/2; waiting, _ = r.kv.Backlog() {
		must(t, r.written(smallFile, 5).Close())
	}
	late := r.written(5000, 6)
	if !r.hasObject(late) {
		t.Error("a file has no object though the journal is half full")
	}
	must(t, r.eng.SyncAll(ctx))
	kept := small.Ino()
	for _, f := range []*File{small, large, late} {
		must(t, f.Close())
	}
	r.cutPower(rand.New(rand.NewPCG(3, 4)))
	f := r.openFile(kept)
	defer f.Close()
	want := append(pattern(smallFile, 1), pattern(1, 3)...)
	if got := mustRead(t, f, 0, smallFile+100); !bytes.Equal(got, want) {
		t.Errorf("after a power cut: content differs at %d", diff(got, want))
	}
	r.check(kept)
}

// TestSyncersForget: what was learnt of a directory holds for a while.
func TestSyncersForget(t *testing.T) {
	s, now := newSyncers(), time.Now()
	s.synced(7, now, 1)
	if !s.expects(7, now.Add(expectFor-1)) || s.expects(7, now.Add(expectFor)) || s.expects(8, now) {
		t.Error("a sync is expected of the wrong files")
	}
}

// TestHasten: the disk begins with the journal when as many writes have come as before the last sync, once for each, and for a new file as many as the last new file in
// its directory had.
func TestHasten(t *testing.T) {
	r := newRig(t, rigOptions{})
	hastens := &r.kv.(*settling).hastens
	f := r.file()
	write := func(f *File, n int, want int64) {
		t.Helper()
		before := hastens.Load()
		mustWrite(t, f, pattern(n, 1), 0)
		if got := hastens.Load() - before; got != want {
			t.Errorf("a write of %d bytes: %d times, not %d", n, got, want)
		}
	}
	write(f, 5000, 0) // nothing is known
	write(f, 5000, 0)
	must(t, f.Sync(ctx))
	write(f, 5000, 0) // two are expected
	write(f, 5000, 1)
	write(f, 5000, 0)
	must(t, f.Sync(ctx))
	must(t, f.Sync(ctx)) // without a write there is nothing to learn
	for range 2 {
		write(f, 5000, 0)
	}
	write(f, 5000, 1)
	must(t, f.Sync(ctx))
	parts := []Part{{0, pattern(4096, 2)}, {8192, pattern(4096, 3)}, {16384, pattern(4096, 4)}, {24576, pattern(4096, 5)}}
	before := hastens.Load()
	done, err := f.WriteParts(ctx, parts, WriteOpts{})
	if err != nil || !done || hastens.Load() != before+1 {
		t.Errorf("four writes in one transaction: %v, %v, %d times", done, err, hastens.Load()-before)
	}
	must(t, f.Sync(ctx))
	next := r.file()
	write(next, 5000, 0) // two, as the first file had
	write(next, 5000, 1)
	for range 3 {
		write(f, 5000, 0)
	}
	f.lastSync.Store(time.Now().Add(-expectFor).UnixNano())
	write(f, 5000, 0) // too long ago
	f.lastSync.Store(time.Now().UnixNano())
	write(f, smallWrite+1, 0) // not in the journal
	must(t, f.Close())
	must(t, next.Close())
}
