package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount"
)

// accessKeyFile is the new file that an access key goes to, which is printed once: it is made before the key is, so that a file that cannot be made costs none.
type accessKeyFile struct {
	f    *os.File
	path string // absolute
}

// newAccessKeyFile makes the file, empty, for its owner alone. Errors: fs.ErrExist, the system's.
func newAccessKeyFile(path string) (*accessKeyFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("file for the access key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, &mount.Advice{Err: fmt.Errorf("file for the access key: %w", err), Next: "name a file that is not there yet; nothing was changed"}
	}
	if err != nil {
		return nil, fmt.Errorf("file for the access key: %w", err)
	}
	return &accessKeyFile{f, path}, nil
}

// discard removes the file again, when there is no key.
func (a *accessKeyFile) discard() { _ = errors.Join(a.f.Close(), os.Remove(a.path)) }

// write puts the key into the file, as --json prints it, durably.
func (a *accessKeyFile) write(v identityKeyView) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	defer func() { clear(text) }()
	text = append(text, '\n')
	_, err = a.f.Write(text)
	if err = errors.Join(err, a.f.Sync(), a.f.Close()); err == nil {
		err = syncDirectory(filepath.Dir(a.path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the access key to %s: %w", a.path, err), os.Remove(a.path))
	}
	return nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
