package meta_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/metatest"
	"pgregory.net/rapid"
)

// node is an inode of the model.
type node struct {
	ino      meta.Ino
	typ      uint32
	nlink    int
	parent   *node // directories
	children map[string]*node
	target   string
	xattrs   map[string]string
	open     bool
	tmpfile  bool
	slots    bool
}

func (n *node) dir() bool { return n.typ == meta.ModeDir }

// within reports whether n lies in or below root.
func (n *node) within(root *node) bool {
	for at := n; at != nil; at = at.parent {
		if at == root {
			return true
		}
	}
	return false
}

// model is a tree of names in memory that does what meta should do.
type model struct {
	v       *metatest.Volume
	ctx     context.Context
	root    *node
	orphans map[*node]bool
	steps   int
}

func newModel(v *metatest.Volume) *model {
	root := &node{ino: meta.RootIno, typ: meta.ModeDir, nlink: 2, children: map[string]*node{}}
	return &model{v: v, ctx: context.Background(), root: root, orphans: map[*node]bool{}}
}

func (m *model) all() []*node {
	seen := map[*node]bool{m.root: true}
	list := []*node{m.root}
	for i := 0; i < len(list); i++ {
		for _, name := range sortedNames(list[i].children) {
			if c := list[i].children[name]; !seen[c] {
				seen[c] = true
				list = append(list, c)
			}
		}
	}
	orphans := []*node{}
	for o := range m.orphans {
		orphans = append(orphans, o)
	}
	sort.Slice(orphans, func(i, j int) bool { return orphans[i].ino < orphans[j].ino })
	return append(list, orphans...)
}

