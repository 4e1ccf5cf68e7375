package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// damaged is a rig with a volume that holds a few files, unmounted, of which a copy can be put back after each damage.
type damaged struct {
	*rig
	files map[string][]byte // by name in the root
}

func newDamaged(t *testing.T) *damaged {
	t.Helper()
	d := &damaged{rig: newRig(t), files: map[string][]byte{}}
	rng := rand.New(rand.NewPCG(11, 12))
	for i := range 12 {
		b := make([]byte, []int{10, 3000, 5000, 40_000, 300_000}[i%5]+rng.IntN(100))
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		d.files[fmt.Sprintf("file%d", i)] = b
	}
	d.Init()
	d.Mount()
	for name, content := range d.files {
		write(t, filepath.Join(d.Mnt, name), content)
	}
	d.Umount()
	d.Must("keystore", "lock")
	sh(t, d.Dir, "mkdir good && cp -a vault keys good/")
	return d
}

// restore puts volume and key store back together: an older volume alone would be a rollback.
func (d *damaged) restore() {
	d.T.Helper()
	d.Must("keystore", "lock")
	sh(d.T, d.Dir, "rm -rf vault keys && cp -a good/vault good/keys .")
}

// objects returns the object files, all of which hold content of a file.
func (d *damaged) objects() []string {
	d.T.Helper()
	found, err := filepath.Glob(filepath.Join(d.Volume, "objects", "*", "*"))
	if err != nil || len(found) == 0 {
		d.T.Fatalf("no objects: %v", err)
	}
	return found
}

// readAll reads every file: each is what was written, or fails with EIO. It returns how many failed.
func (d *damaged) readAll() (failed int) {
	d.T.Helper()
	for name, want := range d.files {
		got, err := os.ReadFile(filepath.Join(d.Mnt, name))
		switch {
		case errors.Is(err, syscall.EIO):
			failed++
		case err != nil:
			d.T.Errorf("%s: %v", name, err)
		case !bytes.Equal(got, want):
			d.T.Errorf("%s: other data: %x, want %x", name, sha256.Sum256(got), sha256.Sum256(want))
		}
	}
	return failed
}

// expectFault checks that mount, reads and fsck see the damage: the mount works, exactly one file fails, and fsck says so in a line with word.
func (d *damaged) expectFault(what, word string) {
	d.T.Helper()
	d.Mount()
	if failed := d.readAll(); failed != 1 {
		d.T.Errorf("%s: %d files fail, want 1", what, failed)
	}
	online := d.Run("fsck", d.Mnt)
	d.Umount()
	offline := d.Run(append([]string{"fsck", d.Volume}, d.Secret...)...)
	for _, res := range []mounttest.Result{online, offline} {
		if res.Code != exitFaults || !strings.Contains(res.Out, word) || !strings.Contains(res.Out, "inode ") {
			d.T.Errorf("%s: fsck lacks %q: %s", what, word, res)
		}
	}
}

func TestFlippedByteInObject(t *testing.T) {
	d := newDamaged(t)
	for i, object := range d.objects() {
		if i%2 == 1 {
			continue
		}
		b := read(t, object)
		b[len(b)*i/len(d.objects())] ^= 0x10
		write(t, object, b)
		d.expectFault("flipped byte in "+filepath.Base(object), "does not open")
		d.restore()
	}
}

