// Package peer mounts the filesystems that the benchmark compares, by the
// commands that a user has. Of loads it knows what they may ask of a
// filesystem (load.Host), and it knows no results.
package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/bench/load"
)

// Peer is one filesystem under test. Calls are not concurrent.
type Peer interface {
	Name() string
	// Mount makes the filesystem available at Dir; it blocks until it is.
	Mount(ctx context.Context) error
	// Unmount takes it away, with everything durable. Nothing mounted is fine.
	Unmount(ctx context.Context) error
	// Dir is the root of the mounted filesystem.
	Dir() string
	// Sync makes everything durable that was written.
	Sync() error
	// Stored is how many bytes of the disk the filesystem takes, key stores
	// and the like not counted.
	Stored() (int64, error)
	// Processes are those that the mount needs; the first serves it. The error
	// wraps load.ErrNotOffered if there are none.
	Processes(ctx context.Context) ([]int, error)
	// OwnKey and KeyCalls are those of load.Host.
	OwnKey(ctx context.Context, dir string) error
	KeyCalls(ctx context.Context, since time.Time) (calls, token int, err error)
	// Close unmounts, by force if need be, and ends what Mount started.
	Close() error
}

// Before is kmsfs as another build had it, to be measured beside this one.
const Before = "kmsfs-before"

// Names are the peers that New knows, but for Before.
func Names() []string {
	return []string{"kmsfs", "kmsfs-uring", "native", "loopback", "gocryptfs", "securefs", "encfs", "cryfs"}
}

// New builds the peer of a name in its own directory below work, which is
// absolute. kmsfs is the binary of kmsfs, Before and kmsfs-uring, the same
// over io_uring; loopback is this program, called with "loopback"; native is the
// plain directory; the others are programs on the PATH.
func New(ctx context.Context, name, work, kmsfs string) (Peer, error) {
	b := base{name: name, lower: filepath.Join(work, name, "lower"), mnt: filepath.Join(work, name, "mnt")}
	for _, dir := range []string{b.lower, b.mnt} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	switch name {
	case "kmsfs", Before:
		return newKmsfs(ctx, b, kmsfs, "device")
	case "kmsfs-uring":
		return newUring(ctx, b, kmsfs)
	case "native":
		return &native{b}, nil
	case "loopback":
		return newLoopback(b)
	case "gocryptfs":
		return newGocryptfs(ctx, b)
	case "securefs":
		return newSecurefs(ctx, b)
	case "encfs":
		return newEncfs(b)
	case "cryfs":
		return newCryfs(b)
	default:
		return nil, fmt.Errorf("no filesystem %q: known are %s", name, strings.Join(Names(), ", "))
	}
}

// base is what all peers have.
type base struct {
	name  string
	lower string // where the data ends up
	mnt   string
}

func (b *base) Name() string { return b.name }
func (b *base) Dir() string  { return b.mnt }

func (b *base) Stored() (int64, error) { return diskUse(b.lower) }

func (b *base) OwnKey(context.Context, string) error {
	return fmt.Errorf("%s: keys of directories: %w", b.name, load.ErrNotOffered)
}

func (b *base) KeyCalls(context.Context, time.Time) (calls, token int, err error) {
	return 0, 0, fmt.Errorf("%s: a key manager: %w", b.name, load.ErrNotOffered)
}

// Sync suits filesystems that pass data on to the lower directory and whose
// own fsync of a directory syncs no more than that: first the pages that the
// kernel holds for the mount, then the lower filesystem.
func (b *base) Sync() error {
	return errors.Join(syncfs(b.mnt), syncfs(b.lower))
}

func syncfs(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// mounted reports whether something is mounted on the peer's directory.
func (b *base) mounted() bool {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == b.mnt {
			return true
		}
	}
	return false
}

// await polls until the directory is mounted, or not, as wanted. Deriving a
// key from a passphrase may take long.
func (b *base) await(ctx context.Context, want bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for b.mounted() != want {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: mounted %v, not %v: %w", b.name, !want, want, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

// force takes a mount away that was left behind.
func (b *base) force() {
	if b.mounted() {
		_ = unix.Unmount(b.mnt, unix.MNT_DETACH)
	}
	if b.mounted() { // not root
		_ = exec.Command("fusermount3", "-u", "-z", b.mnt).Run()
	}
}

// run executes a command, with its output in the error.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %.500s", filepath.Base(name), args[0], err, out)
	}
	return nil
}

// output is what a command writes to standard output.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %.500s", filepath.Base(name), args[0], err, stderr.String())
	}
	return out, nil
}

// SyncAll writes what waits to be written on the whole machine.
func SyncAll() { unix.Sync() }

// DropCaches empties the kernel's caches. False if only root could.
func DropCaches() bool {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) == nil
}

// native is the plain directory, without FUSE.
type native struct{ base }

func (n *native) Mount(context.Context) error   { return nil }
func (n *native) Unmount(context.Context) error { return n.Sync() }
func (n *native) Close() error                  { return nil }
func (n *native) Stored() (int64, error)        { return diskUse(n.mnt) }

func (n *native) Processes(context.Context) ([]int, error) {
	return nil, fmt.Errorf("%s: a process: %w", n.name, load.ErrNotOffered)
}
