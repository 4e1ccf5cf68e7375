package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/hsm/awake"
)

const (
	lockName = "lock"
	lockWait = 10 * time.Second // how long a predecessor may take to close
	lockPoll = 20 * time.Millisecond
)

// volumeLock is the exclusive hold of one process on a volume directory: an flock, so that it ends with the process whatever happens.
type volumeLock struct{ file *os.File }

// lockVolume takes the lock, waiting for a holder that is about to go: giveUp is asked now and then whether waiting is in vain, and says why. It is
// ErrInUse, with the holder's pid, when giveUp says so or after lockWait.
func lockVolume(ctx context.Context, volumeDir string, giveUp func() error) (*volumeLock, error) {
	f, err := openLock(filepath.Join(volumeDir, lockName))
	if err != nil {
		return nil, fmt.Errorf("lock volume %s: %w", volumeDir, err)
	}
	limit, cancel := awake.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return holdLock(f)
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock volume %s: %w", volumeDir, err)
		}
		if err := waitOrGiveUp(ctx, limit, f, giveUp); err != nil {
			f.Close()
			return nil, fmt.Errorf("%w: %s: %w", ErrInUse, volumeDir, err)
		}
	}
}

// openLock opens or makes the lock file. ErrDamaged if something else is in its place: it is written to.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, lost(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 { // it may be gone again, which the next one to come finds
		f.Close()
		return nil, fmt.Errorf("%w: it is not a regular file, or has a second name", ErrDamaged)
	}
	return f, nil
}

func waitOrGiveUp(ctx, limit context.Context, f *os.File, giveUp func() error) error {
	if err := giveUp(); err != nil {
		return err
	}
	if limit.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("process %s still has it after %v", readPID(f), lockWait)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(lockPoll):
		return nil
	}
}

func holdLock(f *os.File) (*volumeLock, error) {
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock file: %w", err)
	}
	return &volumeLock{f}, nil
}

// readPID returns what the holder wrote, for a message; "?" if that is no number.
func readPID(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 20))
	pid := strings.TrimSpace(string(b))
	if _, perr := strconv.Atoi(pid); err != nil || perr != nil {
		return "?"
	}
	return pid
}

// release gives the lock back. The file stays: removing it would let two processes lock two files.
func (l *volumeLock) release() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("release volume lock: %w", err)
	}
	return nil
}
