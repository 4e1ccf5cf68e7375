package fs

import (
	"fmt"
	"os"
	"sync"
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
const spaceFresh = 100 * time.Millisecond

// space knows how much room there is below. Safe for concurrent use.
type space struct {
	dir     *os.File // on the lower filesystem
	reserve uint64   // bytes

	mu    sync.Mutex
	asked time.Time // guarded by mu; of free
	free  uint64    // guarded by mu; bytes beyond the reserve
}

func openSpace(lower string, reserve uint64) (*space, error) {
	dir, err := os.Open(lower)
	if err != nil {
		return nil, err
	}
	s := &space{dir: dir, reserve: reserve}
	st, err := s.statfs()
	if err != nil {
		dir.Close()
		return nil, err
	}
	if reserve == 0 {
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

// admit says whether something new may be begun: ErrReserve if only the reserve is left below.
func (s *space) admit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.asked) > spaceFresh {
		st, err := s.statfs()
		if err != nil {
			return err
		}
		s.asked, s.free = now, st.Bavail*uint64(st.Frsize)-min(s.reserve, st.Bavail*uint64(st.Frsize))
	}
	if s.free == 0 {
		return ErrReserve
	}
	return nil
}

// fill is the answer to statfs(2): the lower filesystem's, the reserve taken off.
func (s *space) fill(out *fuse.StatfsOut) error {
	st, err := s.statfs()
	if err != nil {
		return err
	}
	reserve := s.reserve / uint64(st.Frsize)
	*out = fuse.StatfsOut{
		Blocks: st.Blocks - min(reserve, st.Blocks), Bfree: st.Bfree - min(reserve, st.Bfree), Bavail: st.Bavail - min(reserve, st.Bavail),
		Files: st.Files, Ffree: st.Ffree, Bsize: uint32(st.Bsize), Frsize: uint32(st.Frsize), NameLen: meta.MaxName,
	}
	return nil
}

// StatFs is statfs(2).
func (fs *FS) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return fs.status("statfs", in.NodeId, fs.space.fill(out))
}
