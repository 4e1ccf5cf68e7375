package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount"
)

const block = 4096 // block size of the files made here

// maker makes files in a volume through what a mount would use. The first error stays.
type maker struct {
	ctx context.Context
	v   *mount.Volume
	rng *rand.Rand
	err error
}

func newMaker(ctx context.Context, v *mount.Volume, seed uint64) *maker {
	return &maker{ctx: ctx, v: v, rng: rand.New(rand.NewPCG(seed, 1))}
}

func (m *maker) fail(what string, err error) {
	if m.err == nil && err != nil {
		m.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (m *maker) node(dir meta.Ino, name string, n meta.NewNode) meta.Ino {
	if m.err != nil {
		return 0
	}
	a, err := m.v.Meta().Create(m.ctx, dir, []byte(name), n)
	if err != nil {
		m.fail("create "+name, err)
		return 0
	}
	return a.Ino
}

func (m *maker) dir(dir meta.Ino, name string) meta.Ino {
	return m.node(dir, name, meta.NewNode{Mode: meta.ModeDir | 0o750, UID: 1000, GID: 100})
}

// file makes a file with size random bytes, synced.
func (m *maker) file(dir meta.Ino, name string, size int) meta.Ino {
	ino := m.node(dir, name, meta.NewNode{Mode: meta.ModeRegular | 0o640, UID: 1000, GID: 100, Params: &meta.Params{BlockSize: block, Inline: meta.DefaultInline}})
	if size > 0 {
		m.write(ino, 0, size)
		m.sync(ino)
	}
	return ino
}

// with calls fn with the open file.
func (m *maker) with(ino meta.Ino, fn func(f *content.File) error) {
	if m.err != nil {
		return
	}
	f, err := m.v.Content().Open(m.ctx, ino)
	if err == nil {
		err = errors.Join(fn(f), f.Close())
	}
	m.fail(fmt.Sprintf("inode %d", ino), err)
}

func (m *maker) write(ino meta.Ino, off, size int) {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(m.rng.Uint32())
	}
	m.with(ino, func(f *content.File) error {
		_, err := f.WriteAt(m.ctx, b, uint64(off), content.WriteOpts{})
		return err
	})
}

func (m *maker) sync(ino meta.Ino) {
	m.with(ino, func(f *content.File) error { return f.Sync(m.ctx) })
}

func (m *maker) truncate(ino meta.Ino, size int) {
	m.with(ino, func(f *content.File) error { return f.Truncate(m.ctx, uint64(size), content.WriteOpts{}) })
}

func (m *maker) xattr(ino meta.Ino, name string, value []byte) {
	if m.err == nil {
		m.fail("set "+name, m.v.Meta().SetXattr(m.ctx, ino, name, value, 0))
	}
}

func (m *maker) link(ino, dir meta.Ino, name string) {
	if m.err == nil {
		_, err := m.v.Meta().Link(m.ctx, ino, dir, []byte(name))
		m.fail("link "+name, err)
	}
}

func (m *maker) unlink(dir meta.Ino, name string) {
	if m.err != nil {
		return
	}
	a, err := m.v.Meta().Unlink(m.ctx, dir, []byte(name), m.v.Content().IsOpen)
	if err == nil && a.Flags.Orphan() {
		err = m.v.Content().Unlinked(m.ctx, a.Ino)
	}
	m.fail("unlink "+name, err)
}

func (m *maker) rename(dir meta.Ino, from, to string) {
	if m.err == nil {
		_, err := m.v.Meta().Rename(m.ctx, dir, []byte(from), dir, []byte(to), 0, m.v.Content().IsOpen)
		m.fail("rename "+from, err)
	}
}

func (m *maker) checkpoint() {
	if m.err == nil {
		m.fail("checkpoint", m.v.Content().Checkpoint(m.ctx))
	}
}

// Names and sizes of what fill makes. Objects can be told apart by their lengths, without keys.
const (
	threeSize  = 3*block + 101
	twinSize   = 3*block + 202
	manySize   = 36*block + 303 // two map rows
	sparseSize = 40*block + 404
	tailSize   = 2*block + 505
)

// fill makes a small volume that has some of everything.
func (m *maker) fill(pad int) {
	root := meta.RootIno
	m.pad(pad, "pad") // first, so that the numbers of what comes are far from the root's
	m.file(root, "small", 100)
	m.file(root, "inline", 3000)
	m.file(root, "empty", 0)
	dir := m.dir(root, "dir")
	three := m.file(dir, "three", threeSize)
	m.file(dir, "twin", twinSize)
	m.file(dir, "many", manySize)
	m.sparse(dir)
	m.node(root, "link", meta.NewNode{Mode: meta.ModeSymlink | 0o777, Target: []byte("dir/three")})
	m.node(root, "link2", meta.NewNode{Mode: meta.ModeSymlink | 0o777, Target: []byte("dir/elsewhere")})
	m.node(root, "pipe", meta.NewNode{Mode: meta.ModeFIFO | 0o600})
	m.node(root, "device", meta.NewNode{Mode: meta.ModeChar | 0o600, Rdev: 0x501})
	m.link(three, root, "hard")
	m.xattr(three, "user.one", []byte("value one"))
	m.xattr(three, "user.two", bytes.Repeat([]byte("two"), 700))
	m.xattr(dir, "user.of-dir", []byte{0, 1, 2, 255})
	m.file(root, string(bytes.Repeat([]byte("n"), 255)), 10)
	m.file(root, "not\xffutf8", 11)
	deep := dir
	for i := range 12 {
		deep = m.dir(deep, fmt.Sprint("d", i))
	}
	m.file(deep, "leaf", 777)
	m.file(deep, "tail", tailSize)
	m.pad(pad, "pad2")
}

// pad makes n small files, and as many xattrs of the last one: rows between those of others.
func (m *maker) pad(n int, name string) {
	if n == 0 {
		return
	}
	dir, last := m.dir(meta.RootIno, name), meta.Ino(0)
	for i := range n {
		last = m.file(dir, fmt.Sprint("pad", i), 20)
	}
	for i := range n {
		m.xattr(last, fmt.Sprint("user.pad", i), []byte("pad"))
	}
}

// putZone writes the root zone's row anew.
func (m *maker) putZone() {
	if m.err != nil {
		return
	}
	z, err := m.v.Meta().Zone(m.ctx, meta.RootZone)
	if err == nil {
		_, err = m.v.Meta().PutZone(m.ctx, z)
	}
	m.fail("put the zone", err)
}

// sparse makes a file with holes, and one that was shortened and made longer again: what was cut reads as zeros.
func (m *maker) sparse(dir meta.Ino) {
	sparse := m.file(dir, "sparse", 0)
	m.write(sparse, 0, block)
	m.write(sparse, 20*block+100, 2*block)
	m.write(sparse, 39*block, block+404)
	m.sync(sparse)
	cut := m.file(dir, "cut", 5*block+606)
	m.truncate(cut, 2*block)
	m.truncate(cut, 5*block+606)
	m.sync(cut)
}

// change is what happens after a checkpoint, so that the journal holds it; step is called after each step, each of which is one transaction for those
// who look at names and contents.
func (m *maker) change(t tree, step func()) {
	dir := t["/dir"].Ino
	steps := []func(){
		func() { m.write(t["/dir/three"].Ino, block+7, 20) }, // an image
		func() { m.write(t["/dir/many"].Ino, 3*block, 2*block) },
		func() { m.sync(t["/dir/many"].Ino) },
		func() {
			m.node(dir, "new", meta.NewNode{Mode: meta.ModeRegular | 0o600, Params: &meta.Params{BlockSize: block, Inline: meta.DefaultInline}})
		},
		func() { m.write(m.lookup(dir, "new"), 0, 6*block+50) }, // slots, directly
		func() { m.sync(m.lookup(dir, "new")) },
		func() { m.write(m.lookup(dir, "new"), 6*block+50, 3*block) },
		func() { m.sync(m.lookup(dir, "new")) },
		func() { m.rename(dir, "new", "newer") },
		func() { m.truncate(t["/dir/sparse"].Ino, 21*block) },
		func() { m.unlink(dir, "twin") },
		func() { m.xattr(t["/small"].Ino, "user.late", []byte("late")) },
		func() { m.write(t["/inline"].Ino, 10, 1000) },
		func() { m.dir(dir, "last") },
		func() { m.sync(t["/dir/three"].Ino) },
	}
	for _, do := range steps {
		if m.err == nil {
			do()
		}
		if m.err == nil {
			step()
		}
	}
}

func (m *maker) lookup(dir meta.Ino, name string) meta.Ino {
	if m.err != nil {
		return 0
	}
	a, err := m.v.Meta().Lookup(m.ctx, dir, []byte(name))
	if err != nil {
		m.fail("look up "+name, err)
		return 0
	}
	return a.Ino
}
