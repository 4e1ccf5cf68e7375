package content

import (
	"bytes"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/object"
)

// meanwhile is an objects directory that lets something be done where the upkeep makes calls with no File locked: when objects are made durable during
// a checkpoint, and when one is removed after it.
type meanwhile struct {
	object.Lower
	do *func()
}

func (m meanwhile) call() {
	if do := *m.do; do != nil {
		*m.do = nil // not again for what it does itself
		do()
		*m.do = do
	}
}

func (m meanwhile) SyncAll() error {
	m.call()
	return m.Lower.SyncAll()
}

func (m meanwhile) Unlink(path string) error {
	m.call()
	return m.Lower.Unlink(path)
}

// Slots that come into use after the checkpoint that covers their release, are synced, and lose their entries again, are not destroyed with that
// release: after a power cut the entries are there.
func TestReleasedAgain(t *testing.T) {
	const bs, blocks = 4096, 12
	release := map[string]func(t *testing.T, f *File){
		"punch": func(t *testing.T, f *File) {
			must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4*bs, 2*bs, WriteOpts{}))
		},
		"punch a part": func(t *testing.T, f *File) {
			must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 5*bs, bs, WriteOpts{}))
		},
		"cut": func(t *testing.T, f *File) { must(t, f.Truncate(ctx, 4*bs, WriteOpts{})) },
	}
	for _, c := range [][2]string{{"punch", "punch"}, {"punch", "punch a part"}, {"punch", "cut"}, {"cut", "cut"}, {"cut", "punch"}, {"cut", "punch a part"}} {
		t.Run(c[0]+" then "+c[1], func(t *testing.T) {
			var do func()
			r := newRig(t, rigOptions{disk: true, cutting: true, lower: func(l object.Lower) object.Lower { return meanwhile{l, &do} }})
			victim, f := r.file(), r.file()
			mustWrite(t, victim, pattern(bs, 1), 0)
			mustWrite(t, f, pattern(blocks*bs, 2), 0)
			must(t, r.eng.Checkpoint(ctx))
			must(t, victim.Truncate(ctx, 0, WriteOpts{}))
			release[c[0]](t, f)
			calls := 0
			do = func() {
				if calls++; calls < 2 { // the checkpoint is still being made
					return
				}
				mustWrite(t, f, pattern((blocks-4)*bs, 3), 4*bs)
				must(t, f.Sync(ctx))
				release[c[1]](t, f)
			}
			must(t, r.eng.Checkpoint(ctx))
			do = nil
			if calls != 2 {
				t.Fatalf("%d calls, meant to be one when objects are synced and one when the victim's is removed", calls)
			}
			must(t, victim.Close())
			must(t, f.Close())
			r.openAfterCut(r.journalDisk.cutBy(func() bool { return false }), r.objectsDisk.cutBy(func() bool { return true }))
			f = r.openFile(f.Ino())
			defer f.Close()
			want := append(pattern(4*bs, 2), pattern((blocks-4)*bs, 3)...)
			if got := mustRead(t, f, 0, len(want)); !bytes.Equal(got, want) {
				t.Error("what was synced is not there")
			}
			r.check(f.Ino())
		})
	}
}

// What is released again and again, as the tail of a log is, goes in the end: its space comes back.
func TestReleasedAgainGoes(t *testing.T) {
	const bs = 4096
	var do func()
	r := newRig(t, rigOptions{disk: true, lower: func(l object.Lower) object.Lower { return meanwhile{l, &do} }})
	f := r.file()
	defer f.Close()
	round := func() {
		mustWrite(t, f, pattern(40*bs, 1), 0)
		must(t, f.Truncate(ctx, 3*bs, WriteOpts{}))
		must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, bs, bs, WriteOpts{}))
	}
	for range 3 {
		round()
		do = round
		must(t, r.eng.Checkpoint(ctx))
		do = nil
	}
	must(t, r.eng.Checkpoint(ctx))
	if st, err := os.Stat(r.objectPath(f)); err != nil || st.Size() != 3*bs || st.Sys().(*syscall.Stat_t).Blocks*512 > 2*bs {
		t.Fatalf("the object is %+v, %v", st, err)
	}
	garbage, err := r.eng.listGarbage(ctx)
	if must(t, err); len(garbage) > 0 {
		t.Errorf("left: %+v", garbage)
	}
	r.check(f.Ino())
}
