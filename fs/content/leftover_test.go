package content

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta"
)

// TestLeftoverBesideGarbage: the end of an object that a crash left behind its file goes also if there was garbage of the object when the sweep
// passed, and not before the garbage may go.
func TestLeftoverBesideGarbage(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	data := pattern(10*4096, 1)
	mustWrite(t, f, data, 0)
	must(t, r.eng.Checkpoint(ctx))
	must(t, os.Truncate(r.objectPath(f), 20*4096))
	must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 2*4096, 4096, WriteOpts{}))
	clear(data[2*4096 : 3*4096])
	must(t, r.eng.CheckObjects(ctx, true, func(f Fault) { t.Errorf("swept: %+v", f) }))
	must(t, r.eng.Checkpoint(ctx))
	must(t, r.eng.CheckObjects(ctx, false, func(f Fault) { t.Errorf("left: %+v", f) }))
	if st, err := os.Stat(r.objectPath(f)); err != nil || st.Size() != 10*4096 {
		t.Errorf("object: %v, %v", st, err)
	}
	if got := mustRead(t, f, 0, len(data)+1); !bytes.Equal(got, data) {
		t.Error("content differs")
	}
}

// TestLeftoverOfReusedNumber: a crash may take back an inode number, and leave an object with its name. While a sweep removes that, the number can be
// given again, but the new file's content cannot be begun.
func TestLeftoverOfReusedNumber(t *testing.T) {
	r := newRig(t, rigOptions{})
	next := r.leftover(t)
	found := 0
	must(t, r.eng.CheckObjects(ctx, true, func(Fault) {
		found++
		if f, wait, err := r.eng.hold(next); wait == nil {
			t.Errorf("opened meanwhile: %v, %v", f, err)
		}
	}))
	if found != 1 {
		t.Errorf("%d leftovers", found)
	}
	f := r.file()
	defer f.Close()
	if f.Ino() != next {
		t.Fatalf("inode %d, expected %d", f.Ino(), next)
	}
	data := pattern(2*4096, 1)
	mustWrite(t, f, data, 0)
	if got := mustRead(t, f, 0, len(data)); !bytes.Equal(got, data) {
		t.Error("content differs")
	}
}

// TestLeftoverLookedAtTwice: who else finds out that an inode is not there (another check, the collector) keeps it in use for a moment. The sweep does not
// pass over its object then: there is no other until the next crash.
func TestLeftoverLookedAtTwice(t *testing.T) {
	r := newRig(t, rigOptions{})
	missing := r.leftover(t)
	other, wait, err := r.eng.hold(missing) // another Open, before it has read the row
	if wait != nil || err != nil {
		t.Fatal("held by somebody: ", err)
	}
	found := 0
	swept := make(chan error, 1)
	go func() { swept <- r.eng.CheckObjects(ctx, true, func(Fault) { found++ }) }()
	select {
	case err := <-swept:
		t.Fatalf("passed over: %d leftovers, %v", found, err)
	case <-time.After(100 * time.Millisecond):
	}
	r.eng.release(other)
	must(t, <-swept)
	if found != 1 {
		t.Errorf("%d leftovers", found)
	}
}

// leftover makes an object of the inode that comes next, and returns its number.
func (r *rig) leftover(t *testing.T) meta.Ino {
	t.Helper()
	f := r.file()
	next := f.Ino() + 1
	must(t, f.Close())
	orphan := r.namer.ID(uint64(next), 1).String()
	dir := filepath.Join(r.dir, "objects", orphan[:2])
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, orphan), []byte("x"), 0o600))
	return next
}
