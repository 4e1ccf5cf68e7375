package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// Unpack copies rows and objects of a finished backup below volume, a directory that holds neither, and puts the pack's blocks in their places there. The
// backup is only read, and kept from other runs meanwhile. report is called with the bytes copied so far.
func Unpack(ctx context.Context, dir string, m *Manifest, volume string, report func(bytes uint64)) error {
	unlock, err := lockTarget(dir)
	if err != nil {
		return err
	}
	defer unlock()
	c := copier{report: report, buf: make([]byte, 1<<20)}
	for _, name := range []string{rowsName, objectsName} {
		if err := os.Mkdir(filepath.Join(volume, name), 0o700); err != nil {
			return err
		}
	}
	for _, name := range m.Rows {
		if err := c.file(filepath.Join(dir, rowsName, name), filepath.Join(volume, rowsName, name)); err != nil {
			return err
		}
	}
	if err := c.objects(ctx, filepath.Join(dir, objectsName), filepath.Join(volume, objectsName)); err != nil {
		return err
	}
	objects, err := object.Open(filepath.Join(volume, objectsName), object.Options{})
	if err != nil {
		return err
	}
	defer objects.Close()
	if m.Pack != "" {
		if err := apply(filepath.Join(dir, m.Pack), m.PackSize, objects); err != nil {
			return err
		}
	}
	return objects.SyncAll()
}

// copier copies files.
type copier struct {
	report func(uint64)
	bytes  uint64
	buf    []byte
}

// objects copies the 256 directories of objects. What is no object is left out.
func (c *copier) objects(ctx context.Context, from, to string) error {
	fans, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, fan := range fans {
		if !fan.IsDir() || len(fan.Name()) != 2 {
			continue
		}
		if err := os.Mkdir(filepath.Join(to, fan.Name()), 0o700); err != nil {
			return err
		}
		names, err := os.ReadDir(filepath.Join(from, fan.Name()))
		if err != nil {
			return err
		}
		for _, e := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !e.Type().IsRegular() {
				continue
			}
			if err := c.file(filepath.Join(from, fan.Name(), e.Name()), filepath.Join(to, fan.Name(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// file copies one file; holes stay holes.
func (c *copier) file(from, to string) (err error) {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing: %w", from, ErrDamaged)
	}
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file: %w", from, ErrDamaged)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := c.data(in, out, st.Size()); err != nil {
		return err
	}
	return out.Truncate(st.Size())
}

// data copies what is not a hole.
func (c *copier) data(in, out *os.File, size int64) error {
	for at := int64(0); at < size; {
		from, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		to, err := unix.Seek(int(in.Fd()), from, unix.SEEK_HOLE)
		if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		n, err := io.CopyBuffer(io.NewOffsetWriter(out, from), io.NewSectionReader(in, from, to-from), c.buf)
		if err != nil {
			return err
		}
		c.bytes += uint64(n)
		if c.report != nil {
			c.report(c.bytes)
		}
		at = to
	}
	return nil
}

// Checker compares every block of a state with its rows.
type Checker struct {
	Structure *meta.Structure
	Namer     *blockcrypt.ObjectNamer
	Objects   *object.Store

	attrs map[meta.Ino]place
	buf   []byte
}

// place is what is needed to find the blocks of an inode.
type place struct {
	serial    uint64
	blockSize uint32
	upper     bool
	former    meta.Former
}

// plane returns where a block lies.
func (p place) plane(block uint64) (meta.Plane, bool) {
	a := meta.Attr{Layout: meta.LayoutSlots, Serial: p.serial, Upper: p.upper, Former: p.former, Params: meta.Params{BlockSize: p.blockSize}}
	return a.PlaneOf(block)
}

// Check reads every block that the rows below volume speak of and returns those that are not what was backed up.
func (c *Checker) Check(ctx context.Context, volume string, names []string, key *blockcrypt.Key, id blockcrypt.VolumeID) (damaged []Damage, err error) {
	rows, err := local.OpenCopy(filepath.Join(volume, rowsName), names, key, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	c.attrs, c.buf = map[meta.Ino]place{}, make([]byte, stepLimit+blockcrypt.MaxBlockSize)
	err = rows.Rows(ctx, func(k, v []byte) error {
		if _, ok := meta.ParseInodeKey(k); ok {
			return c.inode(k, v)
		}
		ino, row, ok := meta.ParseMapKey(k)
		if !ok {
			return nil
		}
		wrong, err := c.row(ino, row, k, v)
		for _, block := range wrong {
			damaged = append(damaged, Damage{Inode: uint64(ino), Block: block})
		}
		return err
	})
	return damaged, err
}

func (c *Checker) inode(k, v []byte) error {
	a, err := c.Structure.Inode(k, v)
	if err == nil && a.Layout == meta.LayoutSlots {
		c.attrs[a.Ino] = place{a.Serial, a.BlockSize, a.Upper, a.Former}
	}
	return err
}

func (c *Checker) row(ino meta.Ino, row uint64, k, v []byte) (wrong []uint64, err error) {
	at, ok := c.attrs[ino]
	if !ok {
		return nil, nil
	}
	p, ok := at.plane(row * meta.MapRowBlocks)
	if !ok {
		return nil, nil
	}
	var now, none meta.MapRow
	if err := c.Structure.Map(k, v, &now); err != nil {
		return nil, err
	}
	f, err := c.Objects.Get(object.ID(c.Namer.ID(uint64(ino), p.Serial)))
	for _, s := range stretches(row, p, &none, &now) {
		if errors.Is(err, object.ErrMissing) || errors.Is(err, object.ErrHostile) {
			wrong = append(wrong, s.blocks...)
			continue
		}
		if err != nil {
			return nil, err
		}
		bad, err := s.read(f, p.BlockSize, c.buf)
		if err != nil {
			f.Release()
			return nil, err
		}
		wrong = append(wrong, bad...)
	}
	if err == nil {
		f.Release()
	}
	return wrong, nil
}
