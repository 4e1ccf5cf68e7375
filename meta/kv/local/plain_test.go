package local

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// TestHostileFiles puts things in place of the store's files that are none: the store is refused, at once, and what they lead to stays as it is.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	opts := create(t)
	s := open(t, opts)
	for i := range 50 {
		put(t, s, string(rune('a'+i)), "value")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	victim := bytes.Repeat([]byte("somebody else's "), 1000)
	things := map[string]func(victim, path string) error{
		"link":        os.Symlink,
		"second name": os.Link,
		"pipe":        func(_, path string) error { return unix.Mkfifo(path, 0o600) },
		"socket":      func(_, path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
		"directory":   func(_, path string) error { return os.Mkdir(path, 0o700) },
	}
	names := []string{"meta/MANIFEST", "meta/KEYREGISTRY", "meta/DISCARD", "meta/000001.sst", "meta/000001.vlog", "meta/00009.mem", "meta/LOCK"}
	for what, put := range things {
		for _, name := range names {
			o := copyStore(t, opts)
			path, other := filepath.Join(o.Dir, name), filepath.Join(t.TempDir(), "victim")
			_ = os.Remove(path)
			if err := errors.Join(os.WriteFile(other, victim, 0o600), put(other, path)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if s, err := Open(ctx, o); err == nil {
				t.Errorf("%s as %s: opens", what, name)
				s.Close()
			} else if !errors.Is(err, kv.ErrCorrupt) {
				t.Errorf("%s as %s: %v", what, name, err)
			}
			if d := time.Since(began); d > 20*time.Second {
				t.Errorf("%s as %s: refused after %v", what, name, d)
			}
			if b, err := os.ReadFile(other); err != nil || !bytes.Equal(b, victim) {
				t.Errorf("%s as %s: the file that it leads to was changed (%v)", what, name, err)
			}
		}
	}
}

// TestHostileSegments does the same to the journal, whose segments are written over.
func TestHostileSegments(t *testing.T) {
	t.Parallel()
	opts := create(t)
	s := open(t, opts)
	put(t, s, "a", "value")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	victim := bytes.Repeat([]byte{7}, int(opts.SegmentSize))
	o := copyStore(t, opts)
	other := filepath.Join(t.TempDir(), "victim")
	if err := errors.Join(os.WriteFile(other, victim, 0o600), os.Link(other, filepath.Join(journalDir(o), "00000099.seg"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, o); !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("a segment with a second name: %v", err)
	}
	for _, dir := range []string{"journal", "meta"} {
		o, another := copyStore(t, opts), copyStore(t, opts)
		path := filepath.Join(o.Dir, dir)
		if err := errors.Join(os.RemoveAll(path), os.Symlink(filepath.Join(another.Dir, dir), path)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(ctx, o); !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("%s is a link: %v", dir, err)
		}
		if err := open(t, another).Close(); err != nil {
			t.Errorf("%s is a link: the store that it leads to: %v", dir, err)
		}
	}
	if b, err := os.ReadFile(other); err != nil || !bytes.Equal(b, victim) {
		t.Errorf("the file behind a segment's second name was changed (%v)", err)
	}
}

// TestManifestGone takes Badger's manifest away: the store is refused, and its tables are still there.
func TestManifestGone(t *testing.T) {
	t.Parallel()
	opts := create(t)
	s := open(t, opts)
	put(t, s, "a", "value")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(metaDir(opts), "MANIFEST")
	if err := os.Rename(manifest, manifest+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, opts); !errors.Is(err, kv.ErrCorrupt) {
		t.Fatal(err)
	}
	if err := os.Rename(manifest+".away", manifest); err != nil {
		t.Fatal(err)
	}
	s = open(t, opts)
	if got := dump(t, s)["a"]; got != "value" {
		t.Errorf("after the manifest is back: %q", got)
	}
}

// TestFilesTooLong makes Badger's small files long: what they would be read as takes gigabytes, or ends the process.
func TestFilesTooLong(t *testing.T) {
	t.Parallel()
	opts := create(t)
	s := open(t, opts)
	put(t, s, "a", "value")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tail := range map[string][]byte{
		"KEYREGISTRY": {0xf0, 0, 0, 0, 1, 2, 3, 4, 5}, // a key of 3.75 GiB
		"DISCARD":     {1},
		"MANIFEST":    bytes.Repeat([]byte{0x7f}, 65<<20),
	} {
		o := copyStore(t, opts)
		f, err := os.OpenFile(filepath.Join(metaDir(o), name), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(tail); errors.Join(err, f.Close()) != nil {
			t.Fatal(err)
		}
		if name == "DISCARD" { // 2^40 bytes, of which there are none
			if err := os.Truncate(f.Name(), 1<<40); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(ctx, o); !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
