package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta"
)

// DefaultReserve is the space in bytes that is kept free on the lower filesystem: twice the dirty pages that the kernel may hold for a mount, which
// must fit when they are written back, because by then it is too late to say no.
const DefaultReserve = 256 << 20

// reserveShare bounds the reserve on a small filesystem: one part in this many of its size.
const reserveShare = 20

// spaceFresh is how long an answer of the lower filesystem is used to admit requests.
const spaceFresh = 5 * time.Millisecond

// relieveEvery bounds how often a full disk is searched for room in vain.
const relieveEvery = time.Second

// space knows how much room there is below, and has more made when it is short. Safe for concurrent use.
//
//	free below = owed (promised by the journal, see Config.Owed) + reserve (for what the kernel has accepted already) + what may be begun
type space struct {
	dir     *os.File // on the lower filesystem
	reserve uint64   // bytes
	owed    func() uint64
	make    func(context.Context) error // a checkpoint: what was deleted goes

	short   atomic.Bool   // nothing new may be begun
	onShort func()        // called when that begins; must not wait
	deleted atomic.Bool   // something was, since room was made last
	making  chan struct{} // capacity 1: held while room is made
	made    atomic.Int64  // when it was, in nanoseconds since 1970

	mu    sync.Mutex
	asked time.Time // guarded by mu; of free
	free  uint64    // guarded by mu; bytes below
}

func openSpace(cfg Config) (*space, error) {
	dir, err := os.Open(cfg.Lower)
	if err != nil {
		return nil, err
	}
	s := &space{dir: dir, reserve: cfg.Reserve, owed: cfg.Owed, making: make(chan struct{}, 1), onShort: func() {}}
	if s.owed == nil {
		s.owed = func() uint64 { return 0 }
	}
	st, err := s.statfs()
	if err != nil {
		dir.Close()
		return nil, err
	}
	if s.reserve == 0 {
		s.reserve = min(DefaultReserve, st.Blocks*uint64(st.Frsize)/reserveShare)
	}
	return s, nil
}

func (s *space) close() error { return s.dir.Close() }

// dirtyLimit is how many bytes of dirty pages the kernel may hold: half the reserve, the other half is for what they take besides.
func (s *space) dirtyLimit() uint64 { return s.reserve / 2 }

func (s *space) statfs() (unix.Statfs_t, error) {
	var st unix.Statfs_t
	for {
		err := unix.Fstatfs(int(s.dir.Fd()), &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return st, fmt.Errorf("statfs of the lower filesystem: %w", err)
		}
		if st.Frsize == 0 {
			st.Frsize = st.Bsize
		}
		return st, nil
	}
}

// left returns how much is free below beyond what is owed, in bytes.
func (s *space) left() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.asked) > spaceFresh {
		st, err := s.statfs()
		if err != nil {
			return 0, err
		}
		s.asked, s.free = now, st.Bavail*uint64(st.Frsize)
	}
	owed := s.owed()
	return s.free - min(owed, s.free), nil
}

// admit says whether something new may be begun: ErrReserve if only the reserve is left below.
func (s *space) admit(ctx context.Context) error { return s.want(ctx, s.reserve) }

// accept says whether what the kernel accepted may still be written: ErrReserve if the reserve is used up as well.
// What was promised is worth another look where somebody has made room a moment ago: growing files may hold blocks behind their ends since.
func (s *space) accept(ctx context.Context) error {
	err := s.want(ctx, 0)
	if !errors.Is(err, ErrReserve) {
		return err
	}
	trim(s.dir)
	s.forget()
	left, lerr := s.look()
	if lerr != nil || left == 0 {
		return errors.Join(err, lerr)
	}
	return nil
}

// want has room made, once, if there is no more than kept.
func (s *space) want(ctx context.Context, kept uint64) error {
	left, err := s.look()
	if err != nil || left > kept {
		return err
	}
	if s.relieve(ctx) {
		if left, err = s.look(); err != nil || left > kept {
			return err
		}
	}
	return ErrReserve
}

// look is left, and notes whether space is short.
func (s *space) look() (uint64, error) {
	left, err := s.left()
	if err != nil {
		return 0, err
	}
	if short := left <= s.reserve; s.short.Swap(short) != short && short {
		s.onShort()
	}
	return left, nil
}

// justMade tells that room was made a moment ago.
func (s *space) justMade() bool { return s.madeWithin(relieveEvery / 4) }

func (s *space) madeWithin(d time.Duration) bool {
	return time.Since(time.Unix(0, s.made.Load())) < d
}

// relieve makes room, unless that was tried a moment ago and nothing was deleted since. It returns whether there may be more now.
func (s *space) relieve(ctx context.Context) bool {
	began := time.Now().UnixNano()
	select {
	case s.making <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-s.making }()
	if s.made.Load() > began { // somebody did while we waited
		return true
	}
	if s.make == nil || !s.deleted.Swap(false) && s.madeWithin(relieveEvery) {
		return false
	}
	err := s.make(ctx)
	trim(s.dir)
	s.made.Store(time.Now().UnixNano())
	s.forget()
	return err == nil
}

// forget has the lower filesystem asked again.
func (s *space) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = time.Time{}
}

// fill is the answer to statfs(2): the lower filesystem's, the reserve and what is owed taken off.
func (s *space) fill(out *fuse.StatfsOut) error {
	st, err := s.statfs()
	if err != nil {
		return err
	}
	reserve := (s.reserve + s.owed()) / uint64(st.Frsize)
	*out = fuse.StatfsOut{
		Blocks: st.Blocks - min(reserve, st.Blocks), Bfree: st.Bfree - min(reserve, st.Bfree), Bavail: st.Bavail - min(reserve, st.Bavail),
		Files: st.Files, Ffree: st.Ffree, Bsize: uint32(st.Bsize), Frsize: uint32(st.Frsize), NameLen: meta.MaxName,
	}
	return nil
}

// StatFs is statfs(2).
func (fs *FS) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return fs.failed("statfs", in.NodeId, fs.space.fill(out))
}
