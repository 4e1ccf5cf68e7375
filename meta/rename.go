package meta

import (
	"context"
	"errors"
	"fmt"
)

// RenameFlags as in renameat2(2).
type RenameFlags uint32

const (
	RenameNoReplace RenameFlags = 1 // fail with ErrExist if the new name exists
	RenameExchange  RenameFlags = 2 // both names exist, and swap inodes
	RenameWhiteout  RenameFlags = 4 // leave a character device 0/0 under the old name

	renameKnown = RenameNoReplace | RenameExchange | RenameWhiteout
)

// Owner is who a new inode belongs to.
type Owner struct{ UID, GID uint32 }

// RenameResult holds what a rename changed, as it is now.
type RenameResult struct {
	Moved *Attr // the inode that was under the old name
	// Replaced is the inode that was under the new name, nil if none. With RenameExchange it is under the old name now, otherwise it is as
	// Unlink's result, and ReleaseOrphans may be due.
	Replaced *Attr
	Whiteout *Attr // the inode left under the old name by RenameWhiteout
	Same     bool  // both names led to one inode: nothing was changed, only Moved is set
	Queued   JobID // of MoveAcross: the job that seals the content anew; 0 if there is nothing to seal
}

// Rename moves a name, replacing what is under the new one as rename(2) and renameat2(2) say. It is one transaction and costs the same for
// a directory with any number of entries. The DEK wraps of an inode whose primary link moves are made anew for its new place. A
// whiteout belongs to uid and gid 0 (see RenameAs). open as in Unlink, asked of a replaced inode.
//
// Errors: ErrNotFound, ErrExist (RenameNoReplace), ErrNotDir, ErrIsDir, ErrNotEmpty, ErrLoop, ErrCrossZone (also for the directory of
// a zone), ErrInvalid (flags that exclude each other), ErrNameTooLong, ErrBadName, ErrTooManyLinks, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Rename(ctx context.Context, oldParent Ino, oldName []byte, newParent Ino, newName []byte, flags RenameFlags, open func(Ino) bool) (RenameResult, error) {
	return s.RenameAs(ctx, Owner{}, oldParent, oldName, newParent, newName, flags, open)
}

// RenameAs is Rename with the owner of the whiteout.
func (s *Store) RenameAs(ctx context.Context, owner Owner, oldParent Ino, oldName []byte, newParent Ino, newName []byte, flags RenameFlags, open func(Ino) bool) (RenameResult, error) {
	return s.renameBy(ctx, renaming{s: s, owner: owner, flags: flags, open: open}, oldParent, oldName, newParent, newName)
}

// MoveZone is Rename of a zone's own directory, also into another zone, whose wraps are bound to its place: moved has those for the new one. Not with
// RenameExchange or RenameWhiteout. Errors: Rename's; ErrCrossZone if zone is not the one under the old name; ErrStale if its wraps are others than zone has.
func (s *Store) MoveZone(ctx context.Context, zone, moved *Zone, oldParent Ino, oldName []byte, newParent Ino, newName []byte, flags RenameFlags, open func(Ino) bool) (RenameResult, error) {
	if flags&^RenameNoReplace != 0 {
		return RenameResult{}, fmt.Errorf("move zone %d: flags %#x: %w", zone.ID, flags, ErrCrossZone)
	}
	return s.renameBy(ctx, renaming{s: s, flags: flags, open: open, zone: zone.ID, before: zone, moved: moved}, oldParent, oldName, newParent, newName)
}

func (s *Store) renameBy(ctx context.Context, r renaming, oldParent Ino, oldName []byte, newParent Ino, newName []byte) (RenameResult, error) {
	r.old.dirIno, r.old.name = oldParent, oldName
	r.new.dirIno, r.new.name = newParent, newName
	result, err := r.run(ctx)
	if err != nil {
		return RenameResult{}, fmt.Errorf("rename from inode %d to inode %d: %w", oldParent, newParent, err)
	}
	return result, nil
}

// renaming is one Rename. Its sides are filled in anew by every run of the transaction.
type renaming struct {
	s        *Store
	owner    Owner
	flags    RenameFlags
	open     func(Ino) bool
	whiteIno Ino
	white    *txAttr
	dropped  *Attr
	zone     ZoneID // of MoveZone, else 0
	before   *Zone  // with zone: its keys as they have to be
	moved    *Zone  // with zone: as they become

	across *Crossing // of MoveAcross, else nil

	tx  *Tx
	old side
	new side
}

// side is one of the two names.
type side struct {
	dirIno Ino
	name   []byte
	dir    *txAttr
	zk     *ZoneKeys // of dir's zone
	at     place
	dentry *dentry // nil if there is no such name
	node   *txAttr // where the dentry leads
}

