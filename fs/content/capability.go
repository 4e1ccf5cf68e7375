package content

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/meta"
)

// capability is the xattr that gives a program privileges. Like the set-user-id bit it does not survive a change of the content. With
// HANDLE_KILLPRIV_V2 the kernel leaves that to us, and for every writer, whatever its privileges.
const capability = "security.capability"

// errCapability: the file has xattrs, and whether capabilities are among them is not known for the present version of its row.
var errCapability = errors.New("file may have capabilities")

// dropCapability removes the capabilities of a file and remembers for which version of its row there are none. The File is not locked, because the
// zone's keys are needed.
func (f *File) dropCapability(ctx context.Context) error {
	for {
		a, err := f.e.meta.Getattr(ctx, f.ino)
		if err != nil {
			return err
		}
		err = f.e.meta.RemoveXattr(ctx, f.ino, capability)
		if errors.Is(err, meta.ErrNoXattr) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.plainAt = a.Version
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove capabilities of inode %d: %w", f.ino, err)
		}
	}
}
