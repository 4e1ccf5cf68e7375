package mount

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta"
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
