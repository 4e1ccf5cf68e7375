package diskfull

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// Somebody else fills the disk to the last byte. The volume says so, loses nothing, and deletes: the ballast makes room for the checkpoint that does.
func TestFullOfOthers(t *testing.T) {
	for _, lower := range lowers() {
		t.Run(lower, func(t *testing.T) {
			r, led := newRig(t, lower), newLedger()
			w := &worker{dir: r.Mnt, led: led, rng: rand.New(rand.NewPCG(mounttest.Seed(t), 7))}
			for i := range 40 {
				path, b := filepath.Join(r.Mnt, "kept"+string(rune('A'+i))), w.random(1<<20)
				if err := writeSynced(path, b); err != nil {
					t.Fatal(err)
				}
				led.note(path, contentOf(b))
			}
			release := r.disk.Fill()
			if err := writeSynced(filepath.Join(r.Mnt, "refused"), w.random(1<<20)); !full(err) {
				t.Fatalf("write on a disk that is full of others' data: %v", err)
			}
			r.Alive()
			r.deletionFrees(led)
			release()
			r.goOn(led, 0)
			r.finish(led)
		})
	}
}

// deletionFrees deletes half of the files and waits for their room, but for what the checkpoint writes that gives it.
func (r *rig) deletionFrees(led *ledger) {
	r.T.Helper()
	paths, before := slices.Sorted(maps.Keys(led.files)), r.disk.Unused()
	for _, path := range paths[:len(paths)/2] {
		if err := os.Remove(path); err != nil {
			r.T.Fatalf("unlink: %v", err)
		}
		led.forget(path)
	}
	r.Eventually("room of deleted files", func() error {
		if r.disk.Unused() < before+int64(len(paths)/2-2)<<20 {
			return errors.New("too little is free below")
		}
		return nil
	})
	r.Alive()
	if err := led.verify(); err != nil {
		r.T.Fatal(err)
	}
}

// mountedFull mounts a volume whose disk is full: nothing is lost, deleting gives room, and with what release gives it goes on.
func (r *rig) mountedFull(led *ledger, release func()) {
	r.T.Helper()
	r.Mount()
	r.Alive()
	if err := led.verify(); err != nil {
		r.T.Fatal(err)
	}
	r.deleteSome(led, 0)
	release()
	r.goOn(led, 0)
	r.finish(led)
}

// A full disk is mounted again: reading and deleting work, and it goes on when there is room.
func TestMountFull(t *testing.T) {
	r, led := newRig(t, "ext4"), newLedger()
	r.fillUnderLoad(led, rand.New(rand.NewPCG(mounttest.Seed(t), 3)), 0)
	release := r.disk.Fill()
	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.Ends(r.PID)
	_ = unix.Unmount(r.Mnt, unix.MNT_DETACH)
	r.mountedFull(led, release)
}

// A disk that others fill while the volume is not mounted, when it keeps less room for itself: it is mounted, and deleting gives room.
func TestFilledWhileClosed(t *testing.T) {
	r, led := newRig(t, "ext4"), newLedger()
	r.fillUnderLoad(led, rand.New(rand.NewPCG(mounttest.Seed(t), 5)), 0)
	r.Umount()
	release := r.disk.Fill()
	r.mountedFull(led, release)
}

// A reader of a file that is open for writing, at its end, is not told that the disk is full; nor are stat and seek.
func TestFullIsNoReadersTrouble(t *testing.T) {
	r := newRig(t, "ext4")
	path := filepath.Join(r.Mnt, "database")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := bytes.Repeat([]byte("rows "), 10_000)
	if _, err := f.Write(want); err != nil {
		t.Fatal(err)
	}
	release := r.disk.Fill()
	r.Eventually("refusing writes to an open file", func() error {
		if _, err := f.WriteAt([]byte("x"), 0); full(err) {
			return nil
		}
		return errors.New("taken")
	})
	want[0] = 'x'
	if n, err := f.ReadAt(make([]byte, 10), int64(len(want))); n != 0 || err == nil || full(err) {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	if n, err := f.Seek(0, 2); err != nil || n != int64(len(want)) {
		t.Errorf("seek to the end: %d, %v", n, err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != int64(len(want)) {
		t.Errorf("fstat: %v, %v", st, err)
	}
	r.Eventually("refusing writes after fstat", func() error { // which makes attributes fresh: a write or two may get into the reserve
		if _, err := f.WriteAt([]byte("x"), 0); full(err) {
			return nil
		}
		return errors.New("taken")
	})
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got[1:], want[1:]) {
		t.Errorf("read: %v", err)
	}
	release()
	r.Eventually("writing again", func() error {
		_, err := f.WriteAt([]byte("x"), 0)
		return errors.Join(err, f.Sync())
	})
}
