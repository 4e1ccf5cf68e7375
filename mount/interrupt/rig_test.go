package interrupt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// keyTTL is short, so that a token that is away is noticed.
const keyTTL = "1s"

// plainFiles is how many files are imported.
const plainFiles = 80

// zones is how many directories have keys of their own.
const zones = 6

// rig is a mounted volume on a disk of its own, with its keys in a token that can be taken away. The key store lies elsewhere.
type rig struct {
	*mounttest.Rig
	t     *testing.T
	rng   *rand.Rand
	disk  *mounttest.Disk
	token *hsmtest.SoftHSM
	plain string            // a tree outside of the volume
	files map[string][]byte // that lie in the mount, and what they hold
}

func newRig(t *testing.T) *rig {
	t.Helper()
	mounttest.NeedApart(t)
	mounttest.NeedWorker(t)
	token := hsmtest.NewSoftHSM(t)
	disk := mounttest.NewDisk(t, "ext4", mounttest.DiskSize)
	r := &rig{Rig: mounttest.NewRig(t, mounttest.Options{Volume: filepath.Join(disk.Dir, "vault")}), t: t, disk: disk, token: token, files: map[string][]byte{}}
	r.rng = rand.New(rand.NewPCG(mounttest.Seed(t), 29))
	pin := filepath.Join(r.Dir, "pin")
	r.must(os.WriteFile(pin, []byte(token.PIN+"\n"), 0o600))
	r.Secret = []string{"--pin-file", pin}
	r.Token = []string{"--token", "pkcs11", "--pkcs11-module", token.Module, "--pkcs11-token", token.Label}
	r.Env = append(os.Environ(), "KMSFS_RUNTIME_DIR="+filepath.Join(r.Dir, "run"), "KMSFS_KEYSTORE="+r.Store) // with the token's configuration
	r.Init()
	r.mount()
	r.fill()
	return r
}

func (r *rig) mount() { r.Mount("--key-ttl", keyTTL) }

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// bytes makes some of a random size.
func (r *rig) bytes(most int) []byte {
	b := make([]byte, r.rng.IntN(most))
	for i := range b {
		b[i] = byte(r.rng.Uint32())
	}
	return b
}

// fill makes zones, files in them, and a tree to be imported.
func (r *rig) fill() {
	policy := filepath.Join(r.Dir, "policy.yaml")
	r.must(os.WriteFile(policy, []byte("version: 1\n"), 0o600))
	for z := range zones {
		dir := filepath.Join(r.Mnt, fmt.Sprint("zone", z))
		r.must(os.Mkdir(dir, 0o755))
		if z > 0 { // one lies in the root's
			r.Must("policy", "set", dir, policy)
		}
		for i := range 12 {
			path, b := filepath.Join(dir, fmt.Sprint("f", i)), r.bytes(200_000)
			r.must(os.WriteFile(path, b, 0o644))
			r.files[path] = b
		}
	}
	r.plain = filepath.Join(r.Dir, "plain")
	for i := range plainFiles {
		path := filepath.Join(r.plain, fmt.Sprint("d", i%5), fmt.Sprint("f", i))
		r.must(os.MkdirAll(filepath.Dir(path), 0o755))
		r.must(os.WriteFile(path, r.bytes(200_000), 0o644))
	}
	r.sync()
}

// sync makes everything durable.
func (r *rig) sync() {
	r.t.Helper()
	for _, sync := range []func(int) error{unix.Syncfs, unix.Fsync} {
		fd, err := unix.Open(r.Mnt, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		r.must(err)
		err = sync(fd)
		r.must(errors.Join(err, unix.Close(fd)))
	}
}

// same compares all files with what they are to hold.
func (r *rig) same(when string) {
	r.t.Helper()
	for path, want := range r.files {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			r.t.Fatalf("%s: %s differs, %v", when, path, err)
		}
	}
}

// fall is what a power cut does beside cutting the disk.
func (r *rig) fall() {
	r.t.Helper()
	for pid, command := range r.Daemons() {
		if command == "mount-daemon" {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			r.Ends(pid)
		}
	}
	if err := unix.Unmount(r.Mnt, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		r.t.Fatalf("take the dead mount away: %v", err)
	}
	r.disk.Restart()
}

// fsck checks the mounted volume. What a crash has lost of space is given back in the background; until that is done it may be reported.
func (r *rig) fsck(when string) {
	r.t.Helper()
	r.Eventually("fsck is clean "+when, func() error {
		if res := r.Run("fsck", r.Mnt); res.Code != 0 {
			return errors.New(res.String())
		}
		return nil
	})
}

// fillOnce takes what is free at one moment, and not what comes free later: who takes what the ballast gives back races the checkpoint for it, and Badger
// dies of losing (docs/adr/0009).
func (r *rig) fillOnce() (release func()) {
	r.t.Helper()
	path := filepath.Join(r.disk.Dir, "foreign")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	r.must(err)
	defer f.Close()
	for n := r.disk.Free(); n > 0; n -= 1 << 20 {
		if err = unix.Fallocate(int(f.Fd()), 0, 0, n); !errors.Is(err, unix.ENOSPC) {
			break
		}
	}
	r.must(err)
	return func() {
		r.must(errors.Join(os.Remove(path), r.disk.Sync())) // a power cut soon after it would bring the file back
	}
}

// census is what a scan of the volume finds.
type census struct {
	OldVersions int `json:"old_versions"`
	Keyless     int
	OldWraps    int `json:"old_wraps"`
	OldZoneKeys int `json:"old_zone_keys"`
}

func (r *rig) census(args ...string) (c census) {
	r.t.Helper()
	r.must(json.Unmarshal([]byte(r.Must(append(append([]string{"census", "--json"}, args...), r.Volume)...)), &c))
	return c
}

// fault is a way to stop work.
type fault struct {
	name string
	do   func(r *rig) // returns when all is as it was, and the volume mounted
}

var faults = []fault{
	{"kill", func(r *rig) {
		r.Kill(r.PID)
		r.mount()
	}},
	{"power cut", func(r *rig) {
		r.must(r.disk.Cut([]int{mounttest.CutLogFlush, mounttest.CutNoLogFlush}[r.rng.IntN(2)]))
		r.fall()
		r.mount()
	}},
	{"token away", func(r *rig) {
		r.token.Away(r.t)
		r.Eventually("no key can be had", func() error {
			err := os.WriteFile(filepath.Join(r.Mnt, "probe"), nil, 0o644)
			_ = os.Remove(filepath.Join(r.Mnt, "probe"))
			if !errors.Is(err, syscall.ENOKEY) {
				return fmt.Errorf("a file is made: %v", err)
			}
			return nil
		})
		r.token.Back(r.t)
		r.Eventually("keys can be had", func() error {
			return errors.Join(os.WriteFile(filepath.Join(r.Mnt, "probe"), nil, 0o644), os.Remove(filepath.Join(r.Mnt, "probe")))
		})
	}},
	{"disk full", func(r *rig) {
		release := r.fillOnce()
		time.Sleep(time.Duration(r.rng.IntN(300)) * time.Millisecond) // what is under way notices, or not
		release()
		r.Eventually("there is room", func() error {
			return errors.Join(os.WriteFile(filepath.Join(r.Mnt, "probe"), make([]byte, 100_000), 0o644), os.Remove(filepath.Join(r.Mnt, "probe")))
		})
	}},
}

func faultNamed(name string) fault {
	for _, f := range faults {
		if f.name == name {
			return f
		}
	}
	panic("no fault " + strings.ToUpper(name))
}
