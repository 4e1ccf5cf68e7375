package backup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/object"
)

// A pack is a run of steps that bring objects from one state to another; all of them may be taken again:
//
//	kind u8 | object id[16] | offset u64 | length u32 | CRC-32C u32 of what stands before it and of the bytes | bytes
const (
	packSuffix = ".pack"
	stepHeader = 1 + 16 + 8 + 4 + 4
	stepLimit  = 1 << 20 // bytes of one step

	stepWrite  = 1 // bytes at offset
	stepCut    = 2 // the object is not longer than offset
	stepRemove = 3 // the object goes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// packWriter writes a pack; it makes the file when there is something to write.
type packWriter struct {
	path string
	file *os.File
	out  *bufio.Writer
	size int64
}

func (w *packWriter) step(kind byte, id object.ID, off int64, b []byte) error {
	if w.file == nil {
		f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		w.file, w.out = f, bufio.NewWriterSize(f, 1<<20)
	}
	h := append(make([]byte, 0, stepHeader), kind)
	h = append(h, id[:]...)
	h = binary.BigEndian.AppendUint64(h, uint64(off))
	h = binary.BigEndian.AppendUint32(h, uint32(len(b)))
	sum := crc32.Update(crc32.Checksum(h, castagnoli), castagnoli, b)
	h = binary.BigEndian.AppendUint32(h, sum)
	for _, part := range [][]byte{h, b} {
		if _, err := w.out.Write(part); err != nil {
			return err
		}
		w.size += int64(len(part))
	}
	return nil
}

// finish makes the pack durable and returns its name, "" if it is empty.
func (w *packWriter) finish() (name string, size int64, err error) {
	if w.file == nil {
		return "", 0, nil
	}
	err = w.out.Flush()
	if err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	w.file = nil
	return filepath.Base(w.path), w.size, err
}

// abandon removes what was written.
func (w *packWriter) abandon() {
	if w.file != nil {
		w.file.Close()
		_ = os.Remove(w.path) // the next run writes over it
		w.file = nil
	}
}

// apply takes the steps of a pack of so many bytes. Errors: ErrDamaged, the system's.
func apply(path string, size int64, objects *object.Store) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() != size {
		return fmt.Errorf("%s has %d bytes, not %d: %w", path, st.Size(), size, ErrDamaged)
	}
	in := bufio.NewReaderSize(f, 1<<20)
	buf := make([]byte, stepLimit)
	for {
		err := applyStep(in, buf, objects)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
}

// applyStep takes one step; io.EOF if there is none.
func applyStep(in io.Reader, buf []byte, objects *object.Store) error {
	var h [stepHeader]byte
	if _, err := io.ReadFull(in, h[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return ErrDamaged
		}
		return err
	}
	n := binary.BigEndian.Uint32(h[25:])
	off := binary.BigEndian.Uint64(h[17:])
	if n > stepLimit || off > 1<<62 {
		return ErrDamaged
	}
	b := buf[:n]
	if _, err := io.ReadFull(in, b); err != nil {
		return ErrDamaged
	}
	if crc32.Update(crc32.Checksum(h[:29], castagnoli), castagnoli, b) != binary.BigEndian.Uint32(h[29:]) {
		return ErrDamaged
	}
	id := object.ID(h[1:17])
	if h[0] == stepRemove {
		return objects.Remove(id)
	}
	return change(objects, id, h[0], int64(off), b)
}

// change writes to an object or cuts it.
func change(objects *object.Store, id object.ID, kind byte, off int64, b []byte) error {
	f, err := objects.Create(id)
	if err != nil {
		return err
	}
	defer f.Release()
	switch kind {
	case stepWrite:
		return f.WriteAt(b, off)
	case stepCut:
		return f.Cut(off)
	}
	return fmt.Errorf("step of kind %d: %w", kind, ErrDamaged)
}
