package content

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// CheckObjects looks at everything in the objects directory and reports what belongs to no file, and objects that are longer than theirs; with
// reclaim, these leftovers of crashes are removed and cut. What is no object at all is never touched. The volume may be in use. The error is that
// of the check itself.
func (e *Engine) CheckObjects(ctx context.Context, reclaim bool, report func(Fault)) error {
	s := sweep{e: e, reclaim: reclaim, report: report}
	var failed error
	err := e.objects.List(func(it object.Item) bool {
		if failed = ctx.Err(); failed == nil {
			failed = s.item(ctx, it)
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("check objects: %w", err)
	}
	return nil
}

type sweep struct {
	e       *Engine
	reclaim bool
	report  func(Fault)
}

func (s *sweep) item(ctx context.Context, it object.Item) error {
	if it.Err != nil {
		s.report(Fault{Object: it.Name, Kind: FaultStranger, Err: it.Err})
		return nil
	}
	ino, serial := s.e.namer.Parse(blockcrypt.ObjectID(it.ID))
	for {
		busy, err := s.object(ctx, it, meta.Ino(ino), serial)
		if !busy || err != nil {
			return err
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// busyPause is between two looks at an object of an inode that is not there and in use: somebody else is finding out the former, so it passes.
const busyPause = time.Millisecond

// object looks at what is named like an object. busy: it has to be looked at again.
func (s *sweep) object(ctx context.Context, it object.Item, ino meta.Ino, serial uint64) (busy bool, err error) {
	f, err := s.e.Open(ctx, ino)
	if isGone(err) || errors.Is(err, ErrNotRegular) {
		return s.nobodys(ctx, it, ino, serial)
	}
	if errors.Is(err, meta.ErrAuth) || errors.Is(err, meta.ErrCorrupt) {
		return false, nil // a fault of the inode's row, not of the object, which stays
	}
	if err != nil {
		return false, err
	}
	err = s.owned(ctx, it, f, serial)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return false, err
}

// nobodys looks at an object whose inode was not there. It may be made meanwhile, since a crash may have taken the number back that the object is named after: so nobody can open it until the object is dealt with.
func (s *sweep) nobodys(ctx context.Context, it object.Item, ino meta.Ino, serial uint64) (busy bool, err error) {
	r := s.e.Removal()
	defer r.Done()
	if r.Busy(ino) {
		return true, nil
	}
	a, err := s.e.meta.Getattr(ctx, ino)
	if err == nil && a.IsRegular() {
		return true, nil // made meanwhile
	}
	if err != nil && !isGone(err) {
		return false, err
	}
	return false, s.homeless(ctx, it, ino, serial)
}

// owned looks at an object whose inode exists. The File is locked, so that nobody begins to use the object meanwhile.
func (s *sweep) owned(ctx context.Context, it object.Item, f *File, serial uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.st.planeWith(serial)
	if !ok {
		return s.homeless(ctx, it, f.ino, serial)
	}
	length := f.endOf(p)
	if it.Size <= length {
		return nil
	}
	if due, err := s.e.hasGarbage(ctx, f.ino, serial); due || err != nil {
		return err
	}
	s.report(Fault{Ino: f.ino, Object: it.Name, Kind: FaultLength, Err: fmt.Errorf("%d bytes instead of %d", it.Size, length)})
	if !s.reclaim {
		return nil
	}
	obj, err := s.e.objects.Get(it.ID)
	if err != nil {
		return err
	}
	defer obj.Release()
	return obj.Cut(length)
}

// homeless looks at an object that no inode refers to, nor can begin to meanwhile: it is due to be removed, or a leftover.
func (s *sweep) homeless(ctx context.Context, it object.Item, ino meta.Ino, serial uint64) error {
	if due, err := s.e.hasGarbage(ctx, ino, serial); due || err != nil {
		return err
	}
	s.report(Fault{Ino: ino, Object: it.Name, Kind: FaultOrphan})
	if !s.reclaim {
		return nil
	}
	return s.e.objects.Remove(it.ID)
}

// hasGarbage tells whether something of an object waits for a checkpoint to be destroyed: until then an older state may need it.
func (e *Engine) hasGarbage(ctx context.Context, ino meta.Ino, serial uint64) (due bool, err error) {
	if ino == 0 || serial == 0 {
		return false, nil
	}
	err = e.meta.View(ctx, func(tx *meta.Tx) error {
		before := meta.Garbage{Ino: ino, Serial: serial - 1, Op: meta.GarbagePunch, First: meta.ToEnd}
		return tx.ScanGarbage(before, func(g meta.Garbage) bool {
			due = g.Ino == ino && g.Serial == serial
			return false
		})
	})
	return due, err
}
