package mount

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/identity"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
)

// ownMount says what lies on the mount that this daemon serves; nothing does before it is mounted.
type ownMount struct {
	point  atomic.Pointer[string]
	device atomic.Uint64
}

func (o *ownMount) set(point string, device uint64) {
	o.point.Store(&point)
	o.device.Store(device)
}

func (o *ownMount) path(p string) bool {
	point := o.point.Load()
	return point != nil && within(filepath.Clean(p), *point)
}

func (o *ownMount) is(device uint64) bool { return device != 0 && device == o.device.Load() }

// openGuard reads zones and policies.
func (v *Volume) openGuard(ctx context.Context, level audit.Level) (err error) {
	v.guard, err = access.New(ctx, access.Config{
		Meta: v.meta, Keys: v.keys, Identity: identity.New(identity.Config{OwnPath: v.own.path, OwnDevice: v.own.is}),
		Recorder: v.recorder(), Level: level,
	})
	return err
}

// keyTTL is how long the keys of a zone may be used; 0: as long as the mount says.
func (v *Volume) keyTTL(id meta.ZoneID) time.Duration {
	if v.guard == nil {
		return 0
	}
	return v.guard.Settings(id).KeyTTL
}

const (
	watchFor   = 100 * time.Second // one wait for changes
	watchAgain = 250 * time.Millisecond
)

// watchKeys learns of changes at the key manager until ctx is done, and revokes what has to be. It calls miss when there is no answer, which a connection that ends tells at once.
func (d *daemon) watchKeys(ctx context.Context, miss func()) {
	var epoch uint64
	for ctx.Err() == nil {
		changes, err := d.volume.keys.Watch(ctx, epoch, nil, watchFor)
		if err == nil && changes.Epoch == epoch {
			continue
		}
		if err == nil {
			epoch = changes.Epoch
			changes, err = d.volume.keys.Watch(ctx, 0, d.volume.guard.Keys(), 0)
		}
		if err != nil { // nobody answers: keys last as long as they may
			epoch = 0
			miss()
			select {
			case <-ctx.Done():
			case <-time.After(watchAgain):
			}
			continue
		}
		d.keysChanged(ctx, changes.States)
	}
}

// keysChanged takes note of a change at the key manager.
func (d *daemon) keysChanged(ctx context.Context, states map[string]string) {
	died, revived := d.volume.guard.Changed(states)
	for _, id := range revived {
		d.volume.ring.Revoke(id) // forgets that its keys were refused
	}
	if len(died) > 0 {
		if err := d.revoke(ctx, died, "the key is disabled or being deleted", nil); err != nil && !errors.Is(err, context.Canceled) {
			d.log.Error("revoke zones", "zones", died, "error", err)
		}
	}
	d.refreshStrict(ctx)
}

// moveZone has the key manager make the wraps of a zone's key for another place of its directory, by the rights of whoever renames it.
func (v *Volume) moveZone(ctx context.Context, by access.Requester, z *meta.Zone, parent meta.Ino, name []byte) (*meta.Zone, error) {
	oldParent, oldName, err := v.meta.ZonePlace(ctx, z)
	if err != nil {
		return nil, err
	}
	from, to := meta.ZoneContext(v.ID, z.ID, oldParent, oldName), meta.ZoneContext(v.ID, z.ID, parent, string(name))
	caller := keymgr.Caller{UID: int(by.UID), GID: int(by.GID), PID: int(by.PID), Via: keymgr.ViaFileDaemon}
	bind := func(wraps []meta.ZoneWrap) (bound []meta.ZoneWrap, err error) {
		for _, w := range wraps {
			out, err := v.keys.ReEncrypt(ctx, caller, keymgr.ReEncryptInput{Blob: w.Blob, SourceContext: from, SourceKeyID: w.KeyID, DestinationKeyID: w.KeyID, DestinationContext: to})
			if err != nil {
				return nil, fmt.Errorf("wrap the key of zone %d for its new place: %w", z.ID, err)
			}
			bound = append(bound, meta.ZoneWrap{KeyID: out.KeyID, Blob: out.Blob})
		}
		return bound, nil
	}
	moved := *z
	if moved.Wraps, err = bind(z.Wraps); err == nil && z.Former != nil {
		moved.Former = &meta.FormerKey{Commitment: z.Former.Commitment}
		moved.Former.Wraps, err = bind(z.Former.Wraps)
	}
	return &moved, err
}

// recordAdmin takes down what became of a change of policies or locks, beside the decision, which was recorded before. zone is what was changed.
func (v *Volume) recordAdmin(ctx context.Context, by access.Requester, name string, zone meta.ZoneID, detail string, outcome error) error {
	e := audit.Event{Class: audit.Admin, Source: audit.Files, Name: name, Decision: audit.Allow, Detail: detail, Internal: by == access.Requester{}}
	e.Identity = audit.Identity{UID: int(by.UID), GID: int(by.GID), PID: int(by.PID)}
	e.Object = audit.Object{Volume: v.ID.String(), Zone: uint64(zone)}
	if z, err := v.meta.Zone(ctx, zone); err == nil {
		e.Key, e.Inode = z.Wraps[0].KeyID, uint64(z.Dir)
		if path, err := v.meta.Path(ctx, z.Dir); err == nil {
			e.Path = string(path)
		}
	}
	if outcome != nil {
		e.ErrorCode, e.ErrorMessage = string(ClassOf(outcome)), outcome.Error()
	}
	return errors.Join(outcome, v.recorder().Record(ctx, &e))
}

// zoneStates describes the zones about which somebody should know.
func (v *Volume) zoneStates(ctx context.Context) []ZoneStatus {
	var all []ZoneStatus
	for _, z := range v.guard.States() {
		s := ZoneStatus{Directory: fmt.Sprintf("inode %d", z.Dir), Locked: z.Locked, Keyless: z.Dead, Learns: z.Learns}
		if path, err := v.meta.Path(ctx, z.Dir); err == nil {
			s.Directory = string(path)
		}
		all = append(all, s)
	}
	return all
}
