package attack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount"
)

// putOlder replaces a part of the volume by that of a copy.
func (c *scene) putOlder(part, from string) {
	c.t.Helper()
	c.must(os.RemoveAll(c.path(part)))
	c.must(copyTree(filepath.Join(from, part), c.path(part)))
}

func attackA7(t *testing.T, p *props) {
	last := len(p.closed.Before) - 1
	for i, before := range p.closed.Before[:last] {
		c := p.scene(t, p.closed)
		c.must(errors.Join(os.RemoveAll(c.dir), copyTree(before, c.dir)))
		c.expect(fmt.Sprint("whole volume of sitting ", i), expect{refused: mount.ClassRollback, says: "does not contain head"})
		c = p.scene(t, p.closed)
		c.putOlder("meta", before)
		c.expect(fmt.Sprint("meta of sitting ", i, ", from where the journal goes on"), expect{})
		c = p.scene(t, p.closed)
		c.putOlder("journal", before)
		c.expect(fmt.Sprint("journal of sitting ", i), expect{refused: mount.ClassDamaged, says: "no segment continues checkpoint"})
		c = p.scene(t, p.closed)
		c.putOlder("meta", before)
		c.putOlder("journal", before)
		c.expect(fmt.Sprint("meta and journal of sitting ", i), expect{refused: mount.ClassRollback, says: "does not contain head"})
	}
	c := p.scene(t, p.closed)
	c.putOlder("objects", p.closed.Before[last-1])
	lost := c.ino("/sitting2/slots")
	c.expect("older objects", expect{eio: []string{"/sitting2/slots"}, fsck: []string{fmt.Sprintf("inode %d block 0 | does not open", lost)}})
	c = p.scene(t, p.killed)
	c.must(errors.Join(os.RemoveAll(c.dir), copyTree(p.closed.Dir, c.dir)))
	c.expect("volume of before the process died", expect{refused: mount.ClassRollback, says: "does not contain head"})
	c = p.scene(t, p.killed)
	c.putOlder("journal", p.closed.Dir)
	c.expect("journal of before the process died", expect{refused: mount.ClassDamaged, says: "no segment continues checkpoint"})
	restoreAccepted(t, p)
	branchRefused(t, p)
	windowOpen(t, p)
}

// restoreAccepted: an operator may accept an older volume, which the key-use log has; from then on it is the newer one that is refused.
func restoreAccepted(t *testing.T, p *props) {
	c := p.scene(t, p.closed)
	newer := c.copy()
	c.must(errors.Join(os.RemoveAll(c.dir), copyTree(p.closed.Before[1], c.dir)))
	cfg := openConfig(p.keys, c.dir)
	cfg.AcceptRestore = true
	v, err := mount.OpenVolume(p.ctx, cfg)
	c.must(err)
	if _, err := v.Meta().Lookup(p.ctx, meta.RootIno, []byte("sitting2")); !errors.Is(err, meta.ErrNotFound) {
		t.Errorf("the older volume has what came later: %v", err)
	}
	c.must(v.Close(p.ctx))
	told := 0
	c.must(trail.Search(p.ctx, filepath.Join(p.keys.dir, "audit"), trail.Query{Name: "RestoreAnchor"}, func(f trail.Found) error {
		if strings.Contains(f.Event.Detail, "--accept-restore") && strings.Contains(f.Event.Detail, c.s.ID.String()) {
			told++
		}
		return nil
	}))
	if told == 0 {
		t.Error("the audit log does not tell of the restore")
	}
	c.must(errors.Join(os.RemoveAll(c.dir), copyTree(newer.Dir, c.dir)))
	c.expect("the newer one after a restore", expect{refused: mount.ClassRollback, says: "goes on"})
}

// branchRefused: of two copies that were both written to, the key store follows one.
func branchRefused(t *testing.T, p *props) {
	c := p.scene(t, p.closed)
	branch := c.copy()
	c.use(func(m *maker) { m.file(meta.RootIno, "one", 10) })
	anchor := c.s.Anchor
	c.must(p.keys.setAnchor(p.ctx, c.s.ID, branch.Anchor))
	other := &scene{t: t, r: c.r, s: branch, dir: branch.Dir}
	other.use(func(m *maker) { m.file(meta.RootIno, "two", 10); m.file(meta.RootIno, "three", 10) })
	c.must(p.keys.setAnchor(p.ctx, c.s.ID, anchor))
	other.expect("another branch, longer", expect{refused: mount.ClassRollback, says: "does not contain head"})
	c.expect("the branch that the key store knows", expect{})
}

