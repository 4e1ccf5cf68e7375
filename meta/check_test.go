package meta_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

// damage is one thing wrong with the volume of newFullTree, and what Check must say of it.
type damage struct {
	what   string
	do     func(v *tree, in map[string]meta.Ino)
	class  meta.FaultClass
	noKeys bool // seen without the zone's keys, too
}

// delete the only row of a kind that belongs to ino, or any if ino is 0.
func dropRow(kind byte, ino func(in map[string]meta.Ino) meta.Ino) func(*tree, map[string]meta.Ino) {
	return func(v *tree, in map[string]meta.Ino) {
		for _, r := range rows(v.t, v.KV, kind) {
			if ino == nil || bytes.Equal(r.key[1:9], beUint64(uint64(ino(in)))) {
				putRow(v.t, v.KV, r.key, nil)
				v.Store = v.Open(v.t, meta.Config{})
				return
			}
		}
		v.t.Fatalf("no row of kind %c", kind)
	}
}

// of is for dropRow: the inode with a name.
func of(name string) func(map[string]meta.Ino) meta.Ino {
	return func(in map[string]meta.Ino) meta.Ino { return in[name] }
}

// patch changes bytes of the inode row of a name.
func patch(name string, off int, b ...byte) func(*tree, map[string]meta.Ino) {
	return func(v *tree, in map[string]meta.Ino) {
		reseal(v.t, v.Volume, inodeKey('A', in[name]), func(plain []byte) []byte {
			copy(plain[off:], b)
			return plain
		})
	}
}

// Offsets in an inode row (docs/FORMAT.md, section 7).
const (
	offSize      = offNlink + 4
	offAllocated = offSize + 8
	offZone      = offAllocated + 8 + 48 + 4
	offParent    = offZone + 8
	offXattrs    = offParent + 8 + 16 + 1 + 7 + 8 + 4
)

func update(fn func(tx *meta.Tx, in map[string]meta.Ino) error) func(*tree, map[string]meta.Ino) {
	return func(v *tree, in map[string]meta.Ino) {
		_, err := v.Update(bg, func(tx *meta.Tx) error { return fn(tx, in) })
		want(v.t, "damage", err, nil)
	}
}

// content changes a file's inode and its only block together, as the content engine must not.
func content(fn func(tx *meta.Tx, a *meta.Attr, m *meta.MapRow) error) func(*tree, map[string]meta.Ino) {
	return update(func(tx *meta.Tx, in map[string]meta.Ino) error {
		a, err := tx.Attr(in["f"])
		if err != nil {
			return err
		}
		m, err := tx.MapRow(a.Ino, 0)
		if err != nil {
			return err
		}
		return fn(tx, a, m)
	})
}

