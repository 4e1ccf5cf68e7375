package attack

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// copyTree copies a directory with what is in it, holes included, as a backup program or a snapshot of the disk would; from may be in use.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // in use, and gone meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch dst := filepath.Join(to, rel); {
		case d.IsDir():
			return os.MkdirAll(dst, 0o700)
		case d.Type().IsRegular():
			return copyFile(path, dst)
		}
		return nil // sockets
	})
}

// copyStable copies a volume that is in use, when Badger begins and ends no file: a copy is no moment in time, and one that mixes two lists of files
// is a state that no crash leaves.
func copyStable(from, to string) error {
	for range 100 {
		before, err := files(from)
		if err == nil {
			err = copyTree(from, to)
		}
		var after []string
		if err == nil {
			after, err = files(from)
		}
		if err == nil && slices.Equal(before, after) {
			return nil
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	return errors.New("the volume does not keep still")
}

// copyFile copies the data of a file, and leaves its holes holes: Badger's logs are 16 MiB of which little is used.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	_ = os.Remove(to) // what an attack put there may be no file
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = copyData(in, out, st.Size())
	return errors.Join(err, out.Close())
}

func copyData(in, out *os.File, size int64) error {
	if err := out.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		at = min(hole, size)
		if _, err := io.Copy(io.NewOffsetWriter(out, data), io.NewSectionReader(in, data, at-data)); err != nil {
			return err
		}
	}
	return nil
}

// files returns the regular files below dir, relative to it, in ascending order.
func files(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var rel string
			rel, err = filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	return names, err
}