func (r *renaming) exchange() bool { return r.flags&RenameExchange != 0 }

func (r *renaming) check() error {
	if r.flags&^renameKnown != 0 || r.exchange() && r.flags != RenameExchange {
		return fmt.Errorf("flags %#x: %w", r.flags, ErrInvalid)
	}
	if err := checkName(r.old.name); err != nil {
		return err
	}
	return checkName(r.new.name)
}

func (r *renaming) run(ctx context.Context) (RenameResult, error) {
	if err := r.check(); err != nil {
		return RenameResult{}, err
	}
	for _, dir := range []Ino{r.old.dirIno, r.new.dirIno} {
		if err := r.s.warm(ctx, dir); err != nil {
			return RenameResult{}, err
		}
	}
	if r.flags&RenameWhiteout != 0 {
		var err error
		if r.whiteIno, err = r.s.newIno(ctx); err != nil {
			return RenameResult{}, err
		}
	}
	same := false
	err := r.s.UpdateWithKeys(ctx, func(tx *Tx) error {
		r.tx, r.white, r.dropped = tx, nil, nil
		var err error
		if same, err = r.prepare(); err != nil || same {
			return err
		}
		return r.apply()
	})
	if err != nil {
		return RenameResult{}, err
	}
	return r.result(same), nil
}

func (r *renaming) result(same bool) RenameResult {
	result := RenameResult{Moved: r.old.node.cur.Clone(), Same: same}
	if same {
		return result
	}
	switch {
	case r.exchange():
		result.Replaced = r.new.node.cur.Clone()
	case r.dropped != nil:
		result.Replaced = r.dropped.Clone()
	}
	if r.white != nil {
		result.Whiteout = r.white.cur.Clone()
	}
	if r.across != nil {
		result.Queued = r.across.queued
	}
	return result
}

// prepare loads both sides and finds out whether the rename is allowed, changing nothing. same: there is nothing to do.
func (r *renaming) prepare() (same bool, err error) {
	if r.old.dir, err = r.tx.liveDir(r.old.dirIno); err != nil {
		return false, err
	}
	if r.new.dir, err = r.tx.liveDir(r.new.dirIno); err != nil {
		return false, err
	}
	if err := r.keys(); err != nil {
		return false, err
	}
	if err := r.find(&r.old); err != nil {
		return false, err
	}
	err = r.find(&r.new)
	switch {
	case err != nil && (!errors.Is(err, ErrNotFound) || r.exchange()):
		return false, err
	case err == nil && r.flags&RenameNoReplace != 0:
		return false, ErrExist
	case err == nil && r.new.dentry.ino == r.old.dentry.ino:
		return true, nil
	}
	if err := r.checkLoops(); err != nil {
		return false, err
	}
	if r.carries() {
		if err := r.checkCarried(); err != nil {
			return false, err
		}
	}
	return false, r.checkTypes()
}

// keys fetches the keys of both directories' zones. Nothing but a zone's own directory goes from one to another, unless that is asked for.
func (r *renaming) keys() (err error) {
	from, to := r.old.dir.cur.Zone, r.new.dir.cur.Zone
	if from != to && r.across == nil && r.zone == 0 {
		return ErrCrossZone
	}
	if r.old.zk, err = r.s.zoneKeys(r.tx.ctx, from); err != nil {
		return err
	}
	r.new.zk = r.old.zk
	if from != to {
		r.new.zk, err = r.s.zoneKeys(r.tx.ctx, to)
	}
	return err
}

// find reads a side's dentry and inode. ErrNotFound leaves both nil.
func (r *renaming) find(s *side) error {
	s.dentry, s.node = nil, nil
	s.at = place{s.dirIno, s.zk.nameTag(s.dirIno, s.name)}
	d, err := r.tx.dentry(s.zk, s.dirIno, s.at.tag, s.name)
	if err != nil {
		return err
	}
	if s.node, err = r.tx.target(d); err != nil {
		return err
	}
	if s.node.cur.Zone != s.dir.cur.Zone && (s != &r.old || s.node.cur.Zone != r.zone) {
		return ErrCrossZone
	}
	s.dentry = d
	return nil
}

// checkLoops refuses to put a directory below itself.
func (r *renaming) checkLoops() error {
	if r.old.dirIno == r.new.dirIno {
		return nil
	}
	if r.old.node.cur.IsDir() {
		if err := r.tx.outside(r.new.dirIno, r.old.dentry.ino); err != nil {
			return err
		}
	}
	if r.exchange() && r.new.node.cur.IsDir() {
		return r.tx.outside(r.old.dirIno, r.new.dentry.ino)
	}
	return nil
}