func sortedNames(children map[string]*node) []string {
	names := make([]string, 0, len(children))
	for n := range children {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func (m *model) dirs() []*node {
	return slices.DeleteFunc(m.all(), func(n *node) bool { return !n.dir() })
}

func (m *model) pick(t *rapid.T, list []*node, label string) *node {
	return list[rapid.IntRange(0, len(list)-1).Draw(t, label)]
}

var modelNames = []string{"a", "b", "c", "d", "e\xff\n", string(bytes.Repeat([]byte{'x'}, 255))}

func drawName(t *rapid.T, label string) string { return rapid.SampledFrom(modelNames).Draw(t, label) }

func (m *model) isOpen(ino meta.Ino) bool {
	for _, n := range m.all() {
		if n.ino == ino {
			return n.open
		}
	}
	return false
}

// agree fails unless err is of the class the model expects.
func agree(t *rapid.T, what string, err, want error) bool {
	t.Helper()
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		t.Fatalf("%s: got %v, the model says %v", what, err, want)
	}
	return err == nil
}

func (m *model) create(t *rapid.T) {
	dir := m.pick(t, m.dirs(), "dir")
	name := drawName(t, "name")
	typ := rapid.SampledFrom([]uint32{meta.ModeRegular, meta.ModeDir, meta.ModeDir, meta.ModeSymlink, meta.ModeFIFO, meta.ModeChar}).Draw(t, "type")
	n := meta.NewNode{Mode: typ | 0o644, UID: 1, GID: 2}
	child := &node{typ: typ, nlink: 1, xattrs: map[string]string{}}
	switch typ {
	case meta.ModeSymlink:
		child.target = "to/" + name
		n.Target = []byte(child.target)
	case meta.ModeDir:
		child.children, child.nlink, child.parent = map[string]*node{}, 2, dir
	case meta.ModeChar:
		n.Rdev = 0x103
	}
	var want error
	switch {
	case dir.nlink == 0:
		want = meta.ErrNotFound
	case dir.children[name] != nil:
		want = meta.ErrExist
	}
	a, err := m.v.Create(m.ctx, dir.ino, []byte(name), n)
	if !agree(t, "create", err, want) {
		return
	}
	child.ino = a.Ino
	dir.children[name] = child
	if child.dir() {
		dir.nlink++
	}
}

func (m *model) mkTmpfile(t *rapid.T) {
	dir := m.pick(t, m.dirs(), "dir")
	var want error
	if dir.nlink == 0 {
		want = meta.ErrNotFound
	}
	a, err := m.v.Tmpfile(m.ctx, dir.ino, meta.NewNode{Mode: meta.ModeRegular | 0o600})
	if agree(t, "tmpfile", err, want) {
		m.orphans[&node{ino: a.Ino, typ: meta.ModeRegular, open: true, tmpfile: true, xattrs: map[string]string{}}] = true
	}
}

func (m *model) link(t *rapid.T) {
	n, dir, name := m.pick(t, m.all(), "inode"), m.pick(t, m.dirs(), "dir"), drawName(t, "name")
	var want error
	switch {
	case dir.nlink == 0:
		want = meta.ErrNotFound
	case n.dir():
		want = meta.ErrIsDir
	case dir.children[name] != nil:
		want = meta.ErrExist
	case n.nlink == 0 && !n.tmpfile:
		want = meta.ErrNotFound
	}
	a, err := m.v.Link(m.ctx, n.ino, dir.ino, []byte(name))
	if !agree(t, "link", err, want) {
		return
	}
	n.nlink++
	n.tmpfile = false
	delete(m.orphans, n)
	dir.children[name] = n
	if int(a.Nlink) != n.nlink {
		t.Fatalf("link: nlink %d, the model says %d", a.Nlink, n.nlink)
	}
}

// drop takes a name away in the model.
func (m *model) drop(n *node) {
	if n.dir() {
		n.nlink = 0
		n.parent.nlink--
		n.parent = nil
	} else {
		n.nlink--
	}
	if n.nlink == 0 && n.open {
		m.orphans[n] = true
	}
}

func (m *model) checkDropped(t *rapid.T, a *meta.Attr, n *node) {
	if int(a.Nlink) != n.nlink || a.Flags.Orphan() != (n.nlink == 0 && n.open) {
		t.Fatalf("dropped inode %d: nlink %d, orphan %v; the model says %d, open %v", a.Ino, a.Nlink, a.Flags.Orphan(), n.nlink, n.open)
	}
}

func (m *model) remove(t *rapid.T) {
	dir, name, rmdir := m.pick(t, m.dirs(), "dir"), drawName(t, "name"), rapid.Bool().Draw(t, "rmdir")
	n := dir.children[name]
	var want error
	switch {
	case dir.nlink == 0, n == nil:
		want = meta.ErrNotFound
	case rmdir && !n.dir():
		want = meta.ErrNotDir
	case !rmdir && n.dir():
		want = meta.ErrIsDir
	case rmdir && len(n.children) > 0:
		want = meta.ErrNotEmpty
	}
	op := m.v.Unlink
	if rmdir {
		op = m.v.Rmdir
	}
	a, err := op(m.ctx, dir.ino, []byte(name), m.isOpen)
	if agree(t, "remove", err, want) {
		delete(dir.children, name)
		m.drop(n)
		m.checkDropped(t, a, n)
	}
}

func (m *model) rename(t *rapid.T) {
	from, to := m.pick(t, m.dirs(), "from"), m.pick(t, m.dirs(), "to")
	oldName, newName := drawName(t, "old"), drawName(t, "new")
	flags := rapid.SampledFrom([]meta.RenameFlags{0, 0, 0, meta.RenameNoReplace, meta.RenameExchange, meta.RenameWhiteout,
		meta.RenameNoReplace | meta.RenameWhiteout}).Draw(t, "flags")
	src, dst := from.children[oldName], to.children[newName]
	want, same := renameOutcome(from, to, src, dst, flags)
	r, err := m.v.Rename(m.ctx, from.ino, []byte(oldName), to.ino, []byte(newName), flags, m.isOpen)
	if !agree(t, "rename", err, want) {
		return
	}
	if r.Same != same {
		t.Fatalf("rename: same %v, the model says %v", r.Same, same)
	}
	if same {
		return
	}
	m.applyRename(t, from, to, oldName, newName, flags, r)
}

// renameOutcome says what rename should do, in the order in which Linux looks.
func renameOutcome(from, to, src, dst *node, flags meta.RenameFlags) (want error, same bool) {
	exchange := flags == meta.RenameExchange
	switch {
	case from.nlink == 0, to.nlink == 0, src == nil, exchange && dst == nil:
		return meta.ErrNotFound, false
	case dst != nil && flags&meta.RenameNoReplace != 0:
		return meta.ErrExist, false
	case src == dst:
		return nil, true
	case src.dir() && to.within(src), exchange && dst.dir() && from.within(dst):
		return meta.ErrLoop, false
	case exchange || dst == nil:
		return nil, false
	case src.dir() && !dst.dir():
		return meta.ErrNotDir, false
	case !src.dir() && dst.dir():
		return meta.ErrIsDir, false
	case dst.dir() && len(dst.children) > 0:
		return meta.ErrNotEmpty, false
	}
	return nil, false
}

func (m *model) applyRename(t *rapid.T, from, to *node, oldName, newName string, flags meta.RenameFlags, r meta.RenameResult) {
	src, dst := from.children[oldName], to.children[newName]
	delete(from.children, oldName)
	to.children[newName] = src
	if src.dir() {
		from.nlink--
		to.nlink++
		src.parent = to
	}
	switch {
	case flags == meta.RenameExchange:
		from.children[oldName] = dst
		if dst.dir() {
			to.nlink--
			from.nlink++
			dst.parent = from
		}
	case dst != nil:
		m.drop(dst)
		m.checkDropped(t, r.Replaced, dst)
	}
	if flags&meta.RenameWhiteout != 0 {
		from.children[oldName] = &node{ino: r.Whiteout.Ino, typ: meta.ModeChar, nlink: 1, xattrs: map[string]string{}}
	}
}

func (m *model) toggleOpen(t *rapid.T) {
	n := m.pick(t, m.all(), "inode")
	if n.nlink > 0 {
		n.open = !n.open
		return
	}
	if err := m.v.ReleaseOrphans(m.ctx, n.ino); err != nil {
		t.Fatalf("release orphan %d: %v", n.ino, err)
	}
	delete(m.orphans, n)
	if _, err := m.v.Getattr(m.ctx, n.ino); !errors.Is(err, meta.ErrNotFound) {
		t.Fatalf("inode %d after release: %v", n.ino, err)
	}
}

func (m *model) xattr(t *rapid.T) {
	n := m.pick(t, m.all(), "inode")
	name := rapid.SampledFrom([]string{"user.a", "user.b", meta.XattrACLAccess}).Draw(t, "xattr")
	if n.xattrs == nil {
		n.xattrs = map[string]string{}
	}
	if rapid.Bool().Draw(t, "remove") {
		var want error
		if _, ok := n.xattrs[name]; !ok {
			want = meta.ErrNoXattr
		}
		agree(t, "remove xattr", m.v.RemoveXattr(m.ctx, n.ino, name), want)
		delete(n.xattrs, name)
		return
	}
	value := fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "value"))
	agree(t, "set xattr", m.v.SetXattr(m.ctx, n.ino, name, []byte(value), 0), nil)
	n.xattrs[name] = value
}