// windowOpen: after a crash, a state at or after the last anchor is accepted, though something newer existed.
func windowOpen(t *testing.T, p *props) {
	loose := p.rig.killed(t, p.closed, false)
	c := p.scene(t, loose)
	segment := c.newestSegment()
	c.edit(segment, func(b []byte) []byte {
		end := len(strings.TrimRight(string(b), "\x00"))
		b[end-1] ^= 1
		return b
	})
	v := c.open()
	outcome, detail := against(p.ctx, v, c.s.Want)
	if outcome != older {
		t.Errorf("a journal that lost its end after the anchor: %s %v", outcome, detail)
	}
	c.must(v.Close(p.ctx))
	c.inThreatModel("after a crash, a state at or after the last anchor is accepted, though something newer may have existed.")
	c = p.scene(t, p.killed)
	c.edit(c.newestSegment(), func(b []byte) []byte {
		b[len(strings.TrimRight(string(b), "\x00"))-1] ^= 1
		return b
	})
	c.expect("a journal that lost its end, of which the key store knows", expect{refused: mount.ClassRollback, says: "does not contain head"})
}

// newestSegment returns the path of the segment that holds the end of the journal: the one with the highest number in its header.
func (c *scene) newestSegment() (newest string) {
	c.t.Helper()
	names, err := filepath.Glob(c.path("journal", "*.seg"))
	c.must(err)
	number := ""
	for _, name := range names {
		if b := c.read(name); string(b[:8]) == "kmsfsjnl" && string(b[32:40]) > number {
			newest, number = name, string(b[32:40])
		}
	}
	if newest == "" {
		c.t.Fatal("no segment")
	}
	return newest
}

// change reads the rows, has some changed, and writes those.
func (c *scene) change(fn func(r, changes rows)) {
	c.t.Helper()
	r, changes := readRows(c.t, c.dir), rows{}
	fn(r, changes)
	writeRows(c.t, c.dir, changes)
}

func (c *scene) number(name string) uint64 { return uint64(c.ino(name)) }

func exchange(r, changes rows, a, b string) { changes[a], changes[b] = r[b], r[a] }

// rowCase is a change of rows, and what must come of it.
type rowCase struct {
	name string
	do   func(c *scene, r, changes rows) expect
}

func (p *props) rowCases(t *testing.T, cases []rowCase) {
	for _, x := range cases {
		c := p.scene(t, p.large)
		var want expect
		c.change(func(r, changes rows) { want = x.do(c, r, changes) })
		c.expect(x.name, want)
	}
}

// tampered is what the refusal says where rows are not those of the last checkpoint. Links, counter, orphans and targets are few, and so near each
// other in the order of keys that a mount, which looks for orphans, does not get past any of them.
const tampered = "are not those of the last checkpoint"

