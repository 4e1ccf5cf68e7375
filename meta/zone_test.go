package meta_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

func TestZoneRow(t *testing.T) {
	v := newTree(t)
	z, err := v.Zone(bg, meta.RootZone)
	want(t, "read", err, nil)
	again, err := meta.ReadZone(bg, v.KV, v.ID, v.RowsKey, meta.RootZone)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(z) {
		t.Fatalf("%+v, %v", again, err)
	}
	f := v.file(meta.RootIno, "f")
	z.BlockSize = 65536
	z.Wraps = append(z.Wraps, meta.ZoneWrap{KeyID: "other", Blob: bytes.Repeat([]byte{1}, 8192)})
	_, err = v.PutZone(bg, z)
	want(t, "put", err, nil)
	if g := v.file(meta.RootIno, "g"); f.BlockSize != meta.DefaultBlockSize || g.BlockSize != 65536 {
		t.Fatalf("block sizes %d, %d", f.BlockSize, g.BlockSize)
	}
	var ids []meta.ZoneID
	want(t, "zones", v.Zones(bg, func(z *meta.Zone) bool { ids = append(ids, z.ID); return true }), nil)
	if fmt.Sprint(ids) != "[1]" {
		t.Fatal(ids)
	}
	_, err = v.Zone(bg, 9)
	want(t, "no zone", err, meta.ErrNotFound)
	v.clean()
}

func TestZoneRowRefuses(t *testing.T) {
	v := newTree(t)
	for _, c := range []struct {
		what   string
		change func(z *meta.Zone)
	}{
		{"no id", func(z *meta.Zone) { z.ID = 0 }},
		{"no directory", func(z *meta.Zone) { z.Dir = 0 }},
		{"no wraps", func(z *meta.Zone) { z.Wraps = nil }},
		{"six wraps", func(z *meta.Zone) { z.Wraps = make([]meta.ZoneWrap, 6) }},
		{"no key id", func(z *meta.Zone) { z.Wraps[0].KeyID = "" }},
		{"long key id", func(z *meta.Zone) { z.Wraps[0].KeyID = strings.Repeat("k", 2049) }},
		{"no blob", func(z *meta.Zone) { z.Wraps[0].Blob = nil }},
		{"long blob", func(z *meta.Zone) { z.Wraps[0].Blob = make([]byte, 8193) }},
		{"block size", func(z *meta.Zone) { z.BlockSize = 4097 }},
		{"inline limit", func(z *meta.Zone) { z.Inline = 1 << 20 }},
	} {
		z, err := v.Zone(bg, meta.RootZone)
		want(t, "read", err, nil)
		c.change(z)
		_, err = v.PutZone(bg, z)
		want(t, c.what, err, meta.ErrInvalid)
	}
}

func TestZoneKeys(t *testing.T) {
	v := newTree(t)
	z, err := v.Zone(bg, meta.RootZone)
	want(t, "read", err, nil)
	_, err = z.Keys(v.ID, v.ZoneKey)
	want(t, "the key", err, nil)
	other, err := blockcrypt.NewKey()
	want(t, "new key", err, nil)
	_, err = z.Keys(v.ID, other)
	want(t, "another key", err, meta.ErrAuth)
	volume, err := blockcrypt.NewVolumeID()
	want(t, "new volume id", err, nil)
	_, err = z.Keys(volume, v.ZoneKey)
	want(t, "another volume", err, meta.ErrAuth)
	z.Names[10] ^= 1
	_, err = z.Keys(v.ID, v.ZoneKey)
	want(t, "changed names key", err, meta.ErrAuth)
}

func TestZoneContext(t *testing.T) {
	id := meta.VolumeID{0xab, 15: 1}
	got := fmt.Sprint(meta.ZoneContext(id, 3, 4, "secret plans"))
	if got != "map[kmsfs:dir:4 kmsfs:name:secret plans kmsfs:volume:ab000000000000000000000000000001 kmsfs:zone:3]" {
		t.Fatal(got)
	}
}

// TestCrossZone: nothing is carried from one zone into another.
func TestCrossZone(t *testing.T) {
	v := newTree(t)
	d, f := v.dir(meta.RootIno, "d"), v.file(meta.RootIno, "f")
	z := addZone(t, v, d.Ino, "d")
	g := v.file(d.Ino, "g")
	if g.Zone != z.ID {
		t.Fatalf("%+v", g)
	}
	openKey(t, v.ID, v.Store, g)
	v.clean()
	_, err := v.Link(bg, f.Ino, d.Ino, []byte("x"))
	want(t, "link", err, meta.ErrCrossZone)
	for _, c := range []struct {
		what             string
		from, to         meta.Ino
		oldName, newName string
		flags            meta.RenameFlags
	}{
		{"into a zone", 1, d.Ino, "f", "x", 0},
		{"out of a zone", d.Ino, 1, "g", "x", 0},
		{"exchange", 1, d.Ino, "f", "g", meta.RenameExchange},
		{"the directory of a zone", 1, 1, "d", "e", 0},
	} {
		_, err := v.Rename(bg, c.from, []byte(c.oldName), c.to, []byte(c.newName), c.flags, nil)
		want(t, c.what, err, meta.ErrCrossZone)
	}
	_, err = v.Unlink(bg, d.Ino, []byte("g"), nil)
	want(t, "unlink", err, nil)
	_, err = v.Rmdir(bg, 1, []byte("d"), nil)
	want(t, "rmdir of a zone", err, nil)
	_, err = v.Zone(bg, z.ID)
	want(t, "its row", err, meta.ErrNotFound)
	v.clean()
}

// addZone makes a zone of the empty directory name in the root.
func addZone(t *testing.T, v *tree, dir meta.Ino, name string) *meta.Zone {
	t.Helper()
	return addZoneIn(t, v, meta.RootIno, dir, name)
}

// addZoneIn makes a zone of a directory in parent.
func addZoneIn(t *testing.T, v *tree, parent, dir meta.Ino, name string) *meta.Zone {
	t.Helper()
	key, err := blockcrypt.NewKey()
	want(t, "key", err, nil)
	id, err := v.NewZoneID(bg)
	want(t, "zone id", err, nil)
	z, err := meta.NewZone(v.ID, id, dir, key)
	want(t, "zone", err, nil)
	z.Wraps = []meta.ZoneWrap{{KeyID: "test", Blob: []byte("test")}}
	zk, err := z.Keys(v.ID, key)
	want(t, "keys", err, nil)
	_, err = v.MakeZone(bg, z, zk, parent, []byte(name), []byte("a policy"))
	want(t, "make zone", err, nil)
	v.Keyring.Add(id, zk)
	return z
}

var _ meta.Keyring = (*metatest.Keyring)(nil)
