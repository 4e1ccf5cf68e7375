package attack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount"
)

// three and its other name, and what fsck says of a block of it.
var threePaths = []string{"/dir/three", "/hard"}

func (c *scene) badBlocks(name string, blocks ...int) (faults []string) {
	for _, b := range blocks {
		faults = append(faults, fmt.Sprintf("inode %d block %d | does not open", c.ino(name), b))
	}
	return faults
}

// slot returns the bytes of a slot of an object.
func slot(b []byte, i int) []byte { return b[i*block : min((i+1)*block, len(b))] }

// swapSlots exchanges two slots of one length.
func swapSlots(a []byte, i int, b []byte, j int) {
	kept := bytes.Clone(slot(a, i))
	copy(slot(a, i), slot(b, j))
	copy(slot(b, j), kept)
}

func attackA1(t *testing.T, p *props) {
	for _, pair := range [][2]int{{0, 1}, {0, 2}, {1, 2}} {
		c := p.scene(t, p.closed)
		c.edit(c.object(threeSize), func(b []byte) []byte { swapSlots(b, pair[0], b, pair[1]); return b })
		v := c.open()
		c.pieces(p.ctx, v, "/dir/three", 4, pair[0], pair[1])
		c.opened(fmt.Sprint("blocks ", pair), expect{eio: threePaths, fsck: c.badBlocks("/dir/three", pair[0], pair[1])}, v)
		c.must(v.Close(p.ctx))
	}
}

func attackA2(t *testing.T, p *props) {
	c := p.scene(t, p.closed)
	three, twin := c.object(threeSize), c.object(twinSize)
	a, b := c.read(three), c.read(twin)
	swapSlots(a, 1, b, 1)
	c.write(three, a)
	c.write(twin, b)
	c.expect("block 1 of two files", expect{eio: append([]string{"/dir/twin"}, threePaths...),
		fsck: append(c.badBlocks("/dir/three", 1), c.badBlocks("/dir/twin", 1)...)})
	c = p.scene(t, p.closed)
	three, twin = c.object(threeSize), c.object(twinSize)
	c.must(errors.Join(os.Rename(three, three+"x"), os.Rename(twin, three), os.Rename(three+"x", twin)))
	c.expect("whole objects", expect{eio: append([]string{"/dir/twin"}, threePaths...),
		fsck: append(c.badBlocks("/dir/three", 0, 1, 2, 3), c.badBlocks("/dir/twin", 0, 1, 2, 3)...)})
}

func attackA3(t *testing.T, p *props) {
	for _, size := range []int{0, 1, block - 1, block, block + 1, 2*block - 1, 2 * block, 3 * block, 3*block + 1, threeSize - 1} {
		c := p.scene(t, p.closed)
		c.must(os.Truncate(c.object(threeSize), int64(size)))
		var bad []int
		for i := range 4 {
			if min((i+1)*block, threeSize) > size {
				bad = append(bad, i)
			}
		}
		v := c.open()
		c.pieces(p.ctx, v, "/dir/three", 4, bad...)
		c.opened(fmt.Sprint("cut to ", size), expect{eio: threePaths, fsck: c.badBlocks("/dir/three", bad...)}, v)
		c.must(v.Close(p.ctx))
	}
}

func attackA4(t *testing.T, p *props) {
	const long = 5*block + 707
	c := p.scene(t, p.closed)
	c.use(func(m *maker) { m.file(c.ino("/dir"), "shrinks", long); m.file(c.ino("/dir"), "regrows", long+1) })
	shrinks, regrows := c.object(long), c.object(long+1)
	stale, stale2 := c.read(shrinks), c.read(regrows)
	c.use(func(m *maker) {
		m.truncate(c.ino("/dir/shrinks"), 2*block)
		m.truncate(c.ino("/dir/regrows"), 2*block)
		m.truncate(c.ino("/dir/regrows"), long+1)
	})
	c.write(shrinks, stale)
	c.expect("what was cut is put back", expect{fsck: []string{fmt.Sprintf("inode %d, object | longer than its file", c.ino("/dir/shrinks"))}})
	c.write(shrinks, stale[:2*block])
	c.write(regrows, stale2) // its blocks are holes now
	c.expect("what was cut is put back where the file grew again", expect{})
	c.edit(c.object(twinSize), func(b []byte) []byte { return append(b, bytes.Repeat([]byte{7}, 3*block)...) })
	c.expect("bytes behind the end", expect{fsck: []string{fmt.Sprintf("inode %d, object | longer than its file", c.ino("/dir/twin"))}})
}

