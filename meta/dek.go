package meta

import (
	"context"
	"fmt"
	"math"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// fileSuite encrypts the contents of all files of format 1.
const fileSuite = blockcrypt.SuiteAES256GCM

// wrapAAD is what the wrap of an epoch of a is bound to: the place of its primary link, or the orphan place.
func (s *Store) wrapAAD(a *Attr, epoch uint32) []byte {
	return blockcrypt.Place{Volume: s.volume, Zone: uint64(a.Zone), Parent: uint64(a.Parent), Name: a.Tag, Inode: uint64(a.Ino), Epoch: epoch}.AAD()
}

// newWrap draws a file key for an epoch of a and wraps it for a's place, or takes the one that the CMK has made for it. The caller wipes the key.
func (tx *Tx) newWrap(zk *ZoneKeys, a *Attr, epoch uint32) (w Wrap, dek *blockcrypt.Key, err error) {
	s := tx.s
	w = Wrap{Epoch: epoch, Made: s.now().Time().UnixNano()}
	if zk.Files != nil {
		w.Parent, w.Tag = a.Parent, a.Tag
		dek, w.Blob, err = tx.newBlob(zk.Files, a.Place(s.volume, &w))
	} else {
		w.KeyVersion = zk.Version
		dek, err = blockcrypt.NewKey()
	}
	if err != nil {
		return Wrap{}, nil, err
	}
	id := blockcrypt.FileID{Volume: s.volume, Inode: uint64(a.Ino), Epoch: epoch}
	c, err := blockcrypt.NewBlockCipher(dek, id, int(a.BlockSize), fileSuite)
	if err == nil {
		w.Commitment = c.Commitment()
	}
	if err == nil && !w.ByCMK() {
		w.Wrapped, err = zk.Wrap.Wrap(dek, s.wrapAAD(a, epoch))
	}
	if err != nil {
		dek.Wipe()
		return Wrap{}, nil, fmt.Errorf("make file key of inode %d, epoch %d: %w", a.Ino, epoch, err)
	}
	return w, dek, nil
}

// addKey gives a its next epoch. The caller wipes the key.
func (tx *Tx) addKey(zk *ZoneKeys, a *Attr) (*blockcrypt.Key, error) {
	if len(a.Wraps) >= MaxWraps || a.Epoch == math.MaxUint32 {
		return nil, fmt.Errorf("inode %d has %d live epochs, the last is %d: %w", a.Ino, len(a.Wraps), a.Epoch, ErrInvalid)
	}
	w, dek, err := tx.newWrap(zk, a, a.Epoch+1)
	if err != nil {
		return nil, err
	}
	a.Wraps, a.Epoch = append(a.Wraps, w), w.Epoch
	return dek, nil
}

// move makes (parent, tag) the place of a's primary link, zero both for none, and binds a's wraps to it.
func (tx *Tx) move(zk *ZoneKeys, a *Attr, parent Ino, tag NameTag) error {
	for i := range a.Wraps {
		w := &a.Wraps[i]
		if !w.ByCMK() || w.Parent == parent && w.Tag == tag {
			continue
		}
		blob, err := tx.movedBlob(zk.Files, a, w, place{parent, tag})
		if err != nil {
			return err
		}
		w.Blob, w.Parent, w.Tag = blob, parent, tag
	}
	return tx.unname(zk, a, parent, tag)
}

// unname is move where the place that there was is gone: what a CMK has wrapped stays bound to it, so that names can be removed while no key manager answers.
func (tx *Tx) unname(zk *ZoneKeys, a *Attr, parent Ino, tag NameTag) error {
	to := *a
	to.Parent, to.Tag = parent, tag
	if err := tx.s.rewrap(zk, zk, a, &to); err != nil {
		return err
	}
	a.Parent, a.Tag = parent, tag
	return nil
}

// rewrap wraps a's file keys, which open under the keys of its zone and in its place, under those of to, in the place that to has. Those that a CMK has wrapped stay
// as they are.
func (s *Store) rewrap(from, into *ZoneKeys, a, to *Attr) error {
	for i := range a.Wraps {
		w := &a.Wraps[i]
		if w.ByCMK() {
			continue
		}
		dek, err := s.openWrap(from, a, w)
		if err != nil {
			return err
		}
		w.Wrapped, err = into.Wrap.Wrap(dek, s.wrapAAD(to, w.Epoch))
		dek.Wipe()
		w.KeyVersion = into.Version
		if err != nil {
			return fmt.Errorf("wrap file key of inode %d, epoch %d: %w", a.Ino, w.Epoch, err)
		}
	}
	return nil
}

// UnwrapDEK returns the file key of an epoch of a, as a was read at any time. The caller verifies it against Wrap.Commitment
// (BlockCipher.Verify) before use, and wipes it. Errors: ErrNotFound (no such epoch), ErrAuth, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) UnwrapDEK(ctx context.Context, a *Attr, epoch uint32) (*blockcrypt.Key, error) {
	w := a.Wrap(epoch)
	if w == nil {
		return nil, fmt.Errorf("file key of inode %d, epoch %d: %w", a.Ino, epoch, ErrNotFound)
	}
	zk, err := s.zoneKeys(ctx, a.Zone)
	if err != nil {
		return nil, fmt.Errorf("file key of inode %d, epoch %d: %w", a.Ino, epoch, err)
	}
	if w.ByCMK() {
		return s.openBlob(ctx, zk, a, w)
	}
	if zk.opens(w.KeyVersion) == nil { // wrapped anew since a was read, and the zone key of then is gone
		if a, err = s.attr(ctx, a.Ino); err != nil {
			return nil, err
		}
		if w = a.Wrap(epoch); w == nil {
			return nil, fmt.Errorf("file key of inode %d, epoch %d: %w", a.Ino, epoch, ErrNotFound)
		}
		if zk, err = s.zoneKeys(ctx, a.Zone); err != nil {
			return nil, fmt.Errorf("file key of inode %d, epoch %d: %w", a.Ino, epoch, err)
		}
	}
	return s.openWrap(zk, a, w)
}

