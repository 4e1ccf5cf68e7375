package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// Bounds of a run.
const (
	maxPasses = 10
	holdFor   = 10 * time.Second // of checkpoints, at most, before another pass is made beside the volume
)

// Contents is what a run needs of the volume's contents: content.Engine.
type Contents interface {
	// Checkpoint makes one, and destroys what it covers.
	Checkpoint(ctx context.Context) error
	// Hold keeps checkpoints and destruction from happening until release.
	Hold() (release func())
}

// Source is an open volume.
type Source struct {
	Volume     blockcrypt.VolumeID
	Superblock []byte
	Store      *local.Store
	Contents   Contents
	Objects    *object.Store
	Namer      *blockcrypt.ObjectNamer
	Structure  *meta.Structure
}

// Result says what a run has copied.
type Result struct {
	Volume   string   `json:"volume_id"`
	Run      uint64   `json:"run"`
	Sequence uint64   `json:"sequence"` // last record that the backup holds
	Passes   int      `json:"passes"`
	Blocks   uint64   `json:"blocks"`
	Bytes    uint64   `json:"bytes"`      // of blocks
	Rows     uint64   `json:"rows"`       // that differ from the backup before
	RowBytes int64    `json:"rows_bytes"` // of all rows in the backup
	Held     string   `json:"held"`       // how long checkpoints were held back
	Damaged  []Damage `json:"damaged,omitempty"`
}

// Damage is a block of the volume that is not what was written.
type Damage struct {
	Inode uint64 `json:"inode"`
	Block uint64 `json:"block"`
}

// run is one run into one target.
type run struct {
	src     Source
	dir     string
	old     *Manifest // nil: the first
	copy    *local.Copy
	objects *object.Store // of the target
	pack    packWriter
	buf     []byte
	res     Result
	report  func(bytes uint64)

	first    bool                  // there is no copy before
	before   map[meta.Ino][]uint64 // serials of the objects that the copy before has, of inodes that have changed
	at       *local.Snapshot       // that is copied
	cached   *meta.Attr            // of at
	row      []byte                // key of the map row at hand
	suspects map[string]struct{}   // map rows with blocks that were not as they should be
	torn     bool                  // the run before was interrupted
	last     bool                  // nothing is settled beside this pass
	held     time.Duration
}

// Run brings the backup in dir, an absolute path, up to the volume's state, or makes one there. An interrupted run leaves the backup as it was, and the
// next one goes on. report is called with the bytes copied so far. Errors: ErrNotBackup, ErrOther, ErrDamaged, ErrBusy, ErrInUse, those of reading
// the volume, the system's.
func Run(ctx context.Context, src Source, dir string, report func(bytes uint64)) (res Result, err error) {
	r := &run{src: src, dir: dir, report: report, buf: make([]byte, stepLimit+blockcrypt.MaxBlockSize), before: map[meta.Ino][]uint64{}, suspects: map[string]struct{}{}}
	unlock, err := lockTarget(dir)
	if err != nil {
		return res, err
	}
	defer unlock()
	if err := r.open(); err != nil {
		return res, err
	}
	defer r.objects.Close()
	defer r.pack.abandon()
	err = r.make(ctx)
	if r.at != nil {
		r.at.Release()
	}
	if err != nil {
		return r.res, fmt.Errorf("back up volume %s to %s: %w", src.Volume, dir, err)
	}
	return r.res, nil
}

// lockTarget makes the directory and keeps others out of it.
func lockTarget(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrInUse, dir)
	}
	return func() { f.Close() }, nil
}

