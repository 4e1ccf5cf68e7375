package keymgr

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// PutVolume records a volume, new or changed. Errors: ErrValidation, ErrNotFound (its CMK), ErrInvalidArn, ErrAccessDenied (another front-end key), and those that are ErrKeyUnavailable.
func (m *Manager) PutVolume(ctx context.Context, by Caller, v VolumeRecord) error {
	u := &Use{Operation: "PutVolume", Key: printable(v.CMK), Detail: v.ID.String()}
	return m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		if err := ownerOnly(by, u.Operation); err != nil {
			return nil, err
		}
		if err := checkVolume(v); err != nil {
			return nil, err
		}
		k, err := m.resolve(ctx, v.CMK, true)
		if err != nil {
			return nil, err
		}
		u.Key = k.id.ARN()
		rec := volumeRecord{Name: v.Name, Path: v.Path, CMK: k.id.ARN(), Superblock: v.Superblock, Created: v.Created}
		if rec.Created.IsZero() {
			rec.Created = m.now()
		}
		rec.Created = rec.Created.UTC()
		for _, w := range v.Wraps {
			rec.Wraps = append(rec.Wraps, wrapRecord(w))
		}
		return func(tx kv.Txn) error {
			old, err := m.readVolume(ctx, tx, v.ID)
			switch {
			case err == nil:
				err = rec.keepFrontEnd(&old, v.FrontEnd)
			case classOf(err) == ErrNotFound:
				err = rec.keepFrontEnd(nil, v.FrontEnd)
			}
			if err != nil {
				return err
			}
			return m.rows.put(tx, key(rowVolume, v.ID[:]), rec)
		}, nil
	})
}

func checkVolume(v VolumeRecord) error {
	if v.ID.IsZero() {
		return fault(ErrValidation, "the volume has no id")
	}
	if err := checkLength("name", v.Name, 0, 1024, false); err != nil {
		return err
	}
	if err := checkLength("path", v.Path, 0, 4096, false); err != nil {
		return err
	}
	if err := checkRange("wraps", len(v.Wraps), 0, maxVolumeWraps); err != nil {
		return err
	}
	for _, w := range v.Wraps {
		if err := errors.Join(checkLength("key of a wrap", w.Key, 0, MaxKeyID, false), checkLength("material of a wrap", w.Material, 0, 64, false)); err != nil {
			return err
		}
	}
	return checkRange("superblock", len(v.Superblock), 0, MaxSuperblock)
}

// GetVolume returns a volume's record. ErrNotFound.
func (m *Manager) GetVolume(ctx context.Context, _ Caller, id blockcrypt.VolumeID) (VolumeRecord, error) {
	var rec volumeRecord
	err := m.view(ctx, func(r kv.Reader) (err error) {
		rec, err = m.readVolume(ctx, r, id)
		return err
	})
	return rec.volume(id), err
}

func (m *Manager) readVolume(ctx context.Context, r kv.Reader, id blockcrypt.VolumeID) (rec volumeRecord, err error) {
	found, err := m.rows.get(ctx, r, key(rowVolume, id[:]), &rec)
	if err == nil && !found {
		err = fault(ErrNotFound, "volume %s is not recorded in this key store", id)
	}
	return rec, err
}

// ListVolumes returns the records of all volumes, in the order of their ids.
func (m *Manager) ListVolumes(ctx context.Context, _ Caller) ([]VolumeRecord, error) {
	var list []VolumeRecord
	lo, hi := kindRange(rowVolume)
	err := m.view(ctx, func(r kv.Reader) error {
		list = nil
		var bad error
		err := r.Scan(ctx, lo, hi, 0, func(k, v []byte) bool {
			var rec volumeRecord
			if bad = m.rows.open(k, v, &rec); bad != nil {
				return false
			}
			if len(k) != 1+len(blockcrypt.VolumeID{}) {
				bad = fmt.Errorf("volume row %x: %w", k, errRow)
				return false
			}
			list = append(list, rec.volume(blockcrypt.VolumeID(k[1:])))
			return true
		})
		if bad != nil {
			return bad
		}
		return err
	})
	return list, err
}

func (rec volumeRecord) volume(id blockcrypt.VolumeID) VolumeRecord {
	v := VolumeRecord{ID: id, Name: rec.Name, Path: rec.Path, CMK: rec.CMK, Superblock: rec.Superblock, Created: rec.Created}
	for _, w := range rec.Wraps {
		v.Wraps = append(v.Wraps, Wrap(w))
	}
	return v
}
