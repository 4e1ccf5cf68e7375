package meta

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// FormatConfig is what Format needs.
type FormatConfig struct {
	KV      kv.Store
	Volume  VolumeID
	RowsKey *blockcrypt.Key // not kept
	Zone    *Zone           // the root zone: ID RootZone, Dir RootIno (NewZone makes it; wraps filled in)
	Mode    uint32          // permission bits of the root directory
	UID     uint32
	GID     uint32
	Now     func() Time // nil is the system's clock
}

// Format writes the first rows of an empty KV store: root directory, root zone, counter of inode numbers. It needs no zone key. ErrExist if
// the store has a root directory already; ErrInvalid for a zone that is not the root's or outside the limits.
func Format(ctx context.Context, cfg FormatConfig) error {
	if err := format(ctx, cfg); err != nil {
		return fmt.Errorf("format metadata: %w", err)
	}
	return nil
}

func format(ctx context.Context, cfg FormatConfig) error {
	if cfg.KV == nil || cfg.RowsKey == nil || cfg.Zone == nil || cfg.Zone.ID != RootZone || cfg.Zone.Dir != RootIno {
		return ErrInvalid
	}
	if err := cfg.Zone.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	rows, err := newRowSealer(cfg.Volume, cfg.RowsKey)
	if err != nil {
		return err
	}
	now := TimeOf(time.Now())
	if cfg.Now != nil {
		now = cfg.Now()
	}
	root := &Attr{Ino: RootIno, Mode: ModeDir | cfg.Mode&modePerm, UID: cfg.UID, GID: cfg.GID, Nlink: 2, Zone: RootZone, Parent: RootIno,
		Atime: now, Mtime: now, Ctime: now, Btime: now, Version: 1}
	_, err = cfg.KV.Update(ctx, kv.OpID{}, func(tx kv.Txn) error {
		vals, err := tx.Get(ctx, attrKey(RootIno))
		if err != nil {
			return err
		}
		if vals[0] != nil {
			return ErrExist
		}
		for _, row := range []struct{ key, plain []byte }{
			{attrKey(RootIno), encodeAttr(root)},
			{zoneKey(RootZone), encodeZone(cfg.Zone)},
			{counterKey(counterInode), encodeCounter(uint64(RootIno) + 1)},
		} {
			sealed, err := rows.seal(row.key, row.plain)
			if err != nil {
				return err
			}
			tx.Put(row.key, sealed)
		}
		return nil
	})
	return err
}
