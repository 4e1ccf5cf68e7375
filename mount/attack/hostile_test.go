package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount"
)

// stranger is what fsck says of something in the objects directory that is no object.
func (c *scene) stranger(path string) string {
	rel, err := filepath.Rel(c.path("objects"), path)
	c.must(err)
	return "object " + rel + " | not an object"
}

func attackA9(t *testing.T, p *props) {
	c := p.scene(t, p.closed)
	three := c.object(threeSize)
	c.must(os.Link(three, c.path("second-name")))
	c.expect("a second name", expect{eio: threePaths, fsck: append(c.badBlocks("/dir/three", 0, 1, 2, 3), c.stranger(three))})
	c = p.scene(t, p.closed)
	three, twin := c.object(threeSize), c.object(twinSize)
	c.must(errors.Join(os.Remove(twin), os.Link(three, twin)))
	c.expect("one object for two files", expect{eio: append([]string{"/dir/twin"}, threePaths...), fsck: []string{c.stranger(three), c.stranger(twin)}})
	c = p.scene(t, p.closed)
	three, twin = c.object(threeSize), c.object(twinSize)
	c.must(errors.Join(os.Remove(twin), os.Symlink(three, twin)))
	c.expect("a link to another object", expect{eio: []string{"/dir/twin"}, fsck: []string{c.stranger(twin)}})
	c = p.scene(t, p.closed)
	three = c.object(threeSize)
	fan := filepath.Dir(three)
	c.must(errors.Join(os.Rename(fan, c.path("elsewhere")), os.Symlink(c.path("elsewhere"), fan)))
	c.expect("a directory of objects that is a link", expect{eio: threePaths, fsck: append(c.badBlocks("/dir/three", 0), c.stranger(fan))})
}

func attackA20(t *testing.T, p *props) {
	for what, s := range map[string]*saved{"closed": p.closed, "killed": p.killed} {
		c := p.scene(t, s)
		long := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
		c.must(filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			_ = unix.Setxattr(path, "user.evil", []byte("x"), 0)
			if os.Geteuid() == 0 {
				err = os.Chown(path, 12345, 54321)
			}
			mode := fs.FileMode(0o666 | fs.ModeSetuid)
			if d.IsDir() {
				mode = 0o777
			}
			return errors.Join(err, os.Chmod(path, mode), os.Chtimes(path, long, long))
		}))
		c.expect(what, expect{})
	}
}

func attackA21(t *testing.T, p *props) {
	c := p.scene(t, p.closed)
	name := strings.Repeat("5c", 16)
	stray := c.path("objects", "5c", name)
	c.must(os.MkdirAll(filepath.Dir(stray), 0o700))
	c.write(stray, c.read(c.object(threeSize)))
	c.write(c.path("objects", "file"), []byte("x"))
	c.write(c.path("objects", "5c", "file"), []byte("x"))
	c.write(c.path("objects", "5c", strings.Repeat("5d", 16)), []byte("x"))
	c.must(os.MkdirAll(c.path("objects", "dir", "dir"), 0o700))
	c.write(c.path("stray"), []byte("x"))
	c.write(c.path("meta", "999999.sst"), []byte("x"))
	c.write(c.path("journal", "stray.seg"), []byte("x"))
	c.expect("files", expect{fsck: []string{"object 5c/" + name + " | object without a file", c.stranger(c.path("objects", "file")),
		c.stranger(c.path("objects", "5c", "file")), c.stranger(c.path("objects", "5c", strings.Repeat("5d", 16))), c.stranger(c.path("objects", "dir"))}})
	p.rowCases(t, []rowCase{
		{"an inode copied to a new number", func(c *scene, r, ch rows) expect {
			a := key('A', 1<<40)
			ch[a] = r[key('A', c.number("/small"))]
			return expect{rows: true}
		}},
		{"a name copied beside itself", func(c *scene, r, ch rows) expect {
			d := r.of('D', c.number("/sitting1"))[0]
			to := d[:len(d)-1] + string(d[len(d)-1]^1)
			ch[to] = r[d]
			return expect{rows: true, eio: []string{"/sitting1"}}
		}},
		{"a map row behind the end", func(c *scene, r, ch rows) expect {
			m := key('C', c.number("/dir/three"), 7)
			ch[m] = r[key('C', c.number("/dir/three"), 0)]
			return expect{rows: true}
		}},
		{"a map row in a hole", func(c *scene, r, ch rows) expect {
			m := key('C', c.number("/dir/cut"), 1) // the file has one row
			ch[m] = r[key('C', c.number("/dir/cut"), 0)]
			return expect{rows: true}
		}},
		{"inline content of a file with slots", func(c *scene, r, ch rows) expect {
			i := key('I', c.number("/dir/three"))
			ch[i] = r[key('I', c.number("/small"))]
			return expect{rows: true}
		}},
		{"an image in Badger", func(c *scene, r, ch rows) expect {
			ch[key('B', c.number("/dir/three"), 1)] = append([]byte{0, 0, 0, 0, 0, 0, 0, 1, 12}, bytes.Repeat([]byte{3}, block)...)
			return expect{rows: true} // after the first checkpoint nobody looks for images in Badger
		}},
		{"a marker in Badger", func(c *scene, r, ch rows) expect {
			ch[key('M', 0)] = []byte{1}
			return expect{refused: mount.ClassDamaged, says: tampered}
		}},
		{"an xattr of an inode that has none", func(c *scene, r, ch rows) expect {
			x := key('X', c.number("/small")) + r.of('X', c.number("/dir"))[0][9:]
			ch[x] = r[r.of('X', c.number("/dir"))[0]]
			return expect{rows: true}
		}},
		{"rows of no kind", func(c *scene, r, ch rows) expect {
			ch["Q"], ch["q12345678"], ch["\x01"], ch["\xff\xff"] = []byte("x"), []byte("y"), []byte("z"), []byte("w")
			return expect{refused: mount.ClassDamaged, says: tampered}
		}},
	})
}