func attackA8(t *testing.T, p *props) {
	sittings := []string{"/sitting1", "/sitting1/inline", "/sitting1/slots"}
	p.rowCases(t, []rowCase{
		{"names of a directory", func(c *scene, r, ch rows) expect {
			d := r.of('D', c.number("/sitting1"))
			exchange(r, ch, d[0], d[1])
			return expect{rows: true, eio: sittings}
		}},
		{"a name copied to another directory", func(c *scene, r, ch rows) expect {
			d := r.of('D', c.number("/sitting1"))[0]
			to := key('D', c.number("/sitting2")) + d[9:]
			ch[to] = r[d]
			return expect{rows: true, eio: []string{"/sitting2"}}
		}},
		{"inodes", func(c *scene, r, ch rows) expect {
			a, b := key('A', c.number("/sitting1/slots")), key('A', c.number("/sitting2/slots"))
			exchange(r, ch, a, b)
			return expect{rows: true, eio: []string{"/sitting1/slots", "/sitting2/slots"}}
		}},
		{"maps", func(c *scene, r, ch rows) expect {
			a, b := key('C', c.number("/dir/three"), 0), key('C', c.number("/dir/twin"), 0)
			exchange(r, ch, a, b)
			return expect{rows: true, eio: append([]string{"/dir/twin"}, threePaths...)}
		}},
		{"maps inside a file", func(c *scene, r, ch rows) expect {
			a, b := key('C', c.number("/dir/many"), 0), key('C', c.number("/dir/many"), 1)
			exchange(r, ch, a, b)
			return expect{rows: true, eio: []string{"/dir/many"}}
		}},
		{"inline contents", func(c *scene, r, ch rows) expect {
			a, b := key('I', c.number("/small")), key('I', c.number("/inline"))
			exchange(r, ch, a, b)
			return expect{rows: true, eio: []string{"/small", "/inline"}}
		}},
		{"targets", func(c *scene, r, ch rows) expect {
			a, b := key('S', c.number("/link")), key('S', c.number("/link2"))
			exchange(r, ch, a, b)
			return expect{refused: mount.ClassDamaged, says: tampered}
		}},
		{"xattrs", func(c *scene, r, ch rows) expect {
			x := r.of('X', c.number("/dir/three"))
			exchange(r, ch, x[0], x[1])
			return expect{rows: true, eio: threePaths}
		}},
		{"a hard link copied to another directory", func(c *scene, r, ch rows) expect {
			l := r.one(t, 'L', c.number("/dir/three"))
			to := key('L', c.number("/dir/three"), c.number("/sitting2")) + l[17:]
			ch[to] = r[l]
			return expect{refused: mount.ClassDamaged, says: tampered}
		}},
		{"the zone under another number", func(c *scene, r, ch rows) expect {
			ch[key('Z', 2)] = r[key('Z', 1)]
			return expect{refused: mount.ClassDamaged, says: tampered}
		}},
		{"a mark that makes a file an orphan", func(c *scene, r, ch rows) expect {
			ch[key('O', c.number("/dir/three"))] = r[r.one(t, 'L', c.number("/dir/three"))]
			return expect{refused: mount.ClassDamaged, says: tampered}
		}},
		{"a mark that makes an object garbage", func(c *scene, r, ch rows) expect {
			g := key('G', c.number("/dir/three"), 1) + "\x00" + key(0, 0)[1:]
			ch[g] = r[r.one(t, 'L', c.number("/dir/three"))]
			return expect{rows: true}
		}},
	})
}

func attackA12(t *testing.T, p *props) {
	c := p.scene(t, p.large)
	a, b := c.object(threeSize), c.object(twinSize)
	c.must(errors.Join(os.Rename(a, a+"x"), os.Rename(b, a), os.Rename(a+"x", b)))
	c.change(func(r, ch rows) {
		exchange(r, ch, key('A', c.number("/dir/three")), key('A', c.number("/dir/twin")))
		exchange(r, ch, key('C', c.number("/dir/three"), 0), key('C', c.number("/dir/twin"), 0))
	})
	c.expect("all of two files", expect{rows: true, eio: append([]string{"/dir/twin"}, threePaths...)})
}

// attackRemovedRows removes rows, one at a time, while nobody has the volume open.
func attackRemovedRows(t *testing.T, p *props) {
	p.rowCases(t, []rowCase{
		{"a name", func(c *scene, r, ch rows) expect {
			ch[r.of('D', c.number("/sitting1"))[0]] = nil
			return expect{rows: true, eio: []string{"/sitting1", "/sitting1/slots", "/sitting1/inline"}}
		}},
		{"an inode", func(c *scene, r, ch rows) expect {
			ch[key('A', c.number("/sitting1/slots"))] = nil
			return expect{rows: true, eio: []string{"/sitting1/slots"}}
		}},
		{"a map row", func(c *scene, r, ch rows) expect {
			ch[key('C', c.number("/dir/many"), 0)] = nil
			return expect{rows: true, eio: []string{"/dir/many"}}
		}},
		{"inline content", func(c *scene, r, ch rows) expect {
			ch[key('I', c.number("/small"))] = nil
			return expect{rows: true, eio: []string{"/small"}}
		}},
		{"a target", func(c *scene, r, ch rows) expect {
			ch[key('S', c.number("/link"))] = nil
			return expect{refused: mount.ClassDamaged, says: tampered}
		}},
		{"an xattr", func(c *scene, r, ch rows) expect {
			ch[r.of('X', c.number("/dir"))[0]] = nil
			return expect{rows: true, eio: []string{"/dir"}}
		}},
		{"a hard link", func(c *scene, r, ch rows) expect {
			ch[r.one(t, 'L', c.number("/dir/three"))] = nil
			return expect{refused: mount.ClassDamaged, says: tampered}
		}},
		{"the zone", func(c *scene, r, ch rows) expect {
			ch[key('Z', 1)] = nil
			return expect{refused: mount.ClassDamaged, says: "zone"}
		}},
		{"the counter", func(c *scene, r, ch rows) expect {
			ch[r.one(t, 'N')] = nil
			return expect{refused: mount.ClassDamaged, says: tampered}
		}},
		{"the root directory", func(c *scene, r, ch rows) expect {
			ch[key('A', 1)] = nil
			return expect{rows: true, eio: []string{"/"}}
		}},
		{"the checkpoint row", func(c *scene, r, ch rows) expect {
			ch[checkpointRow] = nil
			return expect{refused: mount.ClassDamaged, says: "no checkpoint row"}
		}},
		{"the root of the freshness table", func(c *scene, r, ch rows) expect {
			ch["\x00root"] = nil
			return expect{refused: mount.ClassDamaged, says: "freshness"}
		}},
	})
}

