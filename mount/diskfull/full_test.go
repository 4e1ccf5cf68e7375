package diskfull

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// lowers are the filesystems that are filled.
func lowers() []string {
	if mounttest.Long() {
		return []string{"ext4", "xfs"}
	}
	return []string{"ext4"}
}

// A disk that is filled under load, again and again: programs are told in time, nothing that was acknowledged is lost, deletion works, its room
// comes back, and it all goes on without a restart.
func TestFullUnderLoad(t *testing.T) {
	for _, lower := range lowers() {
		t.Run(lower, func(t *testing.T) {
			r, led := newRig(t, lower), newLedger()
			s := mounttest.Seed(t)
			for round := range mounttest.Times(3, 10) {
				r.fillUnderLoad(led, rand.New(rand.NewPCG(s, uint64(round))), round)
				n := len(led.files)
				r.lookAtFull(led)
				r.deleteSome(led, round)
				r.goOn(led, round)
				t.Logf("round %d: %d files filled it, %d are left, %d MB free below", round, n, len(led.files), r.disk.Free()>>20)
			}
			r.finish(led)
		})
	}
}

// fillUnderLoad runs all kinds of writers until each was told that the disk is full.
func (r *rig) fillUnderLoad(led *ledger, rng *rand.Rand, round int) {
	r.T.Helper()
	dir := filepath.Join(r.Mnt, fmt.Sprintf("round%d", round))
	if err := os.Mkdir(dir, 0o755); err != nil {
		r.T.Fatal(err)
	}
	work := []func(w *worker) error{
		func(w *worker) error { return w.whole("whole", 1<<20) },
		func(w *worker) error { return w.whole("small", 3000) },
		func(w *worker) error { return w.appended("appended") },
		func(w *worker) error { return w.mapped("mapped") },
		func(w *worker) error { return w.streamed("streamed") },
	}
	errs := make([]error, len(work))
	r.Within("filling the disk", func() {
		var group sync.WaitGroup
		for i, do := range work {
			w := &worker{dir: dir, led: led, rng: rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))}
			group.Go(func() { errs[i] = do(w) })
		}
		group.Wait()
	})
	if err := errors.Join(errs...); err != nil {
		r.T.Fatalf("writers of round %d: %v", round, err)
	}
}

// lookAtFull looks at the full volume: everything is there and readable, new things are refused, statfs(2) says why.
func (r *rig) lookAtFull(led *ledger) {
	r.T.Helper()
	r.Alive()
	if err := led.verify(); err != nil {
		r.T.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.Mnt, &st); err != nil {
		r.T.Fatal(err)
	}
	if free := int64(st.Bavail) * int64(st.Frsize); free > r.disk.Free() || free > 32<<20 {
		r.T.Errorf("statfs of the full volume: %d bytes free; below: %d", free, r.disk.Free())
	}
}

// deleteSome takes most of the files away, by all the ways there are, on the full disk.
func (r *rig) deleteSome(led *ledger, round int) {
	r.T.Helper()
	empty := filepath.Join(r.Mnt, fmt.Sprintf("round%d", round), "empty")
	if err := os.Mkdir(empty, 0o755); err == nil {
		if err := os.Remove(empty); err != nil {
			r.T.Errorf("rmdir on the full disk: %v", err)
		}
	} else if !full(err) {
		r.T.Errorf("mkdir on the full disk: %v", err)
	}
	for i, path := range slices.Sorted(maps.Keys(led.files)) {
		switch {
		case i%8 == 0 && filepath.Base(path) != "streamed": // stays
			continue
		case i%8 == 1:
			if err := os.Truncate(path, 0); err != nil {
				r.T.Errorf("truncate on the full disk: %v", err)
			}
		case i%8 == 2:
			if f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0); err != nil {
				r.T.Errorf("open with O_TRUNC on the full disk: %v", err)
			} else {
				f.Close()
			}
		default:
			if err := os.Remove(path); err != nil {
				r.T.Errorf("unlink on the full disk: %v", err)
			}
		}
		led.forget(path)
	}
	if r.T.Failed() {
		r.T.FailNow()
	}
}

// goOn writes to the volume that has room again.
func (r *rig) goOn(led *ledger, round int) {
	r.T.Helper()
	w := &worker{rng: rand.New(rand.NewPCG(uint64(round), 99))}
	path, b := filepath.Join(r.Mnt, fmt.Sprintf("after%d", round)), w.random(20<<20)
	began := time.Now()
	r.Eventually("writing 20 MB after deletion", func() error {
		err := writeSynced(path, b)
		if err != nil {
			_ = os.Remove(path)
			if !full(err) {
				r.T.Fatalf("writing after deletion: %v", err)
			}
		}
		return err
	})
	r.T.Logf("20 MB written again within %v", time.Since(began))
	if err := os.Remove(path); err != nil {
		r.T.Fatal(err)
	}
	r.Alive()
	if err := led.verify(); err != nil {
		r.T.Fatal(err)
	}
}

// finish checks the volume mounted, unmounted and mounted again. The export of its metadata, for which there was no room, is written with the next checkpoint.
func (r *rig) finish(led *ledger) {
	r.T.Helper()
	r.Eventually("an export, and no faults", func() error {
		if res := r.Command("fsck", r.Mnt); res.Code != 0 {
			return errors.New(res.String())
		}
		return nil
	})
	r.Umount()
	r.Fsck()
	r.Mount()
	if err := led.verify(); err != nil {
		r.T.Fatal(err)
	}
}
