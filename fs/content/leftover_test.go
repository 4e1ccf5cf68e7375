package content

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
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