// write gives a regular file an entry in its map, as the content engine does.
func (m *model) write(t *rapid.T) {
	n := m.pick(t, m.all(), "inode")
	if n.typ != meta.ModeRegular {
		return
	}
	block := rapid.SampledFrom([]uint64{0, 1, 33, 100}).Draw(t, "block")
	_, err := m.v.Update(m.ctx, func(tx *meta.Tx) error { return putBlock(tx, n.ino, block, byte(m.steps)) })
	if err != nil {
		t.Fatalf("write: %v", err)
	}
	n.slots = true
}

// putBlock maps one full block and extends the file to it.
func putBlock(tx *meta.Tx, ino meta.Ino, block uint64, fill byte) error {
	a, err := tx.Attr(ino)
	if err != nil {
		return err
	}
	row, i := meta.RowOf(block)
	r, err := tx.MapRow(ino, row)
	if err != nil {
		return err
	}
	if r == nil {
		r = new(meta.MapRow)
	}
	a.Allocated -= r[i].Allocated()
	r[i] = meta.Entry{Present: true, CRC: uint32(fill), Epoch: a.Epoch, PlainLen: a.BlockSize, StoredLen: a.BlockSize}
	r[i].Nonce[0], r[i].Tag[15] = fill, fill
	a.Allocated += r[i].Allocated()
	if a.Layout == meta.LayoutInline {
		a.Layout, a.Serial = meta.LayoutSlots, a.Serial+1
	}
	a.Size = max(a.Size, (block+1)*uint64(a.BlockSize))
	if err := tx.PutAttr(a); err != nil {
		return err
	}
	return tx.PutMapRow(ino, row, r)
}

