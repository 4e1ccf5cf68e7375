package mount

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/control"
)

// ShredPlan is what a shredding is about, before anything is removed.
type ShredPlan struct {
	Path  string `json:"path"` // in the volume
	Files uint64 `json:"files"`
	Keys  uint64 `json:"keys"` // data keys of them
	// Digest is the SHA-256 over number, epoch and wrapped key of each of those keys, in the order of inodes and epochs: what the receipt is about.
	Digest string `json:"digest"`
}

// Shredded is the receipt: an event of the audit log says the same, which kmsfs audit prove takes.
type Shredded struct {
	ShredPlan
	Event string `json:"event"` // its id
	// Elsewhere are places in the volume's directory that were not written anew, and may hold copies.
	Elsewhere []string `json:"elsewhere,omitempty"`
}

type shredArgs struct {
	Inode uint64 `json:"inode"`
}

// Shred removes a file or directory in a mount, as its caller, and returns when neither the wraps of its data keys nor its rows are in any file of the volume any more: metadata,
// its tables and log, journal, export. agree is asked first; an error of it ends it with nothing changed.
//
// Errors: ErrUsage (the root, or not in a mount), ErrBusy (something is open, or has other names), access.Denied, what removing gives. After an error of the last step
// everything is removed, but may be found below: another Shred, of anything, does that step again.
func Shred(ctx context.Context, path string, agree func(ShredPlan) error) (out Shredded, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return out, fmt.Errorf("%s: %w", path, err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return out, err
	}
	r, err := openRuntime()
	if err != nil {
		return out, err
	}
	rec, err := r.holding(&st)
	if err != nil {
		return out, fmt.Errorf("%w: %s", err, path)
	}
	err = control.Do(ctx, r.socket(rec.ID), opShred, shredArgs{Inode: st.Ino}, func(event json.RawMessage) error {
		var plan ShredPlan
		if err := json.Unmarshal(event, &plan); err != nil {
			return fmt.Errorf("%w: %v", control.ErrProtocol, err)
		}
		if err := agree(plan); err != nil {
			return err
		}
		return os.RemoveAll(abs)
	}, &out)
	return out, err
}
