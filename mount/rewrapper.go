package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/meta"
)

// rewrapper wraps keys of a volume anew.
type rewrapper struct {
	v    *Volume
	by   keymgr.Caller // whose rights count
	args rewrapArgs

	keys   *client.Client // key manager of target
	target string         // ARN of the CMK that is named; "": none
}

// rewrap does what args say to the keys of the volume, one after the other.
func (v *Volume) rewrap(ctx context.Context, by keymgr.Caller, args rewrapArgs, report func(Rewrapped) error) error {
	if !v.wraps.rewrapping.TryLock() {
		return fmt.Errorf("%w: keys of the volume are being wrapped anew already", ErrBusy)
	}
	defer v.wraps.rewrapping.Unlock()
	r := &rewrapper{v: v, by: by, args: args, keys: v.keys}
	if args.KeyStore != "" {
		r.keys = client.New(socketOf(args.KeyStore), client.Options{})
		defer r.keys.Close()
	}
	if name := args.To + args.Add + args.Remove; name != "" {
		key, err := r.keys.DescribeKey(ctx, keymgr.Caller{}, name)
		switch {
		case errors.Is(err, keymgr.ErrNotFound) && args.Remove != "" && strings.HasPrefix(name, "arn:"):
			key.ARN = name // of a key that is gone, or in a key store that is
		case err != nil:
			return fmt.Errorf("key %s: %w", name, err)
		}
		r.target = key.ARN
	}
	if err := r.check(ctx); err != nil {
		return err
	}
	zones, err := r.zones(ctx)
	if err != nil {
		return err
	}
	keys := len(zones)
	if args.Inode == 0 {
		keys++
	}
	v.wraps.begin(by, args.Inode, keys)
	defer v.wraps.end()
	told := report
	report = func(one Rewrapped) error {
		v.wraps.step()
		return told(one)
	}
	for _, id := range zones {
		if err := r.zone(ctx, id, report); err != nil {
			return fmt.Errorf("zone %d: %w", id, err)
		}
	}
	if args.Inode == 0 { // last: whatever opens the volume key opens its zones by then
		if err := r.volume(ctx, report); err != nil {
			return fmt.Errorf("volume key: %w", err)
		}
	}
	if err := v.content.Checkpoint(ctx); err != nil { // and with it the anchor: older wraps do not come back
		return fmt.Errorf("anchor the new wraps: %w", err)
	}
	return nil
}

// foreign says whether the key that is named is in another key store than the mount's.
func (r *rewrapper) foreign() bool { return r.keys != r.v.keys }

// check refuses a wrap that could not be used: a zone's under another key store that does not open the volume.
func (r *rewrapper) check(ctx context.Context) error {
	if !r.foreign() || r.args.Add == "" || r.args.Inode == 0 {
		return nil
	}
	_, err := r.keys.GetVolume(ctx, keymgr.Caller{}, r.v.ID)
	if errors.Is(err, keymgr.ErrNotFound) {
		return fmt.Errorf("%w: key store %s does not know the volume yet: add the key to all of it first", ErrUsage, r.args.KeyStore)
	}
	return err
}

// zones lists the zones that are meant.
func (r *rewrapper) zones(ctx context.Context) (ids []meta.ZoneID, err error) {
	if r.args.Inode != 0 {
		a, err := r.v.meta.Getattr(ctx, meta.Ino(r.args.Inode))
		if err != nil {
			return nil, fmt.Errorf("inode %d: %w", r.args.Inode, err)
		}
		return []meta.ZoneID{a.Zone}, nil
	}
	err = r.v.meta.Zones(ctx, func(z *meta.Zone) bool {
		ids = append(ids, z.ID)
		return true
	})
	return ids, err
}

// rewrapTries bounds how often a zone is begun anew because it was moved or changed meanwhile.
const rewrapTries = 5

// errMoved: the zone has other wraps than those that were read.
var errMoved = errors.New("the zone was changed meanwhile")

func (r *rewrapper) zone(ctx context.Context, id meta.ZoneID, report func(Rewrapped) error) (err error) {
	for range rewrapTries {
		var out Rewrapped
		if out, err = r.zoneOnce(ctx, id); err == nil {
			return report(out)
		}
		if errors.Is(err, meta.ErrNotFound) { // dissolved
			return nil
		}
		if !errors.Is(err, errMoved) {
			return err
		}
	}
	return err
}

func (r *rewrapper) zoneOnce(ctx context.Context, id meta.ZoneID) (out Rewrapped, err error) {
	z, err := r.v.meta.Zone(ctx, id)
	if err != nil {
		return out, err
	}
	if z.ByCMK() && r.target != "" {
		return r.stays(ctx, z)
	}
	parent, name, err := r.v.meta.ZonePlace(ctx, z)
	if err != nil {
		return out, err
	}
	encryptionContext := meta.ZoneContext(r.v.ID, id, parent, name)
	next, kept, err := r.zoneWraps(ctx, z.Wraps, encryptionContext)
	if err != nil {
		return out, err
	}
	var former []meta.ZoneWrap // of a key that is being replaced
	if z.Former != nil {
		var also []string
		if former, also, err = r.zoneWraps(ctx, z.Former.Wraps, encryptionContext); err != nil {
			return out, fmt.Errorf("former key: %w", err)
		}
		kept = append(kept, also...)
	}
	now, rev, err := r.v.meta.ChangeZone(ctx, id, nil, func(cur *meta.Zone) error {
		if !sameWraps(cur.Wraps, z.Wraps) || (cur.Former == nil) != (former == nil) {
			return errMoved
		}
		if cur.Wraps = next; former != nil {
			if !sameWraps(cur.Former.Wraps, z.Former.Wraps) {
				return errMoved
			}
			cur.Former = &meta.FormerKey{Wraps: former, Commitment: cur.Former.Commitment}
		}
		return nil
	})
	if err == nil {
		err = r.v.kv.Sync(ctx, rev)
	}
	if err != nil {
		return out, err
	}
	return Rewrapped{What: fmt.Sprintf("zone %d", id), Changed: !sameWraps(now.Wraps, z.Wraps), Wraps: r.v.zoneWrapStatus(ctx, now), Kept: kept}, nil
}

// stays is what becomes of a zone whose CMK wraps the keys of files itself where other CMKs are asked for: nothing.
func (r *rewrapper) stays(ctx context.Context, z *meta.Zone) (out Rewrapped, err error) {
	const why = "wrap: cmk: its key wraps the key of each file, and stays"
	if r.args.Inode != 0 {
		return out, advise(fmt.Errorf("%w: %s", ErrUsage, why), adviseKind+"; kmsfs reencrypt brings files under the newest version of the key")
	}
	return Rewrapped{What: fmt.Sprintf("zone %d", z.ID), Wraps: r.v.zoneWrapStatus(ctx, z), Kept: []string{why}}, nil
}

// zoneWraps does what is asked for to the wraps of one key of a zone.
func (r *rewrapper) zoneWraps(ctx context.Context, wraps []meta.ZoneWrap, encryptionContext keymgr.Context) (next []meta.ZoneWrap, kept []string, err error) {
	var old []wrap
	for _, w := range wraps {
		old = append(old, wrap{w.KeyID, w.Blob})
	}
	fresh, kept, err := r.rewrapped(ctx, old, encryptionContext)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range fresh {
		next = append(next, meta.ZoneWrap{KeyID: w.key, Blob: w.blob})
	}
	return next, kept, nil
}

func sameWraps(a, b []meta.ZoneWrap) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].KeyID != b[i].KeyID || !bytes.Equal(a[i].Blob, b[i].Blob) {
			return false
		}
	}
	return true
}