var damages = []damage{
	{"inode row gone", dropRow('A', of("f")), meta.FaultDentry, true},
	{"inode row gone, seen by its map", dropRow('A', of("f")), meta.FaultStray, true},
	{"dentry gone", dropRow('D', of("d")), meta.FaultLink, true},
	{"link row gone", dropRow('L', nil), meta.FaultLinkCount, true},
	{"orphan row gone", dropRow('O', nil), meta.FaultOrphan, true},
	{"orphan row of a named inode", func(v *tree, in map[string]meta.Ino) {
		reseal(v.t, v.Volume, inodeKey('O', in["f"]), func([]byte) []byte { return []byte{1} })
	}, meta.FaultOrphan, true},
	{"link count", patch("f", offNlink+3, 9), meta.FaultLinkCount, true},
	{"link count of a directory", patch("d", offNlink+3, 9), meta.FaultLinkCount, true},
	{"map row gone", dropRow('C', nil), meta.FaultAllocated, true},
	{"allocated", patch("f", offAllocated, beUint64(8192)...), meta.FaultAllocated, true},
	{"file ends before its block", patch("f", offSize, beUint64(3*4096)...), meta.FaultMap, true},
	{"file ends within its block", patch("f", offSize, beUint64(4*4096-1)...), meta.FaultMap, true},
	{"epoch without wrap", content(func(tx *meta.Tx, a *meta.Attr, m *meta.MapRow) error {
		m[3].Epoch = 7
		return tx.PutMapRow(a.Ino, 0, m)
	}), meta.FaultMap, true},
	{"block longer than the block size", content(func(tx *meta.Tx, a *meta.Attr, m *meta.MapRow) error {
		m[3].PlainLen, m[3].StoredLen = 8192, 8192
		return tx.PutMapRow(a.Ino, 0, m)
	}), meta.FaultMap, true},
	{"map row of a file without slots", content(func(tx *meta.Tx, a *meta.Attr, m *meta.MapRow) error {
		a.Layout, a.Allocated = meta.LayoutInline, 0
		return tx.PutAttr(a)
	}), meta.FaultStray, true},
	{"image without entry", content(func(tx *meta.Tx, a *meta.Attr, _ *meta.MapRow) error {
		return tx.PutImage(a.Ino, 1, make([]byte, meta.ImageHeader+4096))
	}), meta.FaultImage, true},
	{"image of something else", content(func(tx *meta.Tx, a *meta.Attr, _ *meta.MapRow) error {
		return tx.PutImage(a.Ino, 3, make([]byte, meta.ImageHeader+4096))
	}), meta.FaultImage, true},
	{"image of no inode", update(func(tx *meta.Tx, _ map[string]meta.Ino) error {
		return tx.PutImage(999, 3, make([]byte, meta.ImageHeader+4096))
	}), meta.FaultStray, true},
	{"inline row of a file with slots", content(func(tx *meta.Tx, a *meta.Attr, _ *meta.MapRow) error {
		return tx.PutInline(a.Ino, meta.Inline{Epoch: 1, Sealed: make([]byte, 28)})
	}), meta.FaultStray, true},
	{"inline row under no epoch", update(func(tx *meta.Tx, in map[string]meta.Ino) error {
		return tx.PutInline(in["tmp"], meta.Inline{Epoch: 9, Sealed: make([]byte, 28)})
	}), meta.FaultContent, true},
	{"garbage in use", content(func(tx *meta.Tx, a *meta.Attr, _ *meta.MapRow) error {
		return tx.PutGarbage(meta.Garbage{Ino: a.Ino, Serial: a.Serial})
	}), meta.FaultGarbage, true},
	{"target gone", dropRow('S', nil), meta.FaultContent, true},
	{"target of another length", patch("s", offSize, beUint64(2)...), meta.FaultContent, false},
	{"xattr gone", dropRow('X', nil), meta.FaultXattr, false},
	{"xattr list", patch("f", offXattrs+3, 9), meta.FaultXattr, false},
	{"zone gone", dropRow('Z', nil), meta.FaultZone, true},
	{"inode in no zone", patch("f", offZone+7, 9), meta.FaultZone, true},
	{"counter gone", dropRow('N', nil), meta.FaultCounter, true},
	{"counter behind", func(v *tree, _ map[string]meta.Ino) {
		reseal(v.t, v.Volume, []byte("Ninode"), func([]byte) []byte { return append([]byte{1}, beUint64(2)...) })
	}, meta.FaultCounter, true},
	{"unknown counter", func(v *tree, _ map[string]meta.Ino) {
		reseal(v.t, v.Volume, []byte("Nother"), func([]byte) []byte { return append([]byte{1}, beUint64(2)...) })
	}, meta.FaultUnknown, true},
	{"unknown kind", func(v *tree, _ map[string]meta.Ino) { putRow(v.t, v.KV, []byte("q1"), []byte("x")) }, meta.FaultUnknown, true},
	{"key too long", func(v *tree, in map[string]meta.Ino) {
		putRow(v.t, v.KV, append(inodeKey('A', in["f"]), 0), []byte("x"))
	}, meta.FaultFormat, true},
	{"unknown version", patch("f", 0, 9), meta.FaultFormat, true},
	{"marker of unknown version", func(v *tree, in map[string]meta.Ino) { putRow(v.t, v.KV, meta.MarkerKey(in["f"]), []byte{2}) }, meta.FaultFormat, true},
	{"parent is a file", patch("s", offParent, beUint64(999)...), meta.FaultParent, true},
	{"directory loop", func(v *tree, in map[string]meta.Ino) {
		patch("d", offParent, beUint64(uint64(in["e"]))...)(v, in)
		patch("e", offParent, beUint64(uint64(in["d"]))...)(v, in)
	}, meta.FaultParent, true},
	{"root gone", dropRow('A', func(map[string]meta.Ino) meta.Ino { return 1 }), meta.FaultParent, true},
}