// compare walks the volume and the model side by side.
func (m *model) compare(t *rapid.T, s *meta.Store) {
	seen := map[meta.Ino]bool{}
	for _, n := range m.all() {
		a, err := s.Getattr(m.ctx, n.ino)
		if err != nil {
			t.Fatalf("inode %d: %v", n.ino, err)
		}
		seen[n.ino] = true
		if a.Type() != n.typ || int(a.Nlink) != n.nlink {
			t.Fatalf("inode %d: type %#o, nlink %d; the model says %#o, %d", n.ino, a.Type(), a.Nlink, n.typ, n.nlink)
		}
		m.compareNode(t, s, n, a)
	}
	var orphans []meta.Ino
	if err := s.Orphans(m.ctx, func(i meta.Ino) error { orphans = append(orphans, i); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(orphans) != len(m.orphans) {
		t.Fatalf("orphans %v, the model has %d", orphans, len(m.orphans))
	}
}

func (m *model) compareNode(t *rapid.T, s *meta.Store, n *node, a *meta.Attr) {
	switch {
	case n.dir():
		m.compareDir(t, s, n)
	case n.typ == meta.ModeSymlink:
		if got, err := s.Readlink(m.ctx, n.ino); err != nil || string(got) != n.target {
			t.Fatalf("target of %d: %q, %v", n.ino, got, err)
		}
	case n.typ == meta.ModeRegular:
		openKey(t, m.v.ID, s, a)
	}
	names, err := s.ListXattr(m.ctx, n.ino)
	if err != nil || len(names) != len(n.xattrs) {
		t.Fatalf("xattrs of %d: %v, %v; the model says %v", n.ino, names, err, n.xattrs)
	}
	for name, want := range n.xattrs {
		if got, err := s.GetXattr(m.ctx, n.ino, name); err != nil || string(got) != want {
			t.Fatalf("xattr %s of %d: %q, %v, want %q", name, n.ino, got, err, want)
		}
	}
	if _, ok := n.xattrs[meta.XattrACLAccess]; ok != a.Flags.HasACL() {
		t.Fatalf("inode %d: ACL flag %v, set %v", n.ino, a.Flags.HasACL(), ok)
	}
}

// openKey checks that the file key opens in its place and is the one committed to.
func openKey(t interface{ Fatalf(string, ...any) }, volume meta.VolumeID, s *meta.Store, a *meta.Attr) {
	for _, w := range a.Wraps {
		dek, err := s.UnwrapDEK(context.Background(), a, w.Epoch)
		if err != nil {
			t.Fatalf("key of %d: %v", a.Ino, err)
		}
		c, err := blockcrypt.NewBlockCipher(dek, blockcrypt.FileID{Volume: volume, Inode: uint64(a.Ino), Epoch: w.Epoch}, int(a.BlockSize), blockcrypt.SuiteAES256GCM)
		if err != nil {
			t.Fatalf("cipher of %d: %v", a.Ino, err)
		}
		if err := c.Verify(w.Commitment); err != nil {
			t.Fatalf("key of %d, epoch %d: %v", a.Ino, w.Epoch, err)
		}
	}
}

func (m *model) compareDir(t *rapid.T, s *meta.Store, n *node) {
	got := map[string]meta.Ino{}
	var cookie uint64
	for {
		list, err := s.ReadDirPlus(m.ctx, n.ino, cookie, 2)
		if err != nil {
			t.Fatalf("read directory %d: %v", n.ino, err)
		}
		if len(list) == 0 {
			break
		}
		for _, d := range list {
			if d.Cookie <= cookie || d.Cookie < 3 || d.Attr.Ino != d.Ino || d.Attr.Type() != d.Type {
				t.Fatalf("directory %d: entry %+v after cookie %d", n.ino, d.Dirent, cookie)
			}
			got[string(d.Name)] = d.Ino
		}
		cookie = list[len(list)-1].Cookie
	}
	if len(got) != len(n.children) {
		t.Fatalf("directory %d: %v, the model has %v", n.ino, got, sortedNames(n.children))
	}
	for name, c := range n.children {
		a, err := s.Lookup(m.ctx, n.ino, []byte(name))
		if err != nil || a.Ino != c.ino || got[name] != c.ino {
			t.Fatalf("look up %q in %d: %+v, %v, want inode %d", name, n.ino, a, err, c.ino)
		}
	}
	if n.parent != nil {
		if up, err := s.Lookup(m.ctx, n.ino, []byte("..")); err != nil || up.Ino != n.parent.ino {
			t.Fatalf("parent of %d: %+v, %v, want %d", n.ino, up, err, n.parent.ino)
		}
	}
}

// checkClean runs both forms of Check.
func checkClean(t interface {
	Fatalf(string, ...any)
	Helper()
}, s *meta.Store) {
	t.Helper()
	for _, keys := range []bool{true, false} {
		_, err := s.Check(context.Background(), meta.CheckOptions{Keys: keys, Paths: keys}, func(f meta.Fault) { t.Fatalf("check (keys %v): %v", keys, f) })
		if err != nil {
			t.Fatalf("check: %v", err)
		}
	}
}

func TestModel(t *testing.T) {
	steps := 60
	if os.Getenv("KMSFS_LONG") != "" {
		steps = 600
	}
	rapid.Check(t, func(rt *rapid.T) {
		v := metatest.NewVolume(t)
		m := newModel(v)
		ops := []func(*rapid.T){m.create, m.create, m.create, m.link, m.remove, m.remove, m.rename, m.rename, m.rename, m.toggleOpen, m.mkTmpfile, m.xattr, m.write}
		for m.steps = range steps {
			ops[rapid.IntRange(0, len(ops)-1).Draw(rt, "op")](rt)
		}
		m.compare(rt, v.Store)
		m.compare(rt, v.Open(t, meta.Config{CacheRows: -1}))
		checkClean(rt, v.Store)
	})
}
