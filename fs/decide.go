package fs

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/meta"
)

// Decider decides requests beyond what permissions say: access.Guard is one. Where a zone has nothing to decide it is asked nothing.
type Decider interface {
	// Active says whether there is anything to decide at all. It must cost next to nothing.
	Active() bool
	// Decide returns nil, or why the request is refused. A pass that is not nil is to be checked with each use of the file that is opened by the request.
	Decide(ctx context.Context, by access.Requester, action access.Action, at access.Target) (*access.Pass, error)
	// Carry returns nil, or why what is at from may not go to a place in another zone; meta.ErrCrossZone if it has to be copied.
	Carry(ctx context.Context, by access.Requester, from, to access.Target) error
	// Administer returns nil, or why the caller may not administer the zone.
	Administer(ctx context.Context, by access.Requester, zone meta.ZoneID) error
	// Closed records that a file which was opened by an allowed request is closed, and how many bytes were exchanged.
	// Nobody waits for it.
	Closed(by access.Requester, zone meta.ZoneID, ino meta.Ino, read, written uint64) error
	// Renamed says that inodes, as they are now, have got or lost a name. It is called before the request that did it is answered.
	Renamed(inodes ...*meta.Attr)
	// Refused says that keys may not be had or used for a request, whether that was decided or found out.
	Refused(by access.Requester, operation string, ino meta.Ino, err error)
	// Settings says how open files of a zone use the kernel's caches.
	Settings(zone meta.ZoneID) access.Settings
}

// deciding says whether there is a Decider with anything to decide.
func (fs *FS) deciding() bool { return fs.access != nil && fs.access.Active() }

func requester(in *fuse.InHeader) access.Requester {
	return access.Requester{UID: in.Uid, GID: in.Gid, PID: in.Pid}
}

// may decides a request about an inode.
func (fs *FS) may(ctx context.Context, in *fuse.InHeader, action access.Action, ino meta.Ino) error {
	if !fs.deciding() {
		return nil
	}
	a, err := fs.meta.Getattr(ctx, ino)
	if err != nil {
		return err
	}
	_, err = fs.access.Decide(ctx, requester(in), action, access.Target{Zone: a.Zone, Ino: ino})
	return err
}

// mayName decides a request about a name in a directory.
func (fs *FS) mayName(ctx context.Context, in *fuse.InHeader, action access.Action, dir meta.Ino, name string) error {
	if !fs.deciding() {
		return nil
	}
	at := access.Target{Dir: dir, Name: []byte(name)}
	if action == access.Delete {
		at.Ino = fs.leadsTo(ctx, place{dir, at.Name})
	}
	return fs.mayAt(ctx, in, action, at)
}

// mayAt decides a request about a name whose zone is its directory's.
func (fs *FS) mayAt(ctx context.Context, in *fuse.InHeader, action access.Action, at access.Target) error {
	a, err := fs.meta.Getattr(ctx, at.Dir)
	if err != nil {
		return err
	}
	at.Zone = a.Zone
	_, err = fs.access.Decide(ctx, requester(in), action, at)
	return err
}

// leadsTo is what a name leads to, for the record; 0 for nothing.
func (fs *FS) leadsTo(ctx context.Context, p place) meta.Ino {
	a, err := fs.meta.Lookup(ctx, p.dir, p.name)
	if err != nil {
		return 0
	}
	return a.Ino
}

// mayOpen decides an open of an inode for what its flags say.
func (fs *FS) mayOpen(ctx context.Context, in *fuse.InHeader, a *meta.Attr, flags uint32) ([]*access.Pass, error) {
	if !fs.deciding() {
		return nil, nil
	}
	actions := []access.Action{access.Read}
	switch flags & syscall.O_ACCMODE {
	case syscall.O_WRONLY:
		actions[0] = access.Write
	case syscall.O_RDWR:
		actions = append(actions, access.Write)
	}
	if a.IsDir() {
		actions[0] = access.List
	}
	var passes []*access.Pass
	for _, action := range actions {
		p, err := fs.access.Decide(ctx, requester(in), action, access.Target{Zone: a.Zone, Ino: a.Ino})
		if err != nil {
			return nil, err
		}
		if p != nil {
			passes = append(passes, p)
		}
	}
	return passes, nil
}