// open reads what is there and finishes what the run before has left.
func (r *run) open() (err error) {
	r.old, err = ReadManifest(r.dir)
	if errors.Is(err, ErrNotBackup) {
		r.old, r.first = nil, true
		err = vacant(r.dir)
	}
	if err != nil {
		return err
	}
	if r.old != nil && r.old.Volume != r.src.Volume.String() {
		return fmt.Errorf("%w: %s", ErrOther, r.old.Volume)
	}
	if _, err := os.Lstat(filepath.Join(r.dir, unfinished)); err == nil {
		r.torn = true
	}
	if err := writeSynced(filepath.Join(r.dir, unfinished), nil); err != nil {
		return err
	}
	for _, name := range []string{rowsName, objectsName} {
		if err := os.Mkdir(filepath.Join(r.dir, name), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if r.objects, err = object.Open(filepath.Join(r.dir, objectsName), object.Options{}); err != nil {
		return err
	}
	err = r.openCopy()
	if err != nil {
		r.objects.Close()
	}
	return err
}

func (r *run) openCopy() (err error) {
	var names []string
	number := uint64(1)
	if r.old != nil {
		if err := settlePack(r.dir, r.old, r.objects); err != nil {
			return err
		}
		names, number = r.old.Rows, r.old.Run+1
	}
	r.copy, err = r.src.Store.OpenCopy(filepath.Join(r.dir, rowsName), names)
	r.res.Volume, r.res.Run = r.src.Volume.String(), number
	r.pack.path = filepath.Join(r.dir, fmt.Sprintf("%08d%s", number, packSuffix))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// vacant refuses a directory that holds anything but what an unfinished first run leaves.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	begun := len(entries) == 0 || len(entries) == 1 && entries[0].Name() == lockName
	for _, e := range entries {
		begun = begun || e.Name() == unfinished
	}
	if !begun {
		return fmt.Errorf("%w, and not empty: %s", ErrNotBackup, dir)
	}
	return nil
}

// settlePack puts the blocks of a finished backup's pack into its objects.
func settlePack(dir string, m *Manifest, objects *object.Store) error {
	if m.Pack == "" {
		return nil
	}
	path := filepath.Join(dir, m.Pack)
	if err := apply(path, m.PackSize, objects); err != nil {
		return err
	}
	if err := objects.SyncAll(); err != nil {
		return err
	}
	m.Pack, m.PackSize = "", 0
	if err := m.write(dir); err != nil {
		return err
	}
	return os.Remove(path)
}

// make copies in passes, and commits.
func (r *run) make(ctx context.Context) error {
	if err := r.passes(ctx); err != nil {
		return err
	}
	next, err := r.rows(ctx)
	if err != nil {
		return err
	}
	return r.commit(next)
}

// passes copies until the last pass was made with checkpoints held back.
func (r *run) passes(ctx context.Context) error {
	for r.res.Passes < maxPasses {
		if err := r.checkpoint(ctx); err != nil {
			return err
		}
		done, err := r.beside(ctx)
		if err != nil || done {
			return err
		}
		if done, err = r.holding(ctx); err != nil || done {
			return err
		}
	}
	return ErrBusy
}

// checkpoint brings what was committed into the next snapshot; a volume that is mounted read-only has nothing to destroy.
func (r *run) checkpoint(ctx context.Context) error {
	err := r.src.Contents.Checkpoint(ctx)
	if errors.Is(err, meta.ErrReadOnly) {
		err = r.src.Store.Checkpoint(ctx)
	}
	return err
}

// beside makes a pass while the volume goes on.
func (r *run) beside(ctx context.Context) (done bool, err error) {
	snap, err := r.src.Store.Snapshot()
	if err != nil {
		return false, err
	}
	return false, r.pass(ctx, snap)
}

// holding makes a pass with checkpoints held back; false if it took too long, or the journal has filled up meanwhile.
func (r *run) holding(ctx context.Context) (done bool, err error) {
	if err := r.checkpoint(ctx); err != nil {
		return false, err
	}
	release := r.src.Contents.Hold()
	defer release()
	snap, free, err := r.src.Store.HoldCheckpoints()
	if errors.Is(err, local.ErrUnfinished) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer free()
	began := time.Now()
	defer func() { r.held += time.Since(began) }()
	r.last, r.res.Damaged = true, nil
	defer func() { r.last = false }()
	limited, stop := context.WithTimeoutCause(ctx, holdFor, ErrBusy)
	defer stop()
	go r.watch(limited, stop)
	if err = r.pass(limited, snap); err == nil {
		err = r.again()
	}
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// watch ends a pass that keeps the volume waiting.
func (r *run) watch(ctx context.Context, stop func()) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if r.src.Store.Pressed() {
				stop()
				return
			}
		}
	}
}

