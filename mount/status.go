package mount

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/mount/control"
)

// statusTimeout bounds the wait for one daemon.
const statusTimeout = 5 * time.Second

// Status returns the mounts of this user, or the ones at the given mount points (ErrNotMounted if there is none at one), in the order of their
// mount points. A daemon that does not answer is reported as dead, with what is known of it; records of mounts that are gone are removed.
func Status(ctx context.Context, mountPoints ...string) ([]MountStatus, error) {
	r, err := openRuntime()
	if err != nil {
		return nil, err
	}
	records, err := r.wanted(mountPoints)
	if err != nil {
		return nil, err
	}
	answers := make([]*MountStatus, len(records))
	var asked sync.WaitGroup
	for i, rec := range records {
		asked.Go(func() { answers[i] = r.ask(ctx, rec) })
	}
	asked.Wait()
	all := []MountStatus{}
	for _, st := range answers {
		if st != nil {
			all = append(all, *st)
		}
	}
	slices.SortFunc(all, func(a, b MountStatus) int { return strings.Compare(a.MountPoint, b.MountPoint) })
	return all, nil
}

// wanted returns the records of the given mount points, or all.
func (r runDir) wanted(mountPoints []string) ([]record, error) {
	if len(mountPoints) == 0 {
		return r.records()
	}
	var records []record
	for _, point := range mountPoints {
		m, err := mountedAt(point)
		if err != nil {
			return nil, err
		}
		rec, ok := r.find(m)
		if !ok {
			return nil, fmt.Errorf("%w of this user: %s", ErrNotMounted, point)
		}
		records = append(records, rec)
	}
	return records, nil
}

// ask returns the status of one mount, nil if it is gone.
func (r runDir) ask(ctx context.Context, rec record) *MountStatus {
	ctx, cancel := awake.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var st MountStatus
	err := control.Do(ctx, r.socket(rec.ID), opStatus, nil, nil, &st)
	if err == nil {
		return &st
	}
	st = MountStatus{Volume: rec.Volume, ID: rec.ID, MountPoint: rec.MountPoint, PID: rec.PID, Log: r.log(rec.ID), State: StateDead}
	if aliveAt(rec.PID) && !errors.Is(err, control.ErrNobody) {
		st.Problem = fmt.Sprintf("the daemon does not answer: %v", err)
		return &st
	}
	if m, merr := mountedAt(rec.MountPoint); merr != nil || m.Device != rec.Device {
		_ = r.forget(rec.ID)
		return nil
	}
	st.Problem = "the daemon is dead and the mount answers nothing; mount the volume again (nothing that was acknowledged is lost), or kmsfs umount"
	return &st
}
