package object

import (
	"container/list"
	"errors"
	"fmt"
	"syscall"
)

// File is an open object. Release it after use; it may then be closed.
type File struct {
	store *Store
	id    ID
	lower LowerFile

	refs    int           // guarded by store.mu
	elem    *list.Element // guarded by store.mu; non-nil while refs is 0 and it is in the set
	dropped bool          // guarded by store.mu; no longer in the set
}

// hold adds a reference. Called with store.mu held.
func (f *File) hold() {
	if f.elem != nil {
		f.store.idle.Remove(f.elem)
		f.elem = nil
	}
	f.refs++
}

// Release gives the file back. Each Get and Create needs exactly one.
func (f *File) Release() {
	s := f.store
	s.mu.Lock()
	f.refs--
	if f.refs < 0 {
		s.mu.Unlock()
		panic("object: File released twice")
	}
	if f.refs > 0 {
		s.mu.Unlock()
		return
	}
	if f.dropped || s.closed {
		s.mu.Unlock()
		if f.dropped {
			f.lower.Close()
		}
		return
	}
	f.elem = s.idle.PushFront(f)
	surplus := s.trim()
	s.mu.Unlock()
	closeAll(surplus)
}

// ID returns the object's name.
func (f *File) ID() ID { return f.id }

// ReadAt fills p from byte off on. If the object ends before, the error is
// ErrTruncated and p holds nothing of use.
func (f *File) ReadAt(p []byte, off int64) error {
	n, err := f.lower.ReadAt(p, off)
	if err != nil {
		return fmt.Errorf("read object %s at %d: %w", f.id, off, err)
	}
	if n < len(p) {
		return fmt.Errorf("read object %s at %d: %d of %d bytes: %w", f.id, off, n, len(p), ErrTruncated)
	}
	return nil
}

// WriteAt writes all of p at byte off, extending the object if needed. On
// error any part may have been written. Errors: ErrFailed, also from now on if
// the disk did not take it, as a page cache above would report the loss once
// and then call its data written; the system's, for want of space.
func (f *File) WriteAt(p []byte, off int64) error {
	if f.store.failed.Load() {
		return fmt.Errorf("write object %s: %w", f.id, ErrFailed)
	}
	if err := f.lower.WriteAt(p, off); err != nil {
		what := fmt.Sprintf("write object %s at %d", f.id, off)
		if refused(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		return f.store.fail(what, err)
	}
	return nil
}

// Datasync makes what was written so far durable, the object's name included
// if it is new. After a failure the store is ErrFailed.
func (f *File) Datasync() error {
	s := f.store
	if s.failed.Load() {
		return fmt.Errorf("sync object %s: %w", f.id, ErrFailed)
	}
	if err := f.lower.Datasync(); err != nil {
		return s.fail("sync object "+f.id.String(), err)
	}
	return s.syncName(f.id)
}

// WriteBack has the disk begin with what was written to the range, so that the
// Datasync to come has less to wait for. It may block while the disk's queue is
// full.
func (f *File) WriteBack(off, n int64) { f.lower.WriteBack(off, n) }

// ReadAhead has the lower filesystem begin to read the range, so that the ReadAt
// to come has less to wait for.
func (f *File) ReadAhead(off, n int64) { f.lower.ReadAhead(off, n) }

// Punch makes the range read as zeros and frees its space. A filesystem that
// cannot do it is left as it is: the range is not referenced any more.
func (f *File) Punch(off, n int64) error {
	if f.store.failed.Load() {
		return fmt.Errorf("punch object %s: %w", f.id, ErrFailed)
	}
	if n <= 0 {
		return nil
	}
	err := f.lower.Punch(off, n)
	if err == nil || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return nil
	}
	return fmt.Errorf("punch object %s: %d bytes at %d: %w", f.id, n, off, err)
}

// Cut shortens the object to size bytes; a shorter one is left alone.
func (f *File) Cut(size int64) error {
	if f.store.failed.Load() {
		return fmt.Errorf("cut object %s: %w", f.id, ErrFailed)
	}
	old, _, err := f.lower.Stat()
	if err == nil && old > size {
		err = f.lower.Truncate(size)
	}
	if err != nil {
		return fmt.Errorf("cut object %s to %d bytes: %w", f.id, size, err)
	}
	return nil
}

// Stat returns the object's length and the space that it takes, in bytes.
func (f *File) Stat() (size, allocated int64, err error) {
	size, allocated, err = f.lower.Stat()
	if err != nil {
		err = fmt.Errorf("stat object %s: %w", f.id, err)
	}
	return size, allocated, err
}
