package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dgraph-io/badger/v4"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// sizes bounds Badger's files of fixed names, in bytes. Badger makes room for what KEYREGISTRY (no key is in it) and MANIFEST say, and maps
// DISCARD whole.
func sizes(name string) (limit int64, ok bool) {
	switch name {
	case badger.KeyRegistryFileName:
		return 28, true
	case badger.ManifestFilename:
		return 64 << 20, true
	case "DISCARD":
		return 1 << 20, true
	}
	return 0, false
}

// checkPlain refuses a directory of Badger's that is itself a link, or holds anything but regular files with one name each, and some that
// are too long. Badger follows links, waits for pipes, ends the process where it meets a directory, and cuts files to length: whoever may
// write to the volume must not be able to aim that at files elsewhere.
//
// Errors: kv.ErrCorrupt; fs.ErrNotExist, and others of the system's.
func checkPlain(dir string) error {
	if err := checkDir(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // another process has the store open
			continue
		}
		if err != nil {
			return err
		}
		if !isPlain(info) {
			return notPlain(e.Name())
		}
		if limit, ok := sizes(e.Name()); ok && info.Size() > limit {
			return fmt.Errorf("%s has %d bytes: %w", e.Name(), info.Size(), kv.ErrCorrupt)
		}
	}
	return nil
}

// checkDir refuses what is not itself a directory.
func checkDir(dir string) error {
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory: %w", filepath.Base(dir), kv.ErrCorrupt)
	}
	return err
}

// isPlain reports whether a file is a regular one that has no other name.
func isPlain(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return info.Mode().IsRegular() && (!ok || st.Nlink == 1)
}

func notPlain(name string) error {
	return fmt.Errorf("%s is not a regular file, or has a second name: %w", name, kv.ErrCorrupt)
}
