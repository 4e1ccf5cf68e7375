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
)

// lowers are the filesystems that are filled.
func lowers() []string {
	if long() {
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
			s := seed(t)
			for round := range times(3, 10) {
				r.fillUnderLoad(led, rand.New(rand.NewPCG(s, uint64(round))), round)
				n := len(led.files)
				r.lookAtFull(led)
				r.deleteSome(led, round)
				r.goOn(led, round)
				t.Logf("round %d: %d files filled it, %d are left, %d MB free below", round, n, len(led.files), r.disk.free()>>20)
			}
			r.finish(led)
		})
	}
}

// fillUnderLoad runs all kinds of writers until each was told that the disk is full.
func (r *rig) fillUnderLoad(led *ledger, rng *rand.Rand, round int) {
	r.t.Helper()
	dir := filepath.Join(r.mnt, fmt.Sprintf("round%d", round))
	if err := os.Mkdir(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	work := []func(w *worker) error{
		func(w *worker) error { return w.whole("whole", 1<<20) },
		func(w *worker) error { return w.whole("small", 3000) },
		func(w *worker) error { return w.appended("appended") },
		func(w *worker) error { return w.mapped("mapped") },
		func(w *worker) error { return w.streamed("streamed") },
	}
	errs := make([]error, len(work))
	r.within("filling the disk", func() {
		var group sync.WaitGroup
		for i, do := range work {
			w := &worker{dir: dir, led: led, rng: rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))}
			group.Go(func() { errs[i] = do(w) })
		}
		group.Wait()
	})
	if err := errors.Join(errs...); err != nil {
		r.t.Fatalf("writers of round %d: %v", round, err)
	}
}

// lookAtFull looks at the full volume: everything is there and readable, new things are refused, statfs(2) says why.
func (r *rig) lookAtFull(led *ledger) {
	r.t.Helper()
	r.alive()
	if err := led.verify(); err != nil {
		r.t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.mnt, &st); err != nil {
		r.t.Fatal(err)
	}
	if free := int64(st.Bavail) * int64(st.Frsize); free > r.disk.free() || free > 32<<20 {
		r.t.Errorf("statfs of the full volume: %d bytes free; below: %d", free, r.disk.free())
	}
}

// deleteSome takes most of the files away, by all the ways there are, on the full disk.
func (r *rig) deleteSome(led *ledger, round int) {
	r.t.Helper()
	empty := filepath.Join(r.mnt, fmt.Sprintf("round%d", round), "empty")
	if err := os.Mkdir(empty, 0o755); err == nil {
		if err := os.Remove(empty); err != nil {
			r.t.Errorf("rmdir on the full disk: %v", err)
		}
	} else if !full(err) {
		r.t.Errorf("mkdir on the full disk: %v", err)
	}
	for i, path := range slices.Sorted(maps.Keys(led.files)) {
		switch {
		case i%8 == 0 && filepath.Base(path) != "streamed": // stays
			continue
		case i%8 == 1:
			if err := os.Truncate(path, 0); err != nil {
				r.t.Errorf("truncate on the full disk: %v", err)
			}
		case i%8 == 2:
			if f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0); err != nil {
				r.t.Errorf("open with O_TRUNC on the full disk: %v", err)
			} else {
				f.Close()
			}
		default:
			if err := os.Remove(path); err != nil {
				r.t.Errorf("unlink on the full disk: %v", err)
			}
		}
		led.forget(path)
	}
	if r.t.Failed() {
		r.t.FailNow()
	}
}

// goOn writes to the volume that has room again.
func (r *rig) goOn(led *ledger, round int) {
	r.t.Helper()
	w := &worker{rng: rand.New(rand.NewPCG(uint64(round), 99))}
	path, b := filepath.Join(r.mnt, fmt.Sprintf("after%d", round)), w.random(20<<20)
	began := time.Now()
	r.eventually("writing 20 MB after deletion", func() error {
		err := writeSynced(path, b)
		if err != nil {
			_ = os.Remove(path)
			if !full(err) {
				r.t.Fatalf("writing after deletion: %v", err)
			}
		}
		return err
	})
	r.t.Logf("20 MB written again within %v", time.Since(began))
	if err := os.Remove(path); err != nil {
		r.t.Fatal(err)
	}
	r.alive()
	if err := led.verify(); err != nil {
		r.t.Fatal(err)
	}
}

// finish checks the volume mounted, unmounted and mounted again.
func (r *rig) finish(led *ledger) {
	r.t.Helper()
	r.must("fsck", r.mnt)
	r.umount()
	r.must("fsck", r.volume, "--key-file", r.keyFile())
	r.mount()
	if err := led.verify(); err != nil {
		r.t.Fatal(err)
	}
}
