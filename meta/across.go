package meta

import (
	"context"
	"fmt"
)

// Crossing is who has what moved into another zone.
type Crossing struct {
	Ino Ino   // what is moved; another one under the old name is ErrStale
	By  Owner // in whose name the content is sealed anew

	queued JobID // of the last run of the transaction
}

// MoveAcross is Rename of something that is no directory into a directory of another zone. Everything of it that is sealed or wrapped under the keys of the zone that it leaves is
// sealed or wrapped under those of the other one, a file gets a new epoch, and, if anything is sealed under older ones, is put into the queue of a job that seals it anew: all of it in one
// transaction. Not with RenameExchange or RenameWhiteout.
//
// Errors: Rename's; ErrStale; ErrCrossZone also for directories, for what has other names, for files whose parameters are not those of the zone, or that have as many
// epochs as they may.
func (s *Store) MoveAcross(ctx context.Context, c Crossing, oldParent Ino, oldName []byte, newParent Ino, newName []byte, flags RenameFlags, open func(Ino) bool) (RenameResult, error) {
	if flags&^RenameNoReplace != 0 {
		return RenameResult{}, fmt.Errorf("move inode %d: flags %#x: %w", c.Ino, flags, ErrCrossZone)
	}
	return s.renameBy(ctx, renaming{s: s, flags: flags, open: open, across: &c}, oldParent, oldName, newParent, newName)
}

// MayCross returns nil if what has the attributes could be moved into a zone as things are, and ErrCrossZone otherwise.
func (s *Store) MayCross(ctx context.Context, a *Attr, to ZoneID) error {
	err := s.View(ctx, func(tx *Tx) error { return tx.mayCross(a, to) })
	if err != nil {
		return fmt.Errorf("move inode %d into zone %d: %w", a.Ino, to, err)
	}
	return nil
}

func (tx *Tx) mayCross(a *Attr, to ZoneID) error {
	switch {
	case a.IsDir():
		return fmt.Errorf("a directory: %w", ErrCrossZone)
	case a.Nlink != 1:
		return fmt.Errorf("it has %d names: %w", a.Nlink, ErrCrossZone)
	case !a.IsRegular():
		return nil
	case len(a.Wraps) >= MaxWraps:
		return fmt.Errorf("it has %d epochs: %w", len(a.Wraps), ErrCrossZone)
	}
	z, err := tx.zone(to)
	if err != nil {
		return missing(err)
	}
	if z.ByCMK() || a.ByCMK() {
		return fmt.Errorf("a CMK wraps data keys itself on one side: %w", ErrCrossZone)
	}
	if a.Params != z.Params {
		return fmt.Errorf("it is stored in another way than files there: %w", ErrCrossZone)
	}
	return nil
}

// carries says whether something goes into another zone.
func (r *renaming) carries() bool { return r.across != nil && r.old.dir.cur.Zone != r.new.dir.cur.Zone }

func (r *renaming) checkCarried() error {
	if r.old.dentry.ino != r.across.Ino {
		return fmt.Errorf("the name leads to inode %d: %w", r.old.dentry.ino, ErrStale)
	}
	return r.tx.mayCross(r.old.node.cur, r.new.dir.cur.Zone)
}

// carry puts the inode into the other zone, under its new name.
func (r *renaming) carry() error {
	tx, a := r.tx, r.tx.edit(r.old.node)
	a.Ctime = tx.now
	if err := tx.rekeyXattrs(a.Ino, r.old.zk, r.new.zk); err != nil {
		return err
	}
	if a.Type() == ModeSymlink {
		if err := tx.rekeyTarget(a.Ino, r.old.zk, r.new.zk); err != nil {
			return err
		}
	}
	to := *a
	to.Zone, to.Parent, to.Tag = r.new.dir.cur.Zone, r.new.at.parent, r.new.at.tag
	if err := tx.s.rewrap(r.old.zk, r.new.zk, a, &to); err != nil {
		return err
	}
	a.Zone, a.Parent, a.Tag = to.Zone, to.Parent, to.Tag
	r.across.queued = 0
	if !a.IsRegular() {
		return nil
	}
	return r.newEpoch(a)
}

// newEpoch gives the file a key that was never wrapped in the zone it comes from. What is sealed under the older ones is for a job.
func (r *renaming) newEpoch(a *Attr) error {
	dek, err := r.tx.addKey(r.new.zk, a)
	if err != nil {
		return err
	}
	dek.Wipe()
	z, err := r.tx.zone(a.Zone)
	if err != nil {
		return err
	}
	r.across.queued, err = r.tx.enqueue(r.across.By, z.Dir, a.Ino)
	return err
}

// rekeyTarget seals the target of a symbolic link under other keys.
func (tx *Tx) rekeyTarget(ino Ino, old, keys *ZoneKeys) error {
	key := inoKey(kindSymlink, ino)
	sealed, err := tx.get(key)
	if err != nil {
		return err
	}
	plain, err := openRow(old.Names, tx.s.volume, key, sealed)
	if err != nil {
		return fmt.Errorf("target of inode %d: %w", ino, err)
	}
	if sealed, err = sealRow(keys.Names, tx.s.volume, key, plain); err == nil {
		tx.w.Put(key, sealed)
	}
	return err
}
