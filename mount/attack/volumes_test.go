package attack

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount"
	"github.com/kmsfs/kmsfs/mount/superblock"
)

// members are those of a kmsfs.json, for editing.
type members map[string]any

// editJSON changes members of kmsfs.json.
func (c *scene) editJSON(change func(m members)) {
	c.t.Helper()
	c.edit(c.path("kmsfs.json"), func(b []byte) []byte {
		var m members
		c.must(json.Unmarshal(b, &m))
		change(m)
		out, err := json.Marshal(m)
		c.must(err)
		return out
	})
}

// wrapsOf returns the wraps of the volume key in a volume's kmsfs.json.
func wrapsOf(t *testing.T, dir string) []any {
	t.Helper()
	var m members
	b, err := os.ReadFile(filepath.Join(dir, "kmsfs.json"))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m["volume_key"].([]any)
}

func attackA13(t *testing.T, p *props) {
	foreign := wrapsOf(t, p.other.Dir)[0]
	for what, change := range map[string]func(m members){
		"another volume's wrap":            func(m members) { m["volume_key"] = []any{foreign} },
		"another volume's wrap added":      func(m members) { m["volume_key"] = append(m["volume_key"].([]any), foreign) },
		"another volume's wrap before":     func(m members) { m["volume_key"] = append([]any{foreign}, m["volume_key"].([]any)...) },
		"the wrap twice":                   func(m members) { m["volume_key"] = append(m["volume_key"].([]any), m["volume_key"].([]any)[0]) },
		"more wraps than there may be":     func(m members) { m["volume_key"] = slicesRepeat(m["volume_key"].([]any)[0], 6) },
		"a commitment to another key":      func(m members) { m["commitment"] = strings.Repeat("ab", 32) },
		"secrets of another volume":        func(m members) { m["secrets"] = jsonOf(t, p.other.Dir)["secrets"] },
		"all but the id of another volume": func(m members) { takeAll(m, jsonOf(t, p.other.Dir)) },
	} {
		c := p.scene(t, p.closed)
		c.editJSON(change)
		c.expect(what, expect{refused: mount.ClassDamaged, says: "kmsfs.json"})
	}
	otherRows := readRows(t, p.other.Dir)
	p.rowCases(t, []rowCase{
		{"the zone of another volume, with its wraps", func(c *scene, r, ch rows) expect {
			ch[key('Z', 1)] = otherRows[key('Z', 1)]
			return expect{refused: mount.ClassDamaged, says: "zone"}
		}},
		{"an inode of another volume, with its wraps", func(c *scene, r, ch rows) expect {
			a := key('A', c.number("/dir/three"))
			ch[a] = otherRows[a]
			return expect{rows: true, eio: threePaths}
		}},
	})
}

func slicesRepeat(v any, n int) (out []any) {
	for range n {
		out = append(out, v)
	}
	return out
}

