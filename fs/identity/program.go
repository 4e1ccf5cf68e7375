package identity

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Program is what a process runs.
type Program struct {
	Path   string // "" if it is not known
	Digest []byte // SHA-256; nil if it is not known, or was not asked for
	Claim  string // the path as the process' own namespace has it: for the record, proves nothing
}

// fileID recognises the state of a file.
type fileID struct {
	dev, ino, size uint64
	ctime          unix.StatxTimestamp
}

const (
	maxProgram  = 1 << 30 // bytes; a larger program has no digest
	maxDigests  = 1024
	programWait = 2 * time.Second // for a filesystem that does not answer; then the program is unknown
)

// digests are those of programs.
type digests struct {
	mu struct {
		sync.Mutex
		known map[fileID][]byte
	}
}

// verify looks at a claim, in bounded time. It closes p.
func (r *Resolver) verify(ctx context.Context, p *process, claim string, digest bool) Program {
	select {
	case r.looking <- struct{}{}:
	default: // as many as may wait do so already
		p.close()
		return Program{Claim: claim}
	}
	found := make(chan Program, 1)
	go func() {
		defer func() { <-r.looking }()
		defer p.close()
		found <- r.look(p, claim, digest)
	}()
	timer := time.NewTimer(programWait)
	defer timer.Stop()
	select {
	case out := <-found:
		return out
	case <-timer.C:
	case <-ctx.Done():
	}
	return Program{Claim: claim}
}

// look verifies the claim in this process' own namespace.
func (r *Resolver) look(p *process, claim string, digest bool) Program {
	out := Program{Claim: claim}
	running, err := identify(p.dir, "exe", 0)
	if err != nil || !strings.HasPrefix(claim, "/") || r.own(claim) || r.ownDevice(running.dev) {
		return out
	}
	here, err := identify(unix.AT_FDCWD, claim, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || here.dev != running.dev || here.ino != running.ino {
		return out
	}
	out.Path = claim
	if digest {
		out.Digest, _ = r.digests.of(claim, running)
	}
	return out
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// identify looks at a regular file without asking the filesystem that it lies on, if that is one of FUSE and knows it.
func identify(dir int, name string, flags int) (fileID, error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, name, flags|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &st); err != nil {
		return fileID{}, err
	}
	return fileIDOf(&st)
}

func fileIDOf(st *unix.Statx_t) (fileID, error) {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fileID{}, fmt.Errorf("program is no regular file")
	}
	return fileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, st.Size, st.Ctime}, nil
}

// of returns the digest of the file id at path, from memory or by reading it.
func (d *digests) of(path string, id fileID) ([]byte, error) {
	d.mu.Lock()
	sum := d.mu.known[id]
	d.mu.Unlock()
	if sum != nil {
		return sum, nil
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	h := sha256.New()
	if err := same(fd, id); err != nil {
		return nil, err
	}
	if _, err := io.Copy(h, io.LimitReader(f, maxProgram+1)); err != nil {
		return nil, err
	}
	if err := same(fd, id); err != nil { // it changed while it was read
		return nil, err
	}
	sum = h.Sum(nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.known == nil || len(d.mu.known) >= maxDigests {
		d.mu.known = map[fileID][]byte{}
	}
	d.mu.known[id] = sum
	return sum, nil
}

// same is nil if the open file is still the one that id recognises, and not too large.
func same(fd int, id fileID) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return err
	}
	now, err := fileIDOf(&st)
	if err == nil && (now != id || now.size > maxProgram) {
		err = fmt.Errorf("program has changed")
	}
	return err
}
