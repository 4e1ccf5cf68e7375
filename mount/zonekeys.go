package mount

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/jobs"
)

// zoneKeys replaces the keys of a volume's zones.
type zoneKeys struct{ v *Volume }

var _ jobs.ZoneKeys = zoneKeys{}

// Rotate implements jobs.ZoneKeys, by the rights of who submitted the job: GenerateDataKey at the first of the zone's keys, Encrypt at the others.
func (k zoneKeys) Rotate(ctx context.Context, j *meta.Job, id meta.ZoneID) error {
	by := keymgr.Caller{UID: int(j.UID), GID: int(j.GID), Via: keymgr.ViaFileDaemon}
	for range rewrapTries {
		z, err := k.v.meta.Zone(ctx, id)
		if err != nil || z.Former != nil || z.KeyMade >= j.Made.Time().UnixNano() {
			return err
		}
		next, err := k.next(ctx, by, z)
		if err == nil {
			err = k.v.meta.RotateZone(ctx, z, next)
		}
		if err == nil {
			k.v.ring.Refresh(id)
			return k.v.recordAdmin(ctx, access.Requester{UID: j.UID, GID: j.GID}, "RotateZoneKey", id, fmt.Sprintf("version %d of the zone's key, by job %d", next.KeyVersion, j.ID), nil)
		}
		if !errors.Is(err, meta.ErrStale) {
			return denied(err)
		}
	}
	return fmt.Errorf("zone %d is changed all the time: %w", id, meta.ErrStale)
}

// denied makes a refusal of the key manager one that pauses the job.
func denied(err error) error {
	if ClassOf(err) == ClassKeyRefused {
		return fmt.Errorf("%w: %w", jobs.ErrDenied, err)
	}
	return err
}

// next makes the row of a zone under another key, wrapped by the same keys as the present one.
func (k zoneKeys) next(ctx context.Context, by keymgr.Caller, z *meta.Zone) (*meta.Zone, error) {
	parent, name, err := k.v.meta.ZonePlace(ctx, z)
	if err != nil {
		return nil, err
	}
	keys, err := k.v.ring.Zone(ctx, z.ID)
	if err != nil {
		return nil, err
	}
	if keys.Version != z.KeyVersion {
		k.v.ring.Refresh(z.ID)
		return nil, fmt.Errorf("zone %d has another key by now: %w", z.ID, meta.ErrStale)
	}
	encryptionContext := keymgr.Context(meta.ZoneContext(k.v.ID, z.ID, parent, name))
	made, err := k.v.keys.GenerateDataKey(ctx, by, keymgr.GenerateDataKeyInput{KeyID: z.Wraps[0].KeyID, Bytes: blockcrypt.KeySize, Context: encryptionContext})
	defer clear(made.Plaintext)
	if err != nil {
		return nil, elsewhere(z.Wraps[0], err)
	}
	wraps := []meta.ZoneWrap{{KeyID: made.KeyID, Blob: made.Blob}}
	for _, w := range z.Wraps[1:] {
		out, err := k.v.keys.Encrypt(ctx, by, keymgr.EncryptInput{KeyID: w.KeyID, Plaintext: made.Plaintext, Context: encryptionContext})
		if err != nil {
			return nil, elsewhere(w, err)
		}
		wraps = append(wraps, meta.ZoneWrap{KeyID: out.KeyID, Blob: out.Blob})
	}
	key, err := blockcrypt.KeyFromBytes(made.Plaintext)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	next, err := z.Next(k.v.ID, keys, key, fs.Now().Time().UnixNano())
	if err != nil {
		return nil, err
	}
	next.Wraps = wraps
	return next, nil
}

// elsewhere says what to do about a wrap that cannot be made for the next key.
func elsewhere(w meta.ZoneWrap, err error) error {
	err = fmt.Errorf("wrap the next key by %s: %w", w.KeyID, err)
	if errors.Is(err, keymgr.ErrNotFound) {
		return advise(err, "it is in another key store, or gone: kmsfs rewrap --remove it first, and --add it again afterwards")
	}
	return err
}

// Forget implements jobs.ZoneKeys. What a crash brings back from then on has the new wraps.
func (k zoneKeys) Forget(ctx context.Context, zones []meta.ZoneID) error {
	for _, id := range zones {
		err := k.v.meta.DropFormer(ctx, id)
		switch {
		case errors.Is(err, meta.ErrNotFound): // dissolved
		case err != nil:
			return err
		default:
			k.v.ring.Refresh(id)
		}
	}
	return k.v.content.Checkpoint(ctx)
}
