package attack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount"
)

// thing is one file of any type as its users see it. Its parts are texts, so that they can be compared; each may be unreadable for itself.
type thing struct {
	Ino   meta.Ino
	Parts map[string]string // "attr", "list" (names in a directory), "link", "data", "xattr NAME"
}

// tree is everything in a volume, by path; "/" is the root.
type tree map[string]*thing

// reader reads a volume through what a mount would use.
type reader struct {
	ctx context.Context
	v   *mount.Volume
}

// read returns everything in a volume, or the first error.
func readTree(ctx context.Context, v *mount.Volume) (tree, error) {
	t := tree{}
	return t, t.add(reader{ctx, v}, "/", meta.RootIno)
}

func (t tree) add(r reader, name string, ino meta.Ino) error {
	th := &thing{Ino: ino, Parts: map[string]string{}}
	t[name] = th
	a, err := r.v.Meta().Getattr(r.ctx, ino)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for part, get := range r.getters(a) {
		if th.Parts[part], err = get(); err != nil {
			return fmt.Errorf("%s of %s: %w", part, name, err)
		}
	}
	names, err := r.v.Meta().ListXattr(r.ctx, ino)
	if err != nil {
		return err
	}
	for _, x := range names {
		if th.Parts["xattr "+x], err = r.xattr(ino, x); err != nil {
			return err
		}
	}
	if !a.IsDir() {
		return nil
	}
	for _, base := range splitNames(th.Parts["list"]) {
		child, err := r.v.Meta().Lookup(r.ctx, ino, []byte(base))
		if err != nil {
			return err
		}
		if err := t.add(r, path.Join(name, base), child.Ino); err != nil {
			return err
		}
	}
	return nil
}

// getters returns how the parts of an inode are read, but for the values of its xattrs.
func (r reader) getters(a *meta.Attr) map[string]func() (string, error) {
	out := map[string]func() (string, error){
		"attr":   func() (string, error) { return attrText(a), nil },
		"xattrs": func() (string, error) { return r.xattrs(a.Ino) },
	}
	switch {
	case a.IsDir():
		out["list"] = func() (string, error) { return r.list(a.Ino) }
	case a.IsRegular():
		out["data"] = func() (string, error) { return r.data(a.Ino) }
	case a.Type() == meta.ModeSymlink:
		out["link"] = func() (string, error) {
			target, err := r.v.Meta().Readlink(r.ctx, a.Ino)
			return string(target), err
		}
	}
	return out
}

func attrText(a *meta.Attr) string {
	return fmt.Sprintf("ino %d mode %o uid %d gid %d nlink %d size %d allocated %d rdev %d atime %v mtime %v ctime %v btime %v",
		a.Ino, a.Mode, a.UID, a.GID, a.Nlink, a.Size, a.Allocated, a.Rdev, a.Atime, a.Mtime, a.Ctime, a.Btime)
}

func (r reader) list(dir meta.Ino) (string, error) {
	var names []string
	for cookie := uint64(0); ; {
		batch, err := r.v.Meta().ReadDir(r.ctx, dir, cookie, 50)
		if err != nil {
			return "", err
		}
		if len(batch) == 0 {
			break
		}
		for _, d := range batch {
			names = append(names, string(d.Name))
		}
		cookie = batch[len(batch)-1].Cookie
	}
	slices.Sort(names)
	return strings.Join(names, "\x00"), nil
}

func splitNames(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, "\x00")
}

func (r reader) xattrs(ino meta.Ino) (string, error) {
	names, err := r.v.Meta().ListXattr(r.ctx, ino)
	slices.Sort(names)
	return strings.Join(names, "\x00"), err
}

func (r reader) xattr(ino meta.Ino, name string) (string, error) {
	v, err := r.v.Meta().GetXattr(r.ctx, ino, name)
	return string(v), err
}

// data returns a digest of each 4 KiB of a file.
func (r reader) data(ino meta.Ino) (string, error) {
	f, err := r.v.Content().Open(r.ctx, ino)
	if err != nil {
		return "", err
	}
	buf := make([]byte, f.Size())
	n, err := f.ReadAt(r.ctx, buf, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return digest(buf[:n]), nil
}

// block returns a digest of a piece of a file.
func (r reader) piece(ino meta.Ino, off uint64, n int) (string, error) {
	f, err := r.v.Content().Open(r.ctx, ino)
	if err != nil {
		return "", err
	}
	buf := make([]byte, n)
	got, err := f.ReadAt(r.ctx, buf, off)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return digest(buf[:got]), nil
}

func digest(b []byte) string {
	if len(bytes.Trim(b, "\x00")) == 0 {
		return fmt.Sprintf("%d zeros", len(b))
	}
	return fmt.Sprintf("%d bytes %x", len(b), sha256.Sum256(b))
}

// verdict is how a volume compares with what it should hold.
type verdict struct {
	eio   []string // paths with a part that could not be read: EIO
	wrong []string // what is other than it should be, and did not fail
}

// compare reads everything that want has, by its names, and what directories list besides.
func compare(ctx context.Context, v *mount.Volume, want tree) verdict {
	c := comparer{reader{ctx, v}, verdict{}}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		c.thing(want, name)
	}
	return c.verdict
}

type comparer struct {
	reader
	verdict
}

func (c *comparer) thing(want tree, name string) {
	th := want[name]
	a, err := c.v.Meta().Getattr(c.ctx, meta.RootIno)
	if name != "/" {
		a, err = c.v.Meta().Lookup(c.ctx, want[path.Dir(name)].Ino, []byte(path.Base(name)))
	}
	if err != nil {
		c.failed(name, "lookup", err)
		return
	}
	before := len(c.eio)
	for part, get := range c.getters(a) {
		got, err := get()
		c.part(name, part, th.Parts[part], got, err)
	}
	for part, value := range th.Parts {
		if x, ok := strings.CutPrefix(part, "xattr "); ok {
			got, err := c.xattr(a.Ino, x)
			c.part(name, part, value, got, err)
		}
	}
	if len(c.eio) > before { // once for each path
		c.eio = c.eio[:before+1]
	}
}

func (c *comparer) part(name, part, want, got string, err error) {
	switch {
	case err != nil:
		c.failed(name, part, err)
	case got != want:
		c.wrong = append(c.wrong, fmt.Sprintf("%q: %s is %q, not %q", name, part, got, want))
	}
}

func (c *comparer) failed(name, part string, err error) {
	if errno := fs.Errno(err); errno != syscall.EIO {
		c.wrong = append(c.wrong, fmt.Sprintf("%q: %s: errno %v: %v", name, part, errno, err))
		return
	}
	c.eio = append(c.eio, name)
}