// hostileThings is what may stand in an object's place.
var hostileThings = map[string]func(path string) error{
	"pipe":             func(path string) error { return unix.Mkfifo(path, 0o600) },
	"socket":           func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
	"directory":        func(path string) error { return os.Mkdir(path, 0o700) },
	"link to nothing":  func(path string) error { return os.Symlink("/nonexistent", path) },
	"link to a device": func(path string) error { return os.Symlink("/dev/zero", path) },
	"link to itself":   func(path string) error { return os.Symlink(path, path) },
}

func attackA23(t *testing.T, p *props) {
	things := maps.Clone(hostileThings)
	if os.Geteuid() == 0 {
		things["device"] = func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) } // /dev/zero
	}
	for what, put := range things {
		c := p.scene(t, p.closed)
		three := c.object(threeSize)
		c.must(errors.Join(os.Remove(three), put(three)))
		c.expect(what+" for an object", expect{eio: threePaths, fsck: append(c.badBlocks("/dir/three", 0, 1, 2, 3), c.stranger(three))})
		c = p.scene(t, p.closed)
		fan := filepath.Dir(c.object(threeSize))
		c.must(errors.Join(os.RemoveAll(fan), put(fan)))
		want := expect{eio: threePaths, fsck: c.badBlocks("/dir/three", 0, 1, 2, 3)}
		if what != "directory" {
			want.fsck = append(want.fsck, c.stranger(fan))
		}
		c.expect(what+" for a directory of objects", want)
		for _, name := range []string{"objects", "meta", "journal", "kmsfs.json", "lock", "meta/MANIFEST", "meta/KEYREGISTRY", "meta/DISCARD"} {
			if what == "directory" && (name == "objects" || name == "journal" || name == "meta") {
				continue // an empty one: A7, A10
			}
			c := p.scene(t, p.closed)
			c.must(errors.Join(os.RemoveAll(c.path(name)), put(c.path(name))))
			c.expect(what+" for "+name, expect{refused: mount.ClassDamaged})
		}
	}
	c := p.scene(t, p.closed)
	c.must(os.Truncate(c.object(threeSize), largest(t, c.dir)))
	c.expect("an object of the largest size", expect{fsck: []string{fmt.Sprintf("inode %d, object | longer than its file", c.ino("/dir/three"))}})
	changedWhileOpen(t, p)
}

// largest returns the largest size that the filesystem below gives a sparse file, 2^62 if it can.
func largest(t *testing.T, dir string) int64 {
	t.Helper()
	f, err := os.CreateTemp(dir, "largest-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	for size := int64(1) << 62; size > 1<<30; size >>= 1 {
		if f.Truncate(size) == nil {
			return size
		}
	}
	t.Fatal("no large files here")
	return 0
}

// changedWhileOpen changes objects while the volume is open, between two reads of the same.
func changedWhileOpen(t *testing.T, p *props) {
	c := p.scene(t, p.closed)
	v := c.open()
	three, twin, many := c.object(threeSize), c.object(twinSize), c.object(manySize)
	if got := compare(p.ctx, v, c.want()); len(got.eio)+len(got.wrong) > 0 {
		t.Errorf("before: %v", got)
	}
	c.edit(three, func(b []byte) []byte { b[block+5] ^= 1; return b })
	c.must(os.Truncate(twin, 2*block))
	c.pieces(p.ctx, v, "/dir/three", 4, 1)
	c.pieces(p.ctx, v, "/dir/twin", 4, 2, 3)
	c.must(errors.Join(os.Rename(many, many+"x"), os.Symlink(many+"x", many))) // the open file goes on to be used
	c.opened("changed while open", expect{eio: append([]string{"/dir/twin"}, threePaths...),
		fsck: append(c.badBlocks("/dir/three", 1), append(c.badBlocks("/dir/twin", 2, 3), c.stranger(many))...)}, v)
	racing(t, p.ctx, c, v)
	_ = v.Close(p.ctx)
}

// racing flips a byte to and fro while it is read: each read gives what was written, or fails.
func racing(t *testing.T, ctx context.Context, c *scene, v *mount.Volume) {
	t.Helper()
	sparse := c.object(sparseSize)
	f, err := os.OpenFile(sparse, os.O_RDWR, 0)
	c.must(err)
	defer f.Close()
	was := []byte{c.read(sparse)[100]}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := byte(0); ; i++ {
			select {
			case <-stop:
				_, _ = f.WriteAt(was, 100)
				return
			default:
				_, _ = f.WriteAt([]byte{was[0] + i%2}, 100)
			}
		}
	}()
	want := c.want()["/dir/sparse"].Parts["data"]
	ok, failed := 0, 0
	for i := 0; i < 20000 && (ok < 20 || failed < 20); i++ {
		switch got, err := (reader{ctx, v}).data(c.ino("/dir/sparse")); {
		case err != nil:
			failed++
		case got == want:
			ok++
		default:
			t.Fatalf("other data: %s", got)
		}
	}
	close(stop)
	<-done
	if ok == 0 || failed == 0 {
		t.Errorf("%d reads gave the data, %d failed: they did not meet", ok, failed)
	}
}
