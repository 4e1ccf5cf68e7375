package meta_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

// newFullTree is a volume with a row of every sealed kind.
func newFullTree(t *testing.T) *tree { return fullTreeOn(t, metatest.NewVolume(t)) }

func fullTreeOn(t *testing.T, volume *metatest.Volume) *tree {
	v := &tree{volume, t}
	d := v.dir(meta.RootIno, "d")
	f := v.file(d.Ino, "f")
	v.mk(d.Ino, "s", meta.ModeSymlink|0o777)
	_, err := v.Link(bg, f.Ino, meta.RootIno, []byte("l"))
	want(t, "link", err, nil)
	want(t, "xattr", v.SetXattr(bg, f.Ino, "user.a", []byte("value"), 0), nil)
	_, err = v.Update(bg, func(tx *meta.Tx) error {
		if err := putBlock(tx, f.Ino, 3, 1); err != nil {
			return err
		}
		return tx.PutGarbage(meta.Garbage{Ino: f.Ino, Serial: 1, Op: meta.GarbagePunch, First: 9, Count: 2})
	})
	want(t, "write", err, nil)
	_, err = v.Tmpfile(bg, d.Ino, meta.NewNode{Mode: meta.ModeRegular})
	want(t, "tmpfile", err, nil)
	return v
}

const sealedKinds = "ACDGLNOSXZ"

// readAll reads every row of the volume that holds data by the operations that users have, and returns the first error.
func readAll(s *meta.Store) error {
	if _, err := s.Zone(bg, meta.RootZone); err != nil {
		return err
	}
	err := s.Orphans(bg, func(ino meta.Ino) error { _, err := s.Getattr(bg, ino); return err })
	if err != nil {
		return err
	}
	err = s.View(bg, func(tx *meta.Tx) error {
		return tx.ScanGarbage(meta.Garbage{}, func(meta.Garbage) bool { return true })
	})
	if err != nil {
		return err
	}
	if _, err := s.Create(bg, meta.RootIno, []byte("new"), meta.NewNode{Mode: meta.ModeFIFO}); err != nil {
		return err
	}
	return readDirs(s, meta.RootIno)
}

// readDirs reads everything in and below a directory; the last link of an inode is removed to reach its link rows.
func readDirs(s *meta.Store, dir meta.Ino) error {
	list, err := s.ReadDirPlus(bg, dir, 0, 100)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Type == meta.ModeDir {
			if err := readDirs(s, e.Ino); err != nil {
				return err
			}
			continue
		}
		if err := readNode(s, e.Attr); err != nil {
			return err
		}
		if _, err := s.Unlink(bg, dir, e.Name, nil); err != nil {
			return err
		}
	}
	return nil
}

func readNode(s *meta.Store, a *meta.Attr) error {
	if a.Type() == meta.ModeSymlink {
		if _, err := s.Readlink(bg, a.Ino); err != nil {
			return err
		}
	}
	names, err := s.ListXattr(bg, a.Ino)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := s.GetXattr(bg, a.Ino, name); err != nil {
			return err
		}
	}
	if !a.IsRegular() {
		return nil
	}
	if _, err := s.UnwrapDEK(bg, a, a.Epoch); err != nil {
		return err
	}
	return s.View(bg, func(tx *meta.Tx) error {
		return tx.ScanMap(a.Ino, 0, func(uint64, *meta.MapRow) bool { return true })
	})
}

// TestFlipEveryByte changes every byte of every sealed row once. Check names the row as not authentic, and nothing else about it.
func TestFlipEveryByte(t *testing.T) {
	v := newFullTree(t)
	for _, r := range rows(t, v.KV, 0) {
		if !bytes.Contains([]byte(sealedKinds), r.key[:1]) {
			t.Fatalf("row %x is not sealed", r.key)
		}
		for i := range r.value {
			bad := bytes.Clone(r.value)
			bad[i] ^= 1 << (i % 8)
			putRow(t, v.KV, r.key, bad)
			v.onlyFault(meta.FaultAuth, r.key, i)
		}
		for _, n := range []int{1, 39, 40, len(r.value) - 1} {
			putRow(t, v.KV, r.key, r.value[:n])
			v.onlyFault(meta.FaultAuth, r.key, n)
		}
		putRow(t, v.KV, r.key, r.value)
	}
	v.clean()
}

