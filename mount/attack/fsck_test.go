package attack

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/mount"
)

// TestFsckOffline runs `kmsfs fsck` without a mount on volumes that a mount refuses or serves in part: it names what is wrong.
func TestFsckOffline(t *testing.T) {
	t.Setenv("KMSFS_RUNTIME_DIR", t.TempDir())
	r := newRig(t)
	s := r.volume(t, 200)
	for _, x := range []struct {
		name  string
		do    func(c *scene)
		class mount.Class
		fault string // in what is reported, or in the error
	}{
		{"nothing", func(*scene) {}, "", ""},
		{"a block", func(c *scene) { c.edit(c.object(threeSize), func(b []byte) []byte { b[5] ^= 1; return b }) }, mount.ClassFaults, "block 0: block does not open"},
		{"a target, which keeps it from being mounted", func(c *scene) {
			c.change(func(r, ch rows) { ch[key('S', c.number("/link"))] = nil })
		}, mount.ClassFaults, "rows: rows from 49"},
		{"a mark of garbage, which keeps it from checkpoints", func(c *scene) {
			c.change(func(r, ch rows) { ch[key('G', 1, 1)+"\x00"+key(0, 0)[1:]] = []byte("garbage") })
		}, mount.ClassFaults, "rows: rows from "},
		{"a name", func(c *scene) {
			c.change(func(r, ch rows) { ch[r.of('D', c.number("/sitting1"))[0]] = nil })
		}, mount.ClassFaults, "rows: rows from 44"},
		{"an object that is a link", func(c *scene) {
			object := c.object(threeSize)
			c.must(hostileThings["link to a device"](moved(c, object)))
		}, mount.ClassFaults, "not an object"},
		{"a table", func(c *scene) {
			c.edit(c.path("meta", c.tables()[0]), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, mount.ClassDamaged, ".sst"},
		{"kmsfs.json", func(c *scene) { c.editJSON(func(m members) { m["mac"] = strings.Repeat("0", 64) }) }, mount.ClassDamaged, "kmsfs.json"},
	} {
		c := r.scene(t, s)
		x.do(c)
		var told []string
		_, err := mount.Check(r.ctx, mount.CheckConfig{Target: c.dir, KeyStore: r.keys.dir}, func(f mount.Fault) error {
			told = append(told, f.Where+": "+f.What)
			return nil
		})
		if class := mount.ClassOf(err); class != x.class {
			t.Errorf("%s: %s: %v", x.name, class, err)
		}
		all := strings.Join(told, "\n")
		if err != nil && !errors.Is(err, mount.ErrFaults) {
			all += err.Error()
		}
		if !strings.Contains(all, x.fault) || x.class == "" && all != "" {
			t.Errorf("%s: fsck says\n%s\nwant %q", x.name, all, x.fault)
		}
	}
}

// moved moves a file away and returns its path.
func moved(c *scene, path string) string {
	c.write(path+".moved", c.read(path))
	c.must(os.Remove(path))
	return path
}

// TestRowsKept: a row that does not open and that fsck --repair cannot repair is kept aside as it lay there, also when it is gone from its place.
func TestRowsKept(t *testing.T) {
	r := newRig(t)
	c := r.scene(t, r.volume(t, 0))
	v := c.open()
	row, bad := []byte(key('X', c.number("/small"))+strings.Repeat("x", 16)), []byte("no sealed value")
	_, err := v.Journal().Update(r.ctx, kv.OpID{}, func(tx kv.Txn) error { tx.Put(row, bad); return nil })
	c.must(err)
	var faults []mount.Fault
	_, err = v.Check(r.ctx, true, func(f mount.Fault) error {
		faults = append(faults, f)
		return nil
	})
	c.must(err)
	if len(faults) == 0 || slices.ContainsFunc(faults, func(f mount.Fault) bool { return !f.Kept }) {
		t.Fatalf("faults: %+v", faults)
	}
	_, err = v.Journal().Update(r.ctx, kv.OpID{}, func(tx kv.Txn) error { tx.Delete(row); return nil })
	c.must(err)
	c.must(v.Close(r.ctx))
	v = c.open()
	kept, err := v.Meta().Kept(r.ctx)
	c.must(err)
	if !slices.ContainsFunc(kept, func(k *meta.Kept) bool { return bytes.Equal(k.Key, row) && bytes.Equal(k.Value, bad) }) {
		t.Errorf("kept: %+v", kept)
	}
	sum, err := v.Check(r.ctx, true, func(f mount.Fault) error { t.Errorf("%+v", f); return nil })
	if kept, kerr := v.Meta().Kept(r.ctx); err != nil || kerr != nil || len(kept) > 0 || sum.Kept > 0 {
		t.Errorf("once it is gone: %+v, %v, %v", kept, err, kerr)
	}
	c.must(v.Close(r.ctx))
}