func TestObjectDeletedTruncatedEmptied(t *testing.T) {
	d := newDamaged(t)
	object := d.objects()[0]
	size := int64(len(read(t, object)))
	for what, damage := range map[string]func() error{
		"deleted":            func() error { return os.Remove(object) },
		"emptied":            func() error { return os.Truncate(object, 0) },
		"truncated":          func() error { return os.Truncate(object, size/2) },
		"truncated a little": func() error { return os.Truncate(object, size-1) },
		"zeroed":             func() error { return os.WriteFile(object, make([]byte, size), 0o600) },
		"another's content":  func() error { return os.WriteFile(object, read(t, d.objects()[1]), 0o600) },
		"a symbolic link":    func() error { return errors.Join(os.Remove(object), os.Symlink(d.objects()[1], object)) },
		"a fifo":             func() error { return errors.Join(os.Remove(object), syscall.Mkfifo(object, 0o600)) },
		"a directory":        func() error { return errors.Join(os.Remove(object), os.Mkdir(object, 0o700)) },
		"a hard link":        func() error { return os.Link(object, filepath.Join(d.Dir, "link")) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		d.expectFault(what, "does not open")
		_ = os.Remove(filepath.Join(d.Dir, "link"))
		d.restore()
	}
}

// TestStrayObject puts an object that belongs to no file: it harms nothing, is reported, and removed by --repair.
func TestStrayObject(t *testing.T) {
	d := newDamaged(t)
	name := strings.Repeat("ab", 16)
	stray := filepath.Join(d.Volume, "objects", "ab", name)
	if err := os.MkdirAll(filepath.Dir(stray), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, stray, []byte("stray"))
	fsck := append([]string{"fsck", d.Volume}, d.Secret...)
	if res := d.Run(fsck...); res.Code != exitFaults || !strings.Contains(res.Out, name) {
		t.Errorf("a stray object is not reported: %s", res)
	}
	d.Must(append(fsck, "--repair")...)
	if _, err := os.Stat(stray); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	d.Must(fsck...)
	d.Mount()
	if failed := d.readAll(); failed != 0 {
		t.Errorf("%d files fail", failed)
	}
}

// TestFlippedByteInRows flips bytes all over journal and metadata. Whatever happens is one of these: the mount is refused with a clear error, or every
// file reads as it was written, or fails with EIO, and then fsck finds it.
func TestFlippedByteInRows(t *testing.T) {
	d := newDamaged(t)
	places := d.bytesOf("meta", "journal")
	rng := rand.New(rand.NewPCG(21, 22))
	rounds := 12
	if mounttest.Long() {
		rounds = 400
	}
	refused, failing := 0, 0
	for range rounds {
		p := places[rng.IntN(len(places))]
		at := p.used[rng.IntN(len(p.used))]
		b := read(t, filepath.Join(d.Volume, p.name))
		b[at] ^= 1 << rng.IntN(8)
		write(t, filepath.Join(d.Volume, p.name), b)
		res := d.Run(d.MountArgs()...)
		switch res.Code {
		case 0:
			failed := d.readNames()
			failing += min(failed, 1)
			check := d.Run("fsck", d.Mnt)
			if failed > 0 && check.Code != exitFaults {
				t.Errorf("%s byte %d: %d files fail and fsck finds nothing: %s", p.name, at, failed, check)
			}
			if check.Code != 0 && check.Code != exitFaults && check.Code != exitDamaged {
				t.Errorf("%s byte %d: %s", p.name, at, check)
			}
			d.Run("umount", d.Mnt) // a damaged volume may close with an error; it must close
		case exitDamaged, exitRollback:
			refused++
		default:
			t.Errorf("%s byte %d: %s", p.name, at, res)
		}
		if _, mounted := d.Status(); mounted {
			t.Fatal("still mounted")
		}
		d.restore()
	}
	t.Logf("%d rounds: %d mounts refused, %d with failing files", rounds, refused, failing)
	d.Mount()
	if failed := d.readAll(); failed != 0 {
		t.Errorf("%d files fail after all was put back", failed)
	}
}

// readNames is readAll where names may be gone as well: with EIO, never as if they had not been there.
func (d *damaged) readNames() (failed int) {
	d.T.Helper()
	if _, err := os.ReadDir(d.Mnt); err != nil {
		if !errors.Is(err, syscall.EIO) {
			d.T.Errorf("list: %v", err)
		}
		failed++
	}
	return failed + d.readAll()
}

// place is a file of the volume and the offsets of its bytes that are not zero.
type place struct {
	name string
	used []int
}

func (d *damaged) bytesOf(dirs ...string) []place {
	d.T.Helper()
	var all []place
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(d.Volume, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(d.Volume, path)
			p := place{name: name}
			for i, c := range read(d.T, path) {
				if c != 0 {
					p.used = append(p.used, i)
				}
			}
			if len(p.used) > 0 {
				all = append(all, p)
			}
			return err
		})
		if err != nil {
			d.T.Fatal(err)
		}
	}
	return all
}