// onlyFault fails unless Check finds a fault of that class in that row. Rows that depend on it may be reported too, but not as tampered with.
func (v *tree) onlyFault(class meta.FaultClass, key []byte, at int) {
	v.t.Helper()
	found := false
	_, err := v.Check(bg, meta.CheckOptions{Keys: true, Paths: true}, func(f meta.Fault) {
		switch {
		case f.Class == class && bytes.Equal(f.Row, key):
			found = true
		case f.Class == class:
			v.t.Errorf("row %x, byte %d: also %v", key, at, f)
		}
	})
	if err != nil || !found {
		v.t.Fatalf("row %x, byte %d: not found, %v", key, at, err)
	}
}

// TestFlippedRowsAreNotServed reads everything after one byte of each row was changed: ErrAuth, whatever the caches hold.
func TestFlippedRowsAreNotServed(t *testing.T) {
	for _, kind := range sealedKinds {
		for i := range rows(t, newFullTree(t).KV, byte(kind)) {
			t.Run(fmt.Sprintf("%c%d", kind, i), func(t *testing.T) {
				v := newFullTree(t)
				r := rows(t, v.KV, byte(kind))[i]
				r.value[30] ^= 1
				putRow(t, v.KV, r.key, r.value)
				s := v.Open(t, meta.Config{})
				var err error
				switch kind {
				case 'L': // read when the primary link goes
					d, derr := s.Lookup(bg, meta.RootIno, []byte("d"))
					want(t, "lookup", derr, nil)
					_, err = s.Unlink(bg, d.Ino, []byte("f"), nil)
				default:
					err = readAll(s)
				}
				want(t, "read all", err, meta.ErrAuth)
			})
		}
	}
}

// TestMovedRowsDoNotOpen puts the value of every row under the key of every other row of its kind.
func TestMovedRowsDoNotOpen(t *testing.T) {
	v := newFullTree(t)
	for _, kind := range sealedKinds {
		list := rows(t, v.KV, byte(kind))
		for i := range list {
			j := (i + 1) % len(list)
			to := list[j].key
			if i == j { // the only one: it goes to another key of its shape
				to = bytes.Clone(to)
				to[len(to)-1] ^= 1
			}
			putRow(t, v.KV, to, list[i].value)
			if i != j {
				v.onlyFault(meta.FaultAuth, to, i)
				putRow(t, v.KV, to, list[j].value)
				continue
			}
			found := false
			_, err := v.Check(bg, meta.CheckOptions{Keys: true}, func(f meta.Fault) { found = found || bytes.Equal(f.Row, to) })
			if err != nil || !found {
				t.Fatalf("row %x moved to %x: not found, %v", list[i].key, to, err)
			}
			putRow(t, v.KV, to, nil)
		}
	}
	v.clean()
}

func TestRowsOfAnotherVolume(t *testing.T) {
	v, other := newFullTree(t), newFullTree(t)
	for _, r := range rows(t, other.KV, 'A') {
		putRow(t, v.KV, r.key, r.value)
	}
	_, err := v.Open(t, meta.Config{}).Getattr(bg, meta.RootIno)
	want(t, "root of another volume", err, meta.ErrAuth)
}

func TestShapeIsNotTampering(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	reseal(t, v.Volume, inodeKey('A', f.Ino), func(plain []byte) []byte { plain[0] = 9; return plain })
	_, err := v.Getattr(bg, f.Ino)
	want(t, "unknown version", err, meta.ErrCorrupt)
	if errors.Is(err, meta.ErrAuth) {
		t.Fatal("and it is called tampering")
	}
}