// names returns the inodes of newFullTree and two more directories.
func (v *tree) names() map[string]meta.Ino {
	in := map[string]meta.Ino{"e": v.dir(meta.RootIno, "e").Ino}
	for _, path := range []string{"d", "d/f", "d/s"} {
		at := meta.RootIno
		for _, name := range strings.Split(path, "/") {
			a, err := v.Lookup(bg, at, []byte(name))
			want(v.t, "lookup", err, nil)
			at = a.Ino
			in[name] = at
		}
	}
	want(v.t, "orphans", v.Orphans(bg, func(ino meta.Ino) error { in["tmp"] = ino; return nil }), nil)
	return in
}

func TestCheckFinds(t *testing.T) {
	for _, d := range damages {
		t.Run(d.what, func(t *testing.T) {
			v := newFullTree(t)
			in := v.names()
			v.clean()
			d.do(v, in)
			for _, keys := range []bool{true, false} {
				var found []string
				ok := false
				report, err := v.Check(bg, meta.CheckOptions{Keys: keys, Paths: keys}, func(f meta.Fault) {
					found = append(found, f.String())
					ok = ok || f.Class == d.class
				})
				want(t, "check", err, nil)
				if ok != (keys || d.noKeys) || report.Faults != uint64(len(found)) {
					t.Errorf("keys %v: want %s, found %d:\n%s", keys, d.class, report.Faults, strings.Join(found, "\n"))
				}
			}
		})
	}
}

func TestCheckCounts(t *testing.T) {
	v := newFullTree(t)
	r, err := v.Check(bg, meta.CheckOptions{Keys: true}, func(f meta.Fault) { t.Error(f) })
	want(t, "check", err, nil)
	if r.Inodes != 5 || r.Directories != 2 || r.Files != 2 || r.Orphans != 1 || r.Rows != uint64(countRows(t, v.KV, 0)) {
		t.Fatalf("%+v", r)
	}
}

func TestCheckNamesThePath(t *testing.T) {
	v := newFullTree(t)
	in := v.names()
	patch("f", offAllocated, beUint64(8192)...)(v, in)
	var got meta.Fault
	_, err := v.Check(bg, meta.CheckOptions{Keys: true, Paths: true}, func(f meta.Fault) { got = f })
	want(t, "check", err, nil)
	if got.Path != `"/d/f"` || got.Ino != in["f"] || strings.Contains(got.Detail, "f\"") {
		t.Fatalf("%+v", got)
	}
}

// TestCheckWithoutKeys: a zone whose keys are gone is still checked for its structure.
func TestCheckWithoutKeys(t *testing.T) {
	v := newFullTree(t)
	v.Keyring.Fail(meta.ErrKeyRevoked)
	r, err := v.Check(bg, meta.CheckOptions{Keys: true, Paths: true}, func(f meta.Fault) { t.Error(f) })
	if err != nil || r.Closed != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	v.Keyring.Fail(nil)
	in := v.names()
	patch("f", offNlink+3, 9)(v, in)
	v.Keyring.Fail(meta.ErrKeyUnavailable)
	r, err = v.Check(bg, meta.CheckOptions{Keys: true, Paths: true}, func(meta.Fault) {})
	if err != nil || r.Faults != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
}
