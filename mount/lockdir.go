package mount

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// Locked is what became of a lock or unlock.
type Locked struct {
	Zones []uint64 `json:"zones"`
}

// LockDir takes a zone's directory, and all zones below, out of use: what is open there as well. The keys stay as they are; the lock survives a remount.
func LockDir(ctx context.Context, dir string) (out Locked, err error) {
	return out, askAbout(ctx, dir, opLock, func(ino uint64) any { return policyArgs{Inode: ino} }, &out)
}

// UnlockDir takes it back.
func UnlockDir(ctx context.Context, dir string) (out Locked, err error) {
	return out, askAbout(ctx, dir, opUnlock, func(ino uint64) any { return policyArgs{Inode: ino} }, &out)
}

// lockable returns the zones at and below a directory that the caller may administer, all of them or an error.
func (p *policyAdmin) lockable(ctx context.Context) ([]meta.ZoneID, error) {
	z, own, err := p.zone(ctx)
	if err != nil {
		return nil, err
	}
	if !own {
		path, _ := p.v.meta.Path(ctx, z.Dir)
		return nil, advise(fmt.Errorf("the directory has no policy of its own: %w", ErrNoPolicy), "its files are under the key of %s: lock that, or give this one a policy", path)
	}
	zones, err := p.v.zonesBelow(ctx, p.dir)
	if err != nil {
		return nil, err
	}
	for _, id := range zones {
		if err := p.v.guard.Administer(ctx, p.by, id); err != nil {
			return nil, fmt.Errorf("zone %d: %w", id, err)
		}
	}
	return zones, nil
}

// setLocked writes the lock into the zones' rows, durably.
func (p *policyAdmin) setLocked(ctx context.Context, zones []meta.ZoneID, on bool) error {
	for _, id := range zones {
		_, _, err := p.v.meta.ChangeZone(ctx, id, nil, func(z *meta.Zone) error {
			z.Flags &^= meta.ZoneLocked
			if on {
				z.Flags |= meta.ZoneLocked
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return p.settle(ctx)
}

func (d *daemon) handleLock(ctx context.Context, call *control.Call) (any, error) {
	p, _, err := d.policyCall(call)
	if err != nil {
		return nil, err
	}
	zones, err := p.lockable(ctx)
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx) // what has begun is finished
	d.volume.guard.Close(zones...)
	defer d.volume.guard.Reopen(zones...)
	err = d.revoke(ctx, zones, "locked", func() error { return p.setLocked(ctx, zones, true) })
	return lockedZones(zones), p.record(ctx, audit.Lock, zones, err)
}

// record takes down what became of each zone.
func (p *policyAdmin) record(ctx context.Context, name string, zones []meta.ZoneID, err error) error {
	for _, id := range zones {
		if rerr := p.v.recordAdmin(ctx, p.by, name, id, "", err); rerr != nil {
			return rerr
		}
	}
	return err
}

func (d *daemon) handleUnlock(ctx context.Context, call *control.Call) (any, error) {
	p, _, err := d.policyCall(call)
	if err != nil {
		return nil, err
	}
	zones, err := p.lockable(ctx)
	if err != nil {
		return nil, err
	}
	err = p.setLocked(context.WithoutCancel(ctx), zones, false)
	for _, id := range zones {
		d.volume.ring.Revoke(id) // forgets that they could not be opened
	}
	return lockedZones(zones), p.record(ctx, audit.Unlock, zones, err)
}

func lockedZones(zones []meta.ZoneID) Locked {
	out := Locked{Zones: []uint64{}}
	for _, id := range zones {
		out.Zones = append(out.Zones, uint64(id))
	}
	return out
}