// pass copies what differs between the state of the pass before, at first that of the copy, and snap.
func (r *run) pass(ctx context.Context, snap *local.Snapshot) (err error) {
	r.res.Passes++
	then := r.at
	r.at, r.cached = snap, nil
	change := func(key, was, is []byte) error {
		if err := r.note(key, was); err != nil {
			return err
		}
		return r.copyRow(key, was, is)
	}
	if then == nil {
		err = r.copy.Since(ctx, snap, change)
	} else {
		err = snap.Since(ctx, then, change)
	}
	if err == nil {
		if then != nil {
			then.Release()
		}
		return nil
	}
	r.at = then // what was copied is copied again
	snap.Release()
	return err
}

// rows writes the rows of the copied state, and what becomes of objects that it does not have any more.
func (r *run) rows(ctx context.Context) (*local.Copy, error) {
	return r.copy.Next(ctx, r.at, fmt.Sprintf("%08d", r.res.Run), func(key, was, is []byte) error {
		r.res.Rows++
		if _, ok := meta.ParseInodeKey(key); !ok || was == nil {
			return nil
		}
		return r.dispose(key, was, is)
	})
}

// dispose removes the objects that an inode had and has no more, and cuts those that it has.
func (r *run) dispose(key, was, is []byte) error {
	old, err := r.src.Structure.Inode(key, was)
	if err != nil {
		return err
	}
	now := &meta.Attr{}
	if is != nil {
		if now, err = r.src.Structure.Inode(key, is); err != nil {
			return err
		}
	}
	for _, had := range old.Planes() {
		if err := r.disposePlane(old, now, had); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) disposePlane(old, now *meta.Attr, had meta.Plane) error {
	id := object.ID(r.src.Namer.ID(uint64(old.Ino), had.Serial))
	for _, has := range now.Planes() {
		if has.Serial != had.Serial {
			continue
		}
		end := min(now.Size, has.To)
		if end >= min(old.Size, had.To) {
			return nil
		}
		return r.pack.step(stepCut, id, has.Slot(has.End(end)), nil)
	}
	return r.pack.step(stepRemove, id, 0, nil)
}

// commit makes everything durable, renames the manifest, and puts the pack's blocks in their places.
func (r *run) commit(next *local.Copy) error {
	m := &Manifest{
		Format: manifestFormat, Version: manifestVersion, Volume: r.res.Volume, Run: r.res.Run, Time: time.Now().UTC().Truncate(time.Second),
		Sequence: next.Head().Sequence, Superblock: r.src.Superblock, Rows: next.Names(),
	}
	var err error
	if m.Pack, m.PackSize, err = r.pack.finish(); err != nil {
		return err
	}
	if err := r.objects.SyncAll(); err != nil {
		return err
	}
	if err := m.write(r.dir); err != nil {
		return err
	}
	r.res.Sequence, r.res.RowBytes, r.res.Held = m.Sequence, next.Size(), r.held.Round(time.Millisecond).String()
	if err := settlePack(r.dir, m, r.objects); err != nil {
		return err
	}
	if r.torn {
		if err := r.sweep(); err != nil {
			return err
		}
	}
	return errors.Join(next.Clean(), os.Remove(filepath.Join(r.dir, unfinished)))
}

// sweep removes objects that the state does not have: leftovers of runs that were interrupted.
func (r *run) sweep() error {
	var failed error
	err := r.objects.List(func(it object.Item) bool {
		if it.Err != nil {
			return true
		}
		ino, serial := r.src.Namer.Parse(blockcrypt.ObjectID(it.ID))
		var a *meta.Attr
		if a, failed = r.inode(meta.Ino(ino)); failed == nil && (a == nil || !slices.Contains(serials(a), serial)) {
			failed = r.objects.Remove(it.ID)
		}
		return failed == nil
	})
	return errors.Join(err, failed)
}

func (r *run) progress() {
	if r.report != nil {
		r.report(r.res.Bytes)
	}
}
