package mount

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// lost adds ErrDamaged to the error of opening a part of a volume that says that the part is not there, or is something else: a volume whose
// kmsfs.json is there must have all of them.
func lost(err error) error {
	for _, sentinel := range []error{os.ErrNotExist, os.ErrExist, unix.ENOTDIR, unix.ELOOP, unix.ENXIO, unix.EISDIR, meta.ErrNotFound} {
		if errors.Is(err, sentinel) {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return err
}

// rebuildable adds to an error that says that the metadata is damaged how it comes back.
func rebuildable(dir string, err error) error {
	if errors.Is(err, kv.ErrCorrupt) || errors.Is(err, ErrDamaged) || errors.Is(err, meta.ErrCorrupt) || errors.Is(err, meta.ErrAuth) {
		return advise(err, "kmsfs rebuild %s makes the metadata anew from its export and the journal", dir)
	}
	return err
}