// openBlob has the zone's CMK open one of a's wraps.
func (s *Store) openBlob(ctx context.Context, zk *ZoneKeys, a *Attr, w *Wrap) (*blockcrypt.Key, error) {
	if zk.Files == nil {
		return nil, fmt.Errorf("file key of inode %d, epoch %d, is wrapped by a CMK, and those of zone %d are not: %w", a.Ino, w.Epoch, a.Zone, ErrAuth)
	}
	at := a.Place(s.volume, w)
	if dek := s.fresh.take(freshKey{at, w.Blob}); dek != nil {
		return dek, nil
	}
	dek, err := zk.Files.Open(ctx, at, w.Blob)
	if err != nil {
		return nil, fmt.Errorf("file key of inode %d, epoch %d: %w", a.Ino, w.Epoch, err)
	}
	return dek, nil
}

// openWrap opens one of a's wraps by the keys of its zone. ErrAuth.
func (s *Store) openWrap(zk *ZoneKeys, a *Attr, w *Wrap) (*blockcrypt.Key, error) {
	sealer := zk.opens(w.KeyVersion)
	if sealer == nil {
		return nil, fmt.Errorf("file key of inode %d, epoch %d, is under version %d of the key of zone %d, which has %d: %w", a.Ino, w.Epoch, w.KeyVersion, a.Zone, zk.Version, ErrAuth)
	}
	dek, err := sealer.Unwrap(w.Wrapped[:], s.wrapAAD(a, w.Epoch))
	if err != nil {
		return nil, fmt.Errorf("file key of inode %d, epoch %d: %w", a.Ino, w.Epoch, authError(err))
	}
	return dek, nil
}

// AddEpoch gives a regular file a fresh file key under the next epoch, which becomes the current one. a comes from tx.Attr; it is written as by
// PutAttr, and updated. The caller wipes the key. The zone's keys should have been used shortly before, so that they are not waited for in
// the transaction, which is one of UpdateWithKeys. Errors: ErrInvalid (no regular file, or MaxWraps live epochs), PutAttr's, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) AddEpoch(tx *Tx, a *Attr) (*blockcrypt.Key, error) {
	if !a.IsRegular() {
		return nil, fmt.Errorf("new epoch for inode %d: %w", a.Ino, ErrInvalid)
	}
	zk, err := s.zoneKeys(tx.ctx, a.Zone)
	if err != nil {
		return nil, fmt.Errorf("new epoch for inode %d: %w", a.Ino, err)
	}
	if err := tx.PutAttr(a); err != nil {
		return nil, err
	}
	cur := tx.edit(tx.attrs[a.Ino])
	dek, err := tx.addKey(zk, cur)
	if err != nil {
		return nil, err
	}
	*a = *cur.Clone()
	return dek, nil
}

// DropEpoch removes the wrap of an epoch under which nothing is sealed any more, which destroys its key. a as in AddEpoch. ErrInvalid for the
// current epoch, ErrNotFound for one that a does not have, and PutAttr's errors.
func (s *Store) DropEpoch(tx *Tx, a *Attr, epoch uint32) error {
	if epoch == a.Epoch {
		return fmt.Errorf("drop epoch %d of inode %d: %w", epoch, a.Ino, ErrInvalid)
	}
	if a.Wrap(epoch) == nil {
		return fmt.Errorf("drop epoch %d of inode %d: %w", epoch, a.Ino, ErrNotFound)
	}
	if err := tx.PutAttr(a); err != nil {
		return err
	}
	cur := tx.edit(tx.attrs[a.Ino])
	kept := cur.Wraps[:0]
	for _, w := range cur.Wraps {
		if w.Epoch != epoch {
			kept = append(kept, w)
		}
	}
	cur.Wraps = kept
	*a = *cur.Clone()
	return nil
}