func attackA5(t *testing.T, p *props) {
	c := p.scene(t, p.closed)
	object := c.object(threeSize)
	old := c.read(object)
	c.use(func(m *maker) { m.write(c.ino("/dir/three"), block+10, 30) })
	c.edit(object, func(b []byte) []byte { copy(slot(b, 1), slot(old, 1)); return b })
	v := c.open()
	c.pieces(p.ctx, v, "/dir/three", 4, 1)
	c.opened("older block", expect{eio: threePaths, fsck: c.badBlocks("/dir/three", 1)}, v)
	c.must(v.Close(p.ctx))
}

func attackA6(t *testing.T, p *props) {
	c := p.scene(t, p.closed)
	object := c.object(threeSize)
	old := c.read(object)
	c.use(func(m *maker) { m.write(c.ino("/dir/three"), 0, 3*block+50) })
	c.write(object, old)
	c.expect("older object", expect{eio: threePaths, fsck: c.badBlocks("/dir/three", 0, 1, 2, 3)})
	c = p.scene(t, p.closed)
	object = c.object(threeSize)
	old = c.read(object)
	c.use(func(m *maker) { m.truncate(c.ino("/dir/three"), 0); m.write(c.ino("/dir/three"), 0, threeSize) }) // another serial, another object
	c.write(object, old)
	c.expect("object of before the file was emptied", expect{fsck: []string{fmt.Sprintf("inode %d, object | object without a file", c.ino("/dir/three"))}})
}

func attackA10(t *testing.T, p *props) {
	all := []int{0, 1, 2, 3}
	for what, do := range map[string]func(object string) error{
		"deleted": os.Remove,
		"emptied": func(object string) error { return os.Truncate(object, 0) },
		"zeros of its length": func(object string) error {
			return errors.Join(os.Truncate(object, 0), os.Truncate(object, threeSize))
		},
		"its directory is deleted": func(object string) error { return os.RemoveAll(object[:len(object)-33]) },
	} {
		c := p.scene(t, p.closed)
		c.must(do(c.object(threeSize)))
		c.expect(what, expect{eio: threePaths, fsck: c.badBlocks("/dir/three", all...)})
	}
	c := p.scene(t, p.closed)
	c.must(os.RemoveAll(c.path("objects")))
	c.expect("all of them", expect{refused: mount.ClassDamaged, says: "objects"})
}

func attackA11(t *testing.T, p *props) {
	for what, do := range map[string]func(c *scene, object string){
		"zeroed":  func(c *scene, object string) { c.edit(object, func(b []byte) []byte { clear(slot(b, 1)); return b }) },
		"punched": punchSlot,
	} {
		c := p.scene(t, p.closed)
		do(c, c.object(threeSize))
		v := c.open()
		c.pieces(p.ctx, v, "/dir/three", 4, 1)
		c.opened(what, expect{eio: threePaths, fsck: c.badBlocks("/dir/three", 1)}, v)
		c.must(v.Close(p.ctx))
	}
	c := p.scene(t, p.closed)
	c.edit(c.object(sparseSize), func(b []byte) []byte {
		copy(slot(b, 10), bytes.Repeat([]byte{1}, block))
		return b
	})
	c.expect("data where there is a hole", expect{})
}

func punchSlot(c *scene, object string) {
	f, err := os.OpenFile(object, os.O_RDWR, 0)
	c.must(err)
	defer f.Close()
	c.must(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, block, block))
}
