package object

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
)

// DefaultDescriptors is how many lower files a Store keeps open.
const DefaultDescriptors = 512

// Options of a Store. The zero value is the default.
type Options struct {
	// Descriptors bounds the lower files that are kept open while nobody uses
	// them. 0 means DefaultDescriptors.
	Descriptors int
	// Lower replaces the system calls. nil means the real ones, beneath the
	// directory given to Open.
	Lower Lower
	// OnFail is called once, with the cause, when the store becomes ErrFailed.
	// It must not call the store. nil: nobody asks.
	OnFail func(cause error)
}

// Store is an objects directory. Only one Store may exist for a directory.
//
// Lock order: mu and fresh.mu are never held together, nor while a system call
// is made.
type Store struct {
	lower  Lower
	limit  int
	failed atomic.Bool
	onFail func(error)
	fresh  fresh

	mu     sync.Mutex
	open   map[ID]*File // guarded by mu
	idle   *list.List   // guarded by mu; of *File with refs 0, most recent first
	closed bool         // guarded by mu
}

// Open opens the objects directory at dir, which must exist. It does not read
// it.
func Open(dir string, opts Options) (*Store, error) {
	lower := opts.Lower
	if lower == nil {
		k, err := openKernel(dir)
		if err != nil {
			return nil, err
		}
		lower = k
	}
	limit := opts.Descriptors
	if limit <= 0 {
		limit = DefaultDescriptors
	}
	onFail := opts.OnFail
	if onFail == nil {
		onFail = func(error) {}
	}
	return &Store{lower: lower, limit: limit, onFail: onFail, open: map[ID]*File{}, idle: list.New()}, nil
}

// Get returns an existing object, which the caller must Release.
// Errors: ErrMissing, ErrHostile, ErrClosed, the system's.
func (s *Store) Get(id ID) (*File, error) { return s.get(id, false) }

// Create returns an object that is made, empty, if it does not exist. The
// caller must Release it. It counts as new until synced, also if it was there
// (left over by a crash). Errors: ErrHostile, ErrFailed, ErrClosed, the
// system's (no space).
func (s *Store) Create(id ID) (*File, error) {
	if s.failed.Load() {
		return nil, fmt.Errorf("create object %s: %w", id, ErrFailed)
	}
	return s.get(id, true)
}

func (s *Store) get(id ID, create bool) (*File, error) {
	if f, err := s.borrow(id); f != nil || err != nil {
		return f, err
	}
	lower, err := s.openLower(id, create)
	if create && broken(err) {
		return nil, s.fail("create object "+id.String(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("open object %s: %w", id, err)
	}
	return s.adopt(id, lower)
}

// borrow returns the open file of id with one more reference, or nil.
func (s *Store) borrow(id ID) (*File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	f := s.open[id]
	if f == nil {
		return nil, nil
	}
	f.hold()
	return f, nil
}

// adopt enters a file just opened. Of two that opened the same object at once
// the first wins.
func (s *Store) adopt(id ID, lower LowerFile) (*File, error) {
	f := &File{store: s, id: id, lower: lower, refs: 1}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		lower.Close()
		return nil, ErrClosed
	}
	if first := s.open[id]; first != nil {
		first.hold()
		s.mu.Unlock()
		lower.Close()
		return first, nil
	}
	s.open[id] = f
	surplus := s.trim()
	s.mu.Unlock()
	closeAll(surplus)
	return f, nil
}

// trim takes files that nobody uses out of the set until it is within its
// limit. Called with mu held; the caller closes them without it.
func (s *Store) trim() []*File {
	var out []*File
	for len(s.open) > s.limit && s.idle.Len() > 0 {
		f := s.idle.Back().Value.(*File)
		s.idle.Remove(f.elem)
		f.elem = nil
		delete(s.open, f.id)
		out = append(out, f)
	}
	return out
}

func closeAll(files []*File) {
	for _, f := range files {
		f.lower.Close()
	}
}

// openLower opens or makes the lower file, and the directory it lies in.
func (s *Store) openLower(id ID, create bool) (LowerFile, error) {
	path := id.path()
	if create {
		lower, err := s.makeLower(path)
		if err == nil || errors.Is(err, syscall.EEXIST) {
			s.fresh.add(id) // one that was there may never have been synced
		}
		if err == nil || !errors.Is(err, syscall.EEXIST) {
			return lower, err
		}
	}
	lower, err := s.lower.OpenFile(path, false)
	if errors.Is(err, syscall.ENOENT) {
		return nil, ErrMissing
	}
	return lower, err
}

func (s *Store) makeLower(path string) (LowerFile, error) {
	lower, err := s.lower.OpenFile(path, true)
	if !errors.Is(err, syscall.ENOENT) {
		return lower, err
	}
	if err := s.lower.Mkdir(path[:2]); err != nil && !errors.Is(err, syscall.EEXIST) {
		return nil, err
	}
	return s.lower.OpenFile(path, true)
}

// Remove deletes an object; one that does not exist is no error. A File still
// held stays readable and writable, in vain.
func (s *Store) Remove(id ID) error {
	if s.failed.Load() {
		return fmt.Errorf("remove object %s: %w", id, ErrFailed)
	}
	err := s.lower.Unlink(id.path())
	s.forget(id) // afterwards, so that nobody opens it again in between
	s.fresh.remove(id)
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("remove object %s: %w", id, err)
	}
	return nil
}

// forget takes an object out of the set; it is closed when its last user is
// done.
func (s *Store) forget(id ID) {
	s.mu.Lock()
	f := s.open[id]
	if f == nil {
		s.mu.Unlock()
		return
	}
	delete(s.open, id)
	unused := f.elem != nil
	if unused {
		s.idle.Remove(f.elem)
		f.elem = nil
	}
	f.dropped = true
	s.mu.Unlock()
	if unused {
		f.lower.Close()
	}
}

// SyncAll makes every object, its bytes and its name, durable. It may take as
// long as the filesystem below has dirty pages, also of others.
// Errors: ErrFailed (this or an earlier sync failed).
func (s *Store) SyncAll() error {
	if s.failed.Load() {
		return fmt.Errorf("sync objects: %w", ErrFailed)
	}
	ids := s.fresh.all()
	if err := s.lower.SyncAll(); err != nil {
		return s.fail("sync objects", err)
	}
	s.fresh.remove(ids...)
	return nil
}

// fail makes the store refuse writes from now on.
func (s *Store) fail(what string, err error) error {
	if s.failed.CompareAndSwap(false, true) {
		s.onFail(fmt.Errorf("%s: %w", what, err))
	}
	return fmt.Errorf("%s: %w: %w", what, ErrFailed, err)
}

// refused tells whether a write that failed with err says nothing of the disk
// but that it is full, or the file too large.
func refused(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) || errors.Is(err, syscall.ENOMEM)
}

// broken tells whether a failed creation says that the disk or the directory
// is gone.
func broken(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESTALE)
}

// Failed tells whether a sync or a write failed.
func (s *Store) Failed() bool { return s.failed.Load() }

// Space tells what the filesystem below has room for.
func (s *Store) Space() (Space, error) {
	space, err := s.lower.Space()
	if err != nil {
		return space, fmt.Errorf("space of the objects directory: %w", err)
	}
	return space, nil
}

// Descriptors returns how many lower files are open.
func (s *Store) Descriptors() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Close closes all descriptors without syncing. No File may be in use.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var files []*File
	for _, f := range s.open {
		files = append(files, f)
	}
	clear(s.open)
	s.idle.Init()
	s.mu.Unlock()
	closeAll(files)
	return s.lower.Close()
}

func ignoringEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
