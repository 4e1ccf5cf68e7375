package mount

import (
	"context"
	"fmt"

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
	Event string `json:"event"` // its id; "" before it is done
	// Elsewhere are places in the volume's directory that were not written anew, and may hold copies.
	Elsewhere []string `json:"elsewhere,omitempty"`
}

type shredArgs struct {
	Inode  uint64 `json:"inode"`
	Digest string `json:"digest,omitempty"` // of the plan that was agreed to; "": whatever there is
}

// PlanShred says what Shred would do. Errors: ErrUsage (the root, or not in a mount), ErrBusy (something is open, or has other names), access.Denied.
func PlanShred(ctx context.Context, path string) (plan ShredPlan, err error) {
	return plan, shredCall(ctx, path, opShredPlan, "", &plan)
}

// Shred submits a job that removes a file or directory in a mount, and ends when neither the wraps of its data keys nor its rows are in any file of the volume any more: metadata, its tables and log,
// journal, export. digest is that of the plan that was agreed to; "" for whatever there is now. What is removed is removed as the user who mounted. Errors: as PlanShred's, and ErrBusy if it has changed since.
func Shred(ctx context.Context, path, digest string) (st JobStatus, err error) {
	return st, shredCall(ctx, path, opShred, digest, &st)
}

func shredCall(ctx context.Context, path, op, digest string, out any) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r, err := openRuntime()
	if err != nil {
		return err
	}
	rec, err := r.holding(&st)
	if err != nil {
		return fmt.Errorf("%w: %s", err, path)
	}
	return control.Do(ctx, r.socket(rec.ID), op, shredArgs{Inode: st.Ino, Digest: digest}, nil, out)
}
