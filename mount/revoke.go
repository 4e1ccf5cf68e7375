package mount

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/meta"
)

// drainFor bounds how long dirty pages may take to be written back under a key that is about to go: longer than any disk in order needs, and short enough to have
// revoked within 2 s.
const drainFor = 1200 * time.Millisecond

// forgetFor bounds the second round, which finds few pages or none.
const forgetFor = 500 * time.Millisecond

// revoke takes zones that are closed already out of use: dirty pages are written back under the old key, bounded; between runs, if not nil, when nothing more is to be
// written; the keys go; what has been read meanwhile is forgotten, and mappings with it. The next use is refused.
func (d *daemon) revoke(ctx context.Context, zones []meta.ZoneID, why string, between func() error) error {
	start := time.Now()
	match := func(id meta.ZoneID) bool { return slices.Contains(zones, id) }
	draining, cancel := context.WithTimeout(ctx, drainFor)
	written := d.fs.Drain(draining, match)
	cancel()
	var err error
	if between != nil {
		err = between()
	}
	for _, id := range zones {
		d.volume.ring.Revoke(id)
	}
	d.volume.content.DropKeys()
	forgetting, cancel := context.WithTimeout(ctx, forgetFor)
	forgotten := d.fs.Drain(forgetting, match)
	cancel()
	log := d.log.Info
	if written.Unfinished > 0 {
		log = d.log.Error // what programs had written there and not synced is lost
	}
	log("zones revoked", "zones", zones, "why", why, "inodes", written.Inodes, "not written back", written.Unfinished, "not forgotten", forgotten.Unfinished,
		"took", time.Since(start))
	detail := fmt.Sprintf("%s; %d files drained, %d not within %v", why, written.Inodes, written.Unfinished, drainFor)
	for _, id := range zones {
		if rerr := d.volume.recordAdmin(context.WithoutCancel(ctx), access.Requester{}, "RevokeZone", id, detail, nil); rerr != nil {
			d.log.Error("record a revocation", "zone", id, "error", rerr)
		}
	}
	return err
}

// refreshStrict has the kernel forget what mappings of files in strict zones show: the next touch is decided again.
func (d *daemon) refreshStrict(ctx context.Context) {
	if !d.volume.guard.Active() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	d.fs.Drain(ctx, func(id meta.ZoneID) bool { return d.volume.guard.Settings(id).Strict })
}

// zonesBelow returns the zones whose directory is dir, or lies below it.
func (v *Volume) zonesBelow(ctx context.Context, dir meta.Ino) (found []meta.ZoneID, err error) {
	var all []*meta.Zone
	if err := v.meta.Zones(ctx, func(z *meta.Zone) bool { all = append(all, z); return true }); err != nil {
		return nil, err
	}
	for _, z := range all {
		below, err := v.isBelow(ctx, z.Dir, dir)
		if err != nil {
			return nil, err
		}
		if below {
			found = append(found, z.ID)
		}
	}
	return found, nil
}

// isBelow says whether a directory is dir or lies below it.
func (v *Volume) isBelow(ctx context.Context, at, dir meta.Ino) (bool, error) {
	for {
		if at == dir {
			return true, nil
		}
		if at == meta.RootIno || at == 0 {
			return false, nil
		}
		a, err := v.meta.Getattr(ctx, at)
		if err != nil {
			return false, err
		}
		at = a.Parent
	}
}
