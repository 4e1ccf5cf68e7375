package diskfull

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// keyDiskSize is that of a disk for a key store or its log alone, in bytes.
const keyDiskSize = 48 << 20

// keyRig is a mounted volume whose key store, or the log in it, lies on a disk of its own.
type keyRig struct {
	*mounttest.Rig
	disk *mounttest.Disk
}

// keyDisks are what lies on the disk that is full.
var keyDisks = []struct {
	name string
	make func(t *testing.T) *keyRig
}{
	{"key store", func(t *testing.T) *keyRig {
		disk := mounttest.NewDisk(t, "ext4", keyDiskSize)
		r := &keyRig{mounttest.NewRig(t, mounttest.Options{Store: filepath.Join(disk.Dir, "keys")}), disk}
		r.Init()
		return r
	}},
	{"audit log", func(t *testing.T) *keyRig {
		disk := mounttest.NewDisk(t, "ext4", keyDiskSize)
		r := &keyRig{mounttest.NewRig(t, mounttest.Options{}), disk}
		r.Init()
		r.logOnDisk()
		return r
	}},
}

// logOnDisk moves the log of the key store to the disk.
func (r *keyRig) logOnDisk() {
	r.T.Helper()
	r.endKeyd(syscall.SIGTERM)
	log := filepath.Join(r.Store, "audit")
	if out, err := exec.Command("cp", "-a", log+"/.", r.disk.Dir).CombinedOutput(); err != nil {
		r.T.Fatalf("%v: %s", err, out)
	}
	if err := errors.Join(os.Chmod(r.disk.Dir, 0o700), unix.Mount(r.disk.Dir, log, "", unix.MS_BIND, "")); err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(func() {
		r.endKeyd(syscall.SIGTERM)
		if err := unix.Unmount(log, 0); err != nil {
			r.T.Errorf("unmount %s: %v", log, err)
		}
	})
}

// endKeyd ends the key daemon if there is one.
func (r *keyRig) endKeyd(how syscall.Signal) {
	r.T.Helper()
	if pid := r.KeydPID(); pid != 0 {
		_ = syscall.Kill(pid, how)
		r.Ends(pid)
	}
}

// The disk of the key store, or of its log, is full: what cannot be recorded is refused with a reason and in time, what has its key goes on, nothing is
// lost, neither by the death of the key daemon nor by an unmount, and with room again it goes on without a restart of the mount.
func TestKeyStoreFull(t *testing.T) {
	for _, d := range keyDisks {
		t.Run(d.name, func(t *testing.T) {
			r, led := d.make(t), newLedger()
			w := &worker{dir: r.Mnt, led: led, rng: rand.New(rand.NewPCG(mounttest.Seed(t), 11))}
			r.Mount("--key-ttl", "2s")
			for round := range mounttest.Times(2, 10) {
				r.keep(w, fmt.Sprint("before", round))
				release := r.disk.Fill()
				r.refuses(w, round)
				r.endKeyd(syscall.SIGKILL)
				r.refuses(w, round)
				if round%2 == 1 {
					r.Within("umount while the key store is full", func() { r.Command("umount", r.Mnt) })
					r.Ends(r.PID)
					r.Within("mount while the key store is full", func() { r.Command(r.MountArgs()...) })
				}
				release()
				r.isMounted()
				r.goesOn(w, led, round)
			}
			r.Fsck()
			r.Umount()
			r.Fsck()
			r.Mount()
			if err := led.verify(); err != nil {
				t.Fatal(err)
			}
			r.Umount()
		})
	}
}

// isMounted mounts the volume again if it is not mounted, as soon as the key store has noticed that there is room.
func (r *keyRig) isMounted() {
	r.T.Helper()
	r.Eventually("mounting", func() error {
		if _, mounted := r.Status(); mounted {
			return nil
		}
		if res := r.Command(r.MountArgs("--key-ttl", "2s")...); res.Code != 0 {
			return errors.New(res.String())
		}
		return nil
	})
	r.PID = r.Daemon()
}

// keep writes a file that must stay.
func (r *keyRig) keep(w *worker, name string) {
	r.T.Helper()
	path, b := filepath.Join(r.Mnt, name), w.random(100_000)
	if err := writeSynced(path, b); err != nil {
		r.T.Fatal(err)
	}
	w.led.note(path, contentOf(b))
}

// refuses waits until the mount refuses new files, when the keys that it has have run out, and administers the key store meanwhile: that is refused with a
// reason, or there is room for it still.
func (r *keyRig) refuses(w *worker, round int) {
	r.T.Helper()
	try := 0
	r.Eventually("refusing new files", func() error {
		try++ // of one that was made the removal may be refused
		path := filepath.Join(r.Mnt, fmt.Sprintf("refused%d-%d", round, try))
		var err error
		r.Within("a new file while the key store is full", func() { err = writeSynced(path, w.random(1000)) })
		_ = os.Remove(path)
		if err == nil {
			return errors.New("taken")
		}
		if !errors.Is(err, syscall.ENOKEY) && !errors.Is(err, syscall.EIO) {
			r.T.Fatalf("a new file while the key store is full: %v", err)
		}
		return nil
	})
	var res mounttest.Result
	r.Within("kmsfs key create", func() { res = r.Command("key", "create") })
	if res.Code < 0 || res.Code > 0 && res.Err == "" {
		r.T.Fatalf("a key on a full disk: %s", res)
	}
	if st, mounted := r.Status(); !mounted || st.PID != r.PID {
		r.T.Fatalf("status while the key store is full: %+v", st)
	}
}

// goesOn uses the volume and the key store that have room again.
func (r *keyRig) goesOn(w *worker, led *ledger, round int) {
	r.T.Helper()
	r.Eventually("a new file", func() error { return writeSynced(filepath.Join(r.Mnt, fmt.Sprint("after", round)), w.random(1000)) })
	r.Eventually("a new key", func() error {
		if res := r.Command("key", "create"); res.Code != 0 {
			return errors.New(res.String())
		}
		return nil
	})
	r.Alive()
	if err := led.verify(); err != nil {
		r.T.Fatal(err)
	}
}