func jsonOf(t *testing.T, dir string) members {
	t.Helper()
	var m members
	b, err := os.ReadFile(filepath.Join(dir, "kmsfs.json"))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func takeAll(m, from members) {
	for k, v := range from {
		if k != "volume" {
			m[k] = v
		}
	}
}

// attackA14 lets the attacker use a CMK of the same key store: he makes a volume key that he knows, and a kmsfs.json with it.
func attackA14(t *testing.T, p *props) {
	c := p.scene(t, p.closed)
	known, err := blockcrypt.NewKey()
	c.must(err)
	defer known.Wipe()
	record, err := p.keys.GetVolume(p.ctx, keymgr.Caller{}, p.other.ID)
	c.must(err)
	wrapped, err := p.keys.Encrypt(p.ctx, keymgr.Caller{}, keymgr.EncryptInput{
		KeyID: record.CMK, Plaintext: known[:], Context: keymgr.Context{"kmsfs:volume": c.s.ID.String()},
	})
	c.must(err)
	sb, err := superblock.New(c.s.ID, known, [][]byte{wrapped.Blob}, time.Now())
	c.must(err)
	raw, err := sb.Marshal()
	c.must(err)
	c.write(c.path("kmsfs.json"), raw)
	c.expect("a superblock with a key of the attacker", expect{refused: mount.ClassDamaged, says: "differs from the key store's copy"})
	// Were he to get it past the copy, the CMK is not the volume's.
	mine, err := p.keys.GetVolume(p.ctx, keymgr.Caller{}, c.s.ID)
	c.must(err)
	forged := mine
	forged.Superblock = raw
	c.must(p.keys.PutVolume(p.ctx, keymgr.Caller{}, forged))
	c.expect("and with the key store's copy replaced", expect{refused: mount.ClassKeyRefused, says: "open the key of volume"})
	c.must(p.keys.PutVolume(p.ctx, keymgr.Caller{}, mine))
}

func attackA18(t *testing.T, p *props) {
	for what, x := range map[string]struct {
		change  func(m members)
		refused mount.Class
	}{
		"version 0":            {func(m members) { m["version"] = 0 }, mount.ClassUnsupported},
		"version 2":            {func(m members) { m["version"] = 2 }, mount.ClassUnsupported},
		"another format":       {func(m members) { m["format"] = "kmsfs key store" }, mount.ClassDamaged},
		"an unknown feature":   {func(m members) { m["features"] = []string{"no-mac"} }, mount.ClassUnsupported},
		"an unknown member":    {func(m members) { m["cipher"] = "none" }, mount.ClassDamaged},
		"another time":         {func(m members) { m["created"] = "2001-01-01T00:00:00Z" }, mount.ClassDamaged},
		"a changed mac":        {func(m members) { m["mac"] = strings.Repeat("00", 32) }, mount.ClassDamaged},
		"another volume id":    {func(m members) { m["volume"] = p.other.ID.String() }, mount.ClassDamaged},
		"an unknown volume id": {func(m members) { m["volume"] = strings.Repeat("ab", 16) }, mount.ClassDamaged},
	} {
		c := p.scene(t, p.closed)
		c.must(c.open().Close(p.ctx)) // so that the key store knows where the volume is
		c.editJSON(x.change)
		c.expect(what, expect{refused: x.refused})
	}
	c := p.scene(t, p.closed)
	c.edit(c.newestSegment(), func(b []byte) []byte { b[11] = 0; return b })
	c.expect("a segment of version 0", expect{refused: mount.ClassDamaged, says: "segment of version 0"})
	p.rowCases(t, []rowCase{
		{"a checkpoint row of version 2", func(c *scene, r, ch rows) expect {
			k := "\x00checkpoint"
			ch[k] = bytes.Clone(r[k])
			ch[k][0] = 2
			return expect{refused: mount.ClassDamaged, says: "checkpoint row of version 2"}
		}},
		{"inline content of version 2, and with a codec", func(c *scene, r, ch rows) expect {
			a, b := key('I', c.number("/small")), key('I', c.number("/inline"))
			ch[a], ch[b] = bytes.Clone(r[a]), bytes.Clone(r[b])
			ch[a][0], ch[b][1] = 2, 1
			return expect{rows: true, eio: []string{"/small", "/inline"}}
		}},
		{"inline content under another epoch", func(c *scene, r, ch rows) expect {
			a := key('I', c.number("/small"))
			ch[a] = bytes.Clone(r[a])
			ch[a][5] = 9
			return expect{rows: true, eio: []string{"/small"}}
		}},
	})
}

// attackA19 lets two clones of one snapshot write the same: no nonce is drawn twice, and no segment key made twice.
func attackA19(t *testing.T, p *props) {
	var objects, segments [2][]byte
	for i := range 2 {
		c := p.scene(t, p.closed)
		c.use(func(m *maker) { m.write(c.ino("/dir/three"), 0, threeSize); m.file(meta.RootIno, "more", 2*block+1) })
		objects[i] = append(c.read(c.object(threeSize)), c.read(c.object(2*block+1))...)
		segments[i] = c.read(c.newestSegment())[48:64]
	}
	for i := 0; i+16 <= min(len(objects[0]), len(objects[1])); i += 16 {
		if bytes.Equal(objects[0][i:i+16], objects[1][i:i+16]) {
			t.Fatalf("the clones wrote the same ciphertext at %d", i)
		}
	}
	if bytes.Equal(segments[0], segments[1]) {
		t.Error("the clones' segments have the same salt")
	}
}

// attackA22: what the lengths of objects and the times of their changes tell is not hidden.
func attackA22(t *testing.T, p *props) {
	inThreatModel(t, "**Traffic analysis**: number of files, their approximate sizes (rounded up to blocks once a file has an object), which blocks change when")
	c := p.scene(t, p.closed)
	object := c.object(manySize) // found by its length alone
	before := c.read(object)
	c.use(func(m *maker) { m.write(c.ino("/dir/many"), 7*block, 10) })
	after := c.read(object)
	for i := range 37 {
		if changed := !bytes.Equal(slot(before, i), slot(after, i)); changed != (i == 7) {
			t.Errorf("block %d changed on the disk: %v", i, changed)
		}
	}
}

func attackA24(t *testing.T, p *props) {
	for _, x := range []struct {
		part string
		want expect
	}{
		{"kmsfs.json", expect{refused: mount.ClassDamaged, says: "checkpoint row is not authentic"}},
		{"meta", expect{refused: mount.ClassDamaged, says: "checkpoint row is not authentic"}},
		{"journal", expect{refused: mount.ClassDamaged, says: "no segment continues checkpoint"}},
	} {
		c := p.scene(t, p.closed)
		if x.part == "kmsfs.json" {
			c.must(copyFile(filepath.Join(p.other.Dir, x.part), c.path(x.part)))
			c.s.ID = p.other.ID // it says that it is that one
		} else {
			c.putOlder(x.part, p.other.Dir)
		}
		c.expect(x.part+" of another volume", x.want)
	}
	c := p.scene(t, p.closed)
	c.putOlder("objects", p.other.Dir)
	c.expect("objects of another volume", expect{
		eio:  append([]string{"/dir/twin", "/dir/many", "/dir/sparse", "/dir/cut", "/dir" + deepDir + "/tail", "/sitting1/slots", "/sitting2/slots"}, threePaths...),
		fsck: c.badBlocks("/dir/three", 0, 1, 2, 3),
	})
	c = p.scene(t, p.closed)
	for _, part := range []string{"meta", "journal", "objects"} {
		c.putOlder(part, p.other.Dir)
	}
	c.expect("all but kmsfs.json of another volume", expect{refused: mount.ClassDamaged, says: "checkpoint row is not authentic"})
	c = p.scene(t, p.closed)
	c.must(errors.Join(os.RemoveAll(c.dir), copyTree(p.other.Dir, c.dir)))
	c.s.Want = p.other.Want
	c.must(p.keys.setAnchor(p.ctx, p.other.ID, p.other.Anchor))
	c.expect("a copy of another volume in its place is that volume", expect{})
}

// deepDir is the path of the directories that fill nests.
var deepDir = func() (path string) {
	for i := range 12 {
		path += fmt.Sprint("/d", i)
	}
	return path
}()

func attackA25(t *testing.T, p *props) {
	rng := rand.New(rand.NewPCG(25, 25))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	for what, b := range map[string][]byte{
		"empty":             {},
		"noise":             noise(1000),
		"10 MiB":            bytes.Repeat([]byte{'{'}, 10<<20),
		"nested 10000 deep": []byte(`{"volume":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + "}"),
		"many wraps":        []byte(`{"format":"kmsfs volume","version":1,"volume_key":[` + strings.Repeat(`"AA",`, 6000) + `"AA"]}`),
		"a huge number":     []byte(`{"format":"kmsfs volume","version":` + strings.Repeat("9", 1000) + "}"),
		"a huge blob":       []byte(`{"format":"kmsfs volume","version":1,"secrets":"` + base64.StdEncoding.EncodeToString(noise(20<<10)) + `"}`),
	} {
		c := p.scene(t, p.closed)
		c.write(c.path("kmsfs.json"), b)
		c.expect("kmsfs.json: "+what, expect{refused: mount.ClassDamaged, says: "kmsfs.json"})
	}
	for what, b := range map[string][]byte{"noise": noise(8000), "ones": bytes.Repeat([]byte{255}, 8000), "zeros": make([]byte, 8000)} {
		for _, name := range append(p.scene(t, p.closed).tables(), "MANIFEST", "KEYREGISTRY") {
			c := p.scene(t, p.closed)
			c.write(c.path("meta", name), b)
			c.expect(name+": "+what, expect{refused: mount.ClassDamaged})
		}
		c := p.scene(t, p.closed)
		c.edit(c.newestSegment(), func(s []byte) []byte { copy(s[512:], b); return s })
		c.expect("records: "+what, expect{refused: mount.ClassDamaged, says: "no segment continues checkpoint"})
	}
	p.malformedRows(t, noise)
}

// malformedRows puts garbage into every kind of row, and under keys of every length.
func (p *props) malformedRows(t *testing.T, noise func(int) []byte) {
	t.Helper()
	kinds := "BCD" // a mount does not get past those of other kinds
	for _, value := range [][]byte{{0}, {1}, noise(17), noise(40), noise(300), noise(100 << 10), bytes.Repeat([]byte{255}, 200)} {
		c := p.scene(t, p.large)
		c.change(func(r, ch rows) {
			for _, kind := range kinds {
				for _, n := range []int{0, 1, 8, 16, 24, 25, 32, 200} {
					ch[string(kind)+string(bytes.Repeat([]byte{0x01}, n))] = value
				}
			}
		})
		c.expect(fmt.Sprintf("strange keys with %d bytes", len(value)), expect{rows: true})
		for _, kind := range "ACDILSX" {
			c := p.scene(t, p.closed)
			c.change(func(r, ch rows) {
				for _, k := range r.of(byte(kind)) {
					ch[k] = value
				}
			})
			c.survives(fmt.Sprintf("all rows %c of %d bytes", kind, len(value)))
		}
	}
}

// survives opens and reads: a refusal, EIO, or what was there by way of the journal.
func (c *scene) survives(what string) {
	c.t.Helper()
	v, err := open(c.r.ctx, c.r.keys, c.dir)
	if err != nil {
		if class := mount.ClassOf(err); class != mount.ClassDamaged && class != mount.ClassRollback {
			c.t.Errorf("%s: refused: %s: %v", what, class, err)
		}
		return
	}
	got := compare(c.r.ctx, v, c.want())
	if len(got.wrong) > 0 {
		c.t.Errorf("%s: other data: %q", what, got.wrong)
	}
	faults := 0
	if _, err := v.Check(c.r.ctx, false, func(mount.Fault) error { faults++; return nil }); err != nil || faults == 0 && len(got.eio) > 0 {
		c.t.Errorf("%s: %d paths fail, fsck finds %d faults, %v", what, len(got.eio), faults, err)
	}
	_ = v.Close(c.r.ctx)
}

func attackTwoDaemons(t *testing.T, p *props) {
	c := p.scene(t, p.closed)
	v := c.open()
	c.expect("a second daemon", expect{refused: mount.ClassInUse})
	c.must(os.Remove(c.path("lock")))
	c.expect("a second daemon, without the lock file", expect{refused: mount.ClassInUse})
	c.opened("the first", expect{}, v)
	c.must(v.Close(p.ctx))
	c.expect("afterwards", expect{})
}