// attackListCut cuts Badger's list of tables, of a volume whose newest rows are in a log: the tables that it does not name are removed by Badger.
func attackListCut(t *testing.T, p *props) {
	for _, s := range []*saved{p.closed, p.killed} {
		list := filepath.Join(s.Dir, "meta", "MANIFEST")
		st, err := os.Stat(list)
		if err != nil {
			t.Fatal(err)
		}
		for size := st.Size() - 1; size > 0; size -= 9 {
			c := p.scene(t, s)
			c.must(os.Truncate(c.path("meta", "MANIFEST"), size))
			c.survives(fmt.Sprintf("cut to %d of %d bytes", size, st.Size()))
		}
	}
}

// attackOlderRows puts rows back that are older than the rest.
func attackOlderRows(t *testing.T, p *props) {
	three := func(c *scene) string { return key('A', c.number("/dir/three")) }
	for _, x := range []struct {
		name   string
		row    func(c *scene) string
		change func(c *scene, m *maker)
		want   expect
	}{
		{"an inode: mode and owner", three, func(c *scene, m *maker) {
			_, err := m.v.Meta().SetAttr(m.ctx, c.ino("/dir/three"), func(a *meta.Attr) error {
				a.Mode, a.UID = meta.ModeRegular|0o600, 0
				return nil
			})
			m.fail("chmod", err)
		}, expect{rows: true, eio: threePaths}},
		{"an inode: size", three,
			func(c *scene, m *maker) { m.write(c.ino("/dir/three"), threeSize, 2*block) }, expect{rows: true, eio: threePaths}},
		{"a map row", func(c *scene) string { return key('C', c.number("/dir/three"), 0) },
			func(c *scene, m *maker) { m.write(c.ino("/dir/three"), 0, 10) }, expect{rows: true, eio: threePaths}},
		{"inline content", func(c *scene) string { return key('I', c.number("/small")) },
			func(c *scene, m *maker) { m.write(c.ino("/small"), 0, 10) }, expect{rows: true, eio: []string{"/small"}}},
		{"the zone's neighbour", func(c *scene) string { return key('Z', 1) },
			func(c *scene, m *maker) { m.putZone() }, expect{refused: mount.ClassDamaged, says: "zone"}},
		{"the checkpoint row", func(*scene) string { return checkpointRow },
			func(c *scene, m *maker) { m.write(c.ino("/small"), 0, 10) }, expect{}},
	} {
		c := p.scene(t, p.large)
		old := readRows(t, c.dir)
		c.use(func(m *maker) { x.change(c, m) })
		k := x.row(c)
		if old[k] == nil {
			t.Fatalf("%s: no row %x", x.name, k)
		}
		writeRows(t, c.dir, rows{k: old[k]})
		c.expect("older row: "+x.name, x.want)
	}
	counterBack(t, p)
}