// maxDepth bounds the walk to the root; paths are at most a few thousand deep in practice, and a loop on disk must not hang us.
const maxDepth = 1 << 20

// outside walks from dir up to the root: ErrLoop if it meets root, which is a directory that dir must not lie below.
func (tx *Tx) outside(dir, root Ino) error {
	for range maxDepth {
		if dir == root {
			return ErrLoop
		}
		if dir == RootIno {
			return nil
		}
		e, err := tx.load(dir)
		if err != nil {
			return fmt.Errorf("walk to the root: %w", missing(err))
		}
		if dir = e.cur.Parent; dir == 0 {
			return fmt.Errorf("directory was removed: %w", ErrNotFound)
		}
	}
	return fmt.Errorf("walk to the root does not end: %w", ErrCorrupt)
}

// checkTypes: a directory replaces an empty directory only, anything else anything but a directory.
func (r *renaming) checkTypes() error {
	if r.new.node == nil || r.exchange() {
		return nil
	}
	from, to := r.old.node.cur.IsDir(), r.new.node.cur.IsDir()
	switch {
	case from && !to:
		return ErrNotDir
	case !from && to:
		return ErrIsDir
	case to:
		return r.tx.emptyDir(r.new.dentry.ino)
	}
	return nil
}

// apply makes the changes that prepare allowed.
func (r *renaming) apply() error {
	tx := r.tx
	if err := r.countSubdirs(); err != nil {
		return err
	}
	tx.touchDir(r.old.dir)
	tx.touchDir(r.new.dir)
	if r.carries() {
		if err := r.carry(); err != nil {
			return err
		}
	} else if err := tx.moveName(r.old.zk, r.old.node, r.old.at, r.new.at); err != nil {
		return err
	}
	if err := r.rebind(); err != nil {
		return err
	}
	moved := &dentry{ino: r.old.dentry.ino, typ: r.old.dentry.typ, name: r.new.name}
	if err := tx.putDentry(r.new.zk, r.new.dirIno, r.new.at.tag, moved); err != nil {
		return err
	}
	if r.exchange() {
		if err := tx.moveName(r.old.zk, r.new.node, r.new.at, r.old.at); err != nil {
			return err
		}
		back := &dentry{ino: r.new.dentry.ino, typ: r.new.dentry.typ, name: r.old.name}
		return tx.putDentry(r.old.zk, r.old.dirIno, r.old.at.tag, back)
	}
	if r.new.node != nil {
		var err error
		if r.dropped, err = tx.dropName(r.new.zk, r.new.node, r.new.at, r.open); err != nil {
			return err
		}
	}
	if r.flags&RenameWhiteout != 0 {
		return r.putWhiteout()
	}
	tx.deleteDentry(r.old.dirIno, r.old.at.tag)
	return nil
}

// rebind gives a zone whose directory moves the wraps for its new place.
func (r *renaming) rebind() error {
	if r.zone == 0 {
		return nil
	}
	z, err := r.tx.zone(r.zone)
	if err != nil {
		return err
	}
	if z.Dir != r.old.dentry.ino {
		return ErrCrossZone
	}
	if !z.sameKeys(r.before) {
		return fmt.Errorf("zone %d was wrapped anew meanwhile: %w", z.ID, ErrStale)
	}
	z.Wraps, z.Former = r.moved.Wraps, r.moved.Former
	return r.tx.putZone(z)
}

// countSubdirs moves the links that ".." of subdirectories make.
func (r *renaming) countSubdirs() error {
	var old, new int64
	if r.old.node.cur.IsDir() {
		old, new = old-1, new+1
	}
	if r.new.node != nil && r.new.node.cur.IsDir() {
		new--
		if r.exchange() {
			old++
		}
	}
	if r.old.dirIno == r.new.dirIno {
		old, new = 0, old+new
	}
	if old != 0 {
		if err := r.tx.addSubdirs(r.old.dir, old); err != nil {
			return err
		}
	}
	if new != 0 {
		return r.tx.addSubdirs(r.new.dir, new)
	}
	return nil
}

// putWhiteout leaves a whiteout under the old name: a character device with number 0, as overlayfs has it.
func (r *renaming) putWhiteout() error {
	n := NewNode{Mode: ModeChar, UID: r.owner.UID, GID: r.owner.GID}
	if err := n.inherit(r.tx, r.old.dir.cur); err != nil {
		return err
	}
	a := r.tx.newAttr(r.whiteIno, r.old.dir.cur, &n)
	a.Parent, a.Tag, a.Nlink = r.old.at.parent, r.old.at.tag, 1
	r.white = r.tx.insert(a)
	return r.tx.putDentry(r.old.zk, r.old.dirIno, r.old.at.tag, &dentry{ino: a.Ino, typ: a.Type(), name: r.old.name})
}
