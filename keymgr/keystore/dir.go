package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// EnvDir is the environment variable that overrides the default place.
const EnvDir = "KMSFS_KEYSTORE"

// DefaultDir is where a key store lies if nothing else is said: $KMSFS_KEYSTORE; /var/lib/kmsfs for root; else $XDG_DATA_HOME/kmsfs or
// ~/.local/share/kmsfs. It need not exist. An error if there is no home directory.
func DefaultDir() (string, error) {
	if dir := os.Getenv(EnvDir); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Geteuid() == 0 {
		return "/var/lib/kmsfs", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) { // relative ones are to be ignored (XDG base directory specification)
		return filepath.Join(dir, "kmsfs"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the default key store: %w", err)
	}
	return filepath.Join(home, ".local", "share", "kmsfs"), nil
}

// RunDir is the directory of the key store's socket.
func RunDir(dir string) string { return filepath.Join(dir, "run") }

// SocketPath is the socket of the key store's keyd. It may be longer than a socket's address; keymgr/server and keymgr/client get around that.
func SocketPath(dir string) string { return filepath.Join(RunDir(dir), "keyd.sock") }

// CheckDir returns the owner of a key store's directory, and an error unless that is us or root, or we are root, and nobody else can write into it. ErrNone, ErrUnsafe, or the system's error.
func CheckDir(dir string) (owner int, err error) {
	st, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, ErrNone
	}
	if err != nil {
		return 0, err
	}
	if !st.IsDir() {
		return 0, fmt.Errorf("%w: not a directory", ErrNone)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return 0, fmt.Errorf("%w: its mode is %04o: chmod 700 %s", ErrUnsafe, st.Mode().Perm(), dir)
	}
	var sys unix.Stat_t
	if err := unix.Stat(dir, &sys); err != nil {
		return 0, fmt.Errorf("stat %s: %w", dir, err)
	}
	owner = int(sys.Uid)
	if me := os.Geteuid(); owner != me && owner != 0 && me != 0 {
		return 0, fmt.Errorf("%w: it belongs to uid %d", ErrUnsafe, owner)
	}
	return owner, nil
}

// Lock is the hold of a process on a key store.
type Lock struct{ f *os.File }

// Acquire takes the key store in dir for this process; it ends with Release or with the process. ErrInUse if another one has it, or the system's error.
func Acquire(dir string) (*Lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock key store: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock key store %s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock key store %s: %w", dir, err)
	}
	return &Lock{f}, nil
}

// Release gives the key store up.
func (l *Lock) Release() {
	if l != nil && l.f != nil {
		_ = l.f.Close() // the lock goes with the descriptor
		l.f = nil
	}
}

// writeFile replaces a file durably: old or new content, never a mixture.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
