package mount

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/mount/control"
)

// Unmount ends the mount at mountPoint and returns when its volume is closed. A dead mount is removed. ErrNotMounted, ErrBusy.
func Unmount(ctx context.Context, mountPoint string) error {
	m, err := mountedAt(mountPoint)
	if err != nil {
		return err
	}
	r, err := openRuntime()
	if err != nil {
		return err
	}
	rec, ok := r.find(m)
	if !ok {
		return unmountUnknown(m)
	}
	err = control.Do(ctx, r.socket(rec.ID), opUmount, nil, nil, nil)
	if !errors.Is(err, control.ErrNobody) {
		if err == nil {
			err = awaitExit(ctx, rec.PID)
		}
		return err
	}
	if aliveAt(rec.PID) { // it closes already, or it is another process by now
		if err := awaitExit(ctx, rec.PID); err != nil {
			return err
		}
	}
	if again, merr := mountedAt(mountPoint); merr == nil && again.Device == m.Device {
		if err := detach(m.Point); err != nil {
			return fmt.Errorf("remove the dead mount at %s: %w", m.Point, err)
		}
	}
	return r.forget(rec.ID)
}

// unmountUnknown unmounts what another user, or this one with another runtime directory, has mounted; its daemon closes by itself then.
func unmountUnknown(m mountEntry) error {
	err := unix.Unmount(m.Point, unix.UMOUNT_NOFOLLOW)
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %s", ErrBusy, m.Point)
	case errors.Is(err, unix.EPERM):
		return fusermount("-u", "--", m.Point)
	case err != nil:
		return fmt.Errorf("unmount %s: %w", m.Point, err)
	}
	return nil
}

// awaitExit waits, bounded, for a daemon that has closed its volume to be gone.
func awaitExit(ctx context.Context, pid int) error {
	ctx, cancel := awake.WithTimeout(ctx, closeTimeout)
	defer cancel()
	for aliveAt(pid) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for daemon %d to end: %w", pid, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
	return nil
}