// counterBack puts back the counter of inode numbers: the next file would get the number of another.
func counterBack(t *testing.T, p *props) {
	c := p.scene(t, p.large)
	old := readRows(t, c.dir)
	c.use(func(m *maker) { // more than a batch of numbers
		for i := range 3 {
			m.file(meta.RootIno, fmt.Sprint("more", i), 20)
		}
	})
	n := old.one(t, 'N')
	writeRows(t, c.dir, rows{n: old[n]})
	c.expect("older counter", expect{refused: mount.ClassDamaged, says: tampered})
}

// TestCheckpointsGoOn: where rows are not those of the last checkpoint, what is not affected can be changed for as long as one likes.
func TestCheckpointsGoOn(t *testing.T) {
	r := newRig(t)
	c := r.scene(t, r.volume(t, 200))
	c.change(func(r, ch rows) { ch[key('G', 1, 1)+"\x00"+key(0, 0)[1:]] = []byte("garbage") })
	v := c.open()
	m := newMaker(r.ctx, v, 8)
	many := c.ino("/dir/many")
	for range 2 * maxJournal / (4 * block) { // images: more than the journal holds
		m.write(many, 0, 4*block)
		m.fail("checkpoint", onlyDamage(v.Content().Checkpoint(r.ctx)))
	}
	c.must(m.err)
	if st := v.Journal().Stats(); st.Checkpoint != st.Sequence || st.Sequence < 20 {
		t.Errorf("checkpoint at %d of %d", st.Checkpoint, st.Sequence)
	}
	c.must(onlyDamage(v.Close(r.ctx)))
}

// onlyDamage is nil for an error that says that something was changed on the disk.
func onlyDamage(err error) error {
	if mount.ClassOf(err) == mount.ClassDamaged {
		return nil
	}
	return err
}

// TestChangedBelowADaemon changes a table while the volume is open and its rows have been verified. A changed value does not open. A changed key
// hides its row, which is noticed when the verification is 30 s old, and at the next mount.
func TestChangedBelowADaemon(t *testing.T) {
	r := newRig(t)
	s := r.volume(t, 200)
	for what, off := range map[string]int{"value": 20, "key": -(8 + 3 + 1)} { // a timestamp and three bytes lie between
		c := r.scene(t, s)
		row := readRows(t, c.dir)[key('I', c.number("/small"))]
		v := c.open()
		rd := reader{r.ctx, v}
		want := c.want()["/small"].Parts["data"]
		if got, err := rd.data(c.ino("/small")); err != nil || got != want {
			t.Fatalf("before: %s, %v", got, err)
		}
		began := time.Now()
		c.flipInTables(row, off)
		got, err := rd.data(c.ino("/small"))
		switch {
		case what == "value" && fs.Errno(err) != syscall.EIO:
			t.Errorf("a changed value reads as %s, %v", got, err)
		case what == "key" && time.Since(began) < 20*time.Second && (err != nil || got != "100 zeros"):
			t.Errorf("behind a changed key: %s, %v: this is noticed now, and docs/THREATMODEL.md must say so", got, err)
		}
		c.inThreatModel("can be taken for absent for 30 s")
		if long() {
			time.Sleep(31 * time.Second) // what is under test is time itself; meta/kv/local tests it without waiting
			if got, err := rd.data(c.ino("/small")); fs.Errno(err) != syscall.EIO {
				t.Errorf("%s: later it reads as %s, %v", what, got, err)
			}
		}
		_ = v.Close(r.ctx)
		c.survives(what + ": the next mount") // it may open, if tables were merged meanwhile
	}
}

// flipInTables changes the byte off from where text begins, in the tables, where they lie.
func (c *scene) flipInTables(text []byte, off int) {
	c.t.Helper()
	changed := 0
	for _, name := range c.tables() {
		c.editInPlace(c.path("meta", name), func(b []byte) bool {
			at := bytes.LastIndex(b, text)
			if at >= 0 {
				b[at+off] ^= 0x40
				changed++
			}
			return at >= 0
		})
	}
	if changed == 0 {
		c.t.Fatal("the row is in no table")
	}
}

// editInPlace changes a file where it lies, as it is mapped by others, if change says so.
func (c *scene) editInPlace(name string, change func(b []byte) bool) {
	c.t.Helper()
	b := c.read(name)
	if !change(b) {
		return
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	c.must(err)
	_, err = f.WriteAt(b, 0)
	c.must(errors.Join(err, f.Close()))
}