// mayRename decides a rename: both names, and the removal of what is replaced.
func (fs *FS) mayRename(ctx context.Context, in *fuse.InHeader, from, to place, flags meta.RenameFlags) error {
	if !fs.deciding() {
		return nil
	}
	here, err := fs.meta.Getattr(ctx, from.dir)
	if err != nil {
		return err
	}
	there, err := fs.meta.Getattr(ctx, to.dir)
	if err != nil {
		return err
	}
	arrives := access.Rename
	if here.Zone != there.Zone {
		arrives = access.Create
	}
	move := &access.Move{FromDir: from.dir, FromName: from.name, ToDir: to.dir, ToName: to.name, Exchange: flags&meta.RenameExchange != 0}
	ino := fs.leadsTo(ctx, from)
	if err := fs.mayAt(ctx, in, access.Rename, access.Target{Ino: ino, Dir: from.dir, Name: from.name, Move: move}); err != nil {
		return err
	}
	if err := fs.mayAt(ctx, in, arrives, access.Target{Ino: ino, Dir: to.dir, Name: to.name, Move: move}); err != nil {
		return err
	}
	if flags&(meta.RenameExchange|meta.RenameNoReplace) != 0 {
		return nil
	}
	if _, err := fs.meta.Lookup(ctx, to.dir, to.name); err == nil {
		return fs.mayName(ctx, in, access.Delete, to.dir, string(to.name))
	}
	return nil // nothing is replaced, or the rename will say what is wrong
}

// maySetAttr decides chmod, chown, utimensat and truncate(2). What comes with a file that is open for writing was decided when it was opened, and the kernel's own
// write-back of the times that it keeps is nobody's request.
func (fs *FS) maySetAttr(ctx context.Context, in *fuse.SetAttrIn) error {
	if !fs.deciding() {
		return nil
	}
	asked := in.Valid &^ (fuse.FATTR_FH | fuse.FATTR_LOCKOWNER | fuse.FATTR_KILL_SUIDGID)
	if asked == fuse.FATTR_MTIME|fuse.FATTR_CTIME {
		return nil
	}
	if asked&fuse.FATTR_SIZE != 0 {
		asked &^= fuse.FATTR_SIZE | fuse.FATTR_MTIME | fuse.FATTR_CTIME
		if err := fs.mayTruncate(ctx, in); err != nil {
			return err
		}
	}
	if asked == 0 {
		return nil
	}
	return fs.may(ctx, &in.InHeader, access.SetAttr, meta.Ino(in.NodeId))
}

func (fs *FS) mayTruncate(ctx context.Context, in *fuse.SetAttrIn) error {
	if fh, ok := in.GetFh(); ok {
		if h, err := fs.handles.file(fh); err == nil && h.write {
			return h.check(ctx)
		}
	}
	return fs.may(ctx, &in.InHeader, access.Write, meta.Ino(in.NodeId))
}

// check is nil while the handle's user still may what it was opened for.
func (h *handle) check(ctx context.Context) error {
	for _, p := range h.passes {
		if err := p.Check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// mayRmdir decides the removal of a directory; of a zone's own, also that the caller may administer the zone.
func (fs *FS) mayRmdir(ctx context.Context, in *fuse.InHeader, name string) error {
	if !fs.deciding() {
		return nil
	}
	if err := fs.mayName(ctx, in, access.Delete, meta.Ino(in.NodeId), name); err != nil {
		return err
	}
	dir, err := fs.meta.Getattr(ctx, meta.Ino(in.NodeId))
	if err != nil {
		return err
	}
	a, err := fs.meta.Lookup(ctx, dir.Ino, []byte(name))
	if err != nil || a.Zone == dir.Zone {
		return nil // what is wrong is for the removal to find
	}
	return fs.access.Administer(ctx, requester(in), a.Zone)
}

// strictMetadata says whether lookups, stat and the like are decided for each caller in a zone. The kernel keeps nothing of it then.
func (fs *FS) strictMetadata(zone meta.ZoneID) bool {
	return fs.deciding() && fs.access.Settings(zone).StrictMetadata
}

// maySee decides a stat, readlink or getxattr of an inode.
func (fs *FS) maySee(ctx context.Context, in *fuse.InHeader, ino meta.Ino) error {
	if !fs.deciding() {
		return nil
	}
	a, err := fs.meta.Getattr(ctx, ino)
	if err != nil || !fs.access.Settings(a.Zone).StrictMetadata {
		return nil // what is wrong is for the request to find
	}
	_, err = fs.access.Decide(ctx, requester(in), access.Lookup, access.Target{Zone: a.Zone, Ino: ino})
	return err
}

// maySeeName decides a lookup. kept is how long the kernel may keep the answer.
func (fs *FS) maySeeName(ctx context.Context, in *fuse.InHeader, name string) (kept time.Duration, err error) {
	if !fs.deciding() {
		return cacheFor, nil
	}
	dir, err := fs.meta.Getattr(ctx, meta.Ino(in.NodeId))
	if err != nil || !fs.access.Settings(dir.Zone).StrictMetadata {
		return cacheFor, nil
	}
	_, err = fs.access.Decide(ctx, requester(in), access.Lookup, access.Target{Zone: dir.Zone, Dir: dir.Ino, Name: []byte(name)})
	return 0, err
}

// recordClose records the end of a handle.
func (fs *FS) recordClose(h *handle) {
	if h.zone == 0 || !fs.deciding() {
		return
	}
	fs.failed("close", uint64(h.ino), fs.access.Closed(h.by, h.zone, h.ino, h.got.Load(), h.put.Load()))
}
