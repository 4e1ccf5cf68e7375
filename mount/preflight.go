package mount

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// jobRoom is what a job needs free beyond what is promised already, in bytes: what it rewrites goes through the journal, and comes back with each checkpoint.
const jobRoom = 64 << 20

// jobRoomShare bounds that on a small disk: one part in this many of its size.
const jobRoomShare = 50

// readyForJob says what stands against a job before it begins, and what to do about it: what it would find out by waiting otherwise. Rights are decided by allowJob.
func (d *daemon) readyForJob(ctx context.Context, _ *meta.Job) error {
	v := d.volume
	if d.cfg.Options.ReadOnly {
		return advise(fmt.Errorf("%w: the volume is mounted read-only", ErrUsage), "mount it without -o ro")
	}
	if failed := v.kv.Stats().Failed; failed != nil {
		return advise(fmt.Errorf("the volume is read-only since a write below failed: %w", failed), "mend the disk, then mount the volume again")
	}
	if err := v.keysAnswer(ctx); err != nil {
		return err
	}
	return v.roomForJob()
}

// keysAnswer tells whether the key manager is there, unlocked, and has its token.
func (v *Volume) keysAnswer(ctx context.Context) error {
	ctx, cancel := awake.WithTimeout(ctx, askKeys)
	defer cancel()
	st, err := v.keys.Status(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return advise(fmt.Errorf("%w: the key daemon does not answer within %v", keymgr.ErrKeyUnavailable, askKeys), "kmsfs keystore status says what it is doing")
	case err != nil:
		return advise(fmt.Errorf("the key daemon: %w", err), "kmsfs keystore unlock starts it")
	case st.Locked:
		return advise(fmt.Errorf("the key store: %w", keymgr.ErrLocked), "kmsfs keystore unlock")
	case st.Token.Error != "":
		return advise(fmt.Errorf("%w: the token does not answer: %s", keymgr.ErrKeyUnavailable, st.Token.Error), "see that the HSM is plugged in and its module runs")
	}
	return nil
}

// roomForJob refuses to begin on a disk where the job would wait at once.
func (v *Volume) roomForJob() error {
	var st unix.Statfs_t
	if err := unix.Statfs(v.Dir, &st); err != nil {
		return fmt.Errorf("space below %s: %w", v.Dir, err)
	}
	free, owed := st.Bavail*uint64(st.Bsize), v.kv.Owed()
	need := min(jobRoom, st.Blocks*uint64(st.Bsize)/jobRoomShare)
	if free < owed+need {
		return advise(fmt.Errorf("%d MiB are free below %s, %d MiB of them promised to the journal, and a job needs %d MiB: %w",
			free>>20, v.Dir, owed>>20, need>>20, unix.ENOSPC), "make room there, or delete files in the mount")
	}
	return nil
}
