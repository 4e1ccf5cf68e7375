package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/mount/superblock"
)

// readSuperblock reads the superblock of a volume directory; errors say whether the key store could help.
func readSuperblock(ctx context.Context, socket, dir string) (*superblock.Superblock, []byte, error) {
	sb, raw, err := superblock.Read(dir)
	if err != nil {
		keys := client.New(socket, client.Options{})
		defer keys.Close()
		return nil, nil, superblockAdvice(ctx, keys, dir, err)
	}
	return sb, raw, nil
}

// superblockAdvice adds to an error about kmsfs.json that the key store has a copy, if it has.
func superblockAdvice(ctx context.Context, keys *client.Client, dir string, err error) error {
	if !errors.Is(err, superblock.ErrDamaged) && !errors.Is(err, superblock.ErrMissing) {
		return fmt.Errorf("volume %s: %w", dir, err)
	}
	if _, ferr := findRecord(ctx, keys, dir); ferr == nil {
		if errors.Is(err, superblock.ErrMissing) {
			err = fmt.Errorf("%w: %w", err, errLost)
		}
		return advise(fmt.Errorf("volume %s: %w", dir, err), "the key store has a copy of kmsfs.json: kmsfs fsck --repair %s puts it back", dir)
	}
	return fmt.Errorf("volume %s: %w", dir, err)
}

// notTheCopy is the error for a superblock that is not the one that the key store keeps: damaged, changed, or an older one put back.
func notTheCopy(dir string) error {
	return advise(fmt.Errorf("volume %s: kmsfs.json is %w, or not the latest: it differs from the key store's copy", dir, ErrDamaged),
		"kmsfs fsck --repair %s puts the key store's copy back", dir)
}

// findRecord returns the volume that the key store saw last at dir, the youngest if there were several.
func findRecord(ctx context.Context, keys *client.Client, dir string) (keymgr.VolumeRecord, error) {
	real, err := resolve(dir)
	if err != nil {
		return keymgr.VolumeRecord{}, fmt.Errorf("%w: %w", ErrNotVolume, err)
	}
	all, err := keys.ListVolumes(ctx, keymgr.Caller{})
	if err != nil {
		return keymgr.VolumeRecord{}, fmt.Errorf("volumes of the key store: %w", err)
	}
	var found keymgr.VolumeRecord
	for _, v := range all {
		if v.Path == real && len(v.Superblock) > 0 && !v.Created.Before(found.Created) {
			found = v
		}
	}
	if len(found.Superblock) == 0 {
		return found, fmt.Errorf("%w: the key store knows none at %s", ErrNotVolume, real)
	}
	return found, nil
}

// restoreSuperblock writes kmsfs.json anew from the key store's copy, if it is damaged, missing, or another one; it says what was wrong, "" if nothing.
// A volume of a version or with features that are not known here is left alone.
func restoreSuperblock(ctx context.Context, keys *client.Client, dir string) (wrong string, err error) {
	sb, raw, err := superblock.Read(dir)
	var record keymgr.VolumeRecord
	switch {
	case err == nil:
		if record, err = keys.GetVolume(ctx, keymgr.Caller{}, sb.Volume); err != nil {
			if record, err = findRecord(ctx, keys, dir); err != nil { // the id itself may be what is damaged
				return "", err
			}
		}
	case errors.Is(err, superblock.ErrDamaged), errors.Is(err, superblock.ErrMissing):
		if record, err = findRecord(ctx, keys, dir); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("volume %s: %w", dir, err)
	}
	if bytes.Equal(raw, record.Superblock) {
		return "", nil
	}
	if _, err := superblock.Parse(record.Superblock); err != nil {
		return "", fmt.Errorf("the key store's copy: %w", err)
	}
	if err := superblock.Write(dir, record.Superblock); err != nil {
		return "", err
	}
	return "differs from the key store's copy", nil
}
