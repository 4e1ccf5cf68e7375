package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/superblock"
	"github.com/kmsfs/kmsfs/mount/transfer"
)

// TransferConfig says what Import and Export copy.
type TransferConfig struct {
	Source, Target string // directories; Target is made if it is not there
	Update         bool   // replace what is in the target and differs
	Shred          bool   // destroy the source, when the copy was found equal

	Progress func(transfer.Progress)    // nil: nobody wants to know
	Issue    func(transfer.Issue) error // nil: they are counted alone
}

// marks are directories that are never copied or written to: ciphertext and keys of whoever.
func marks() []transfer.Mark {
	return []transfer.Mark{
		{Names: []string{superblock.FileName, objectsName}, What: "a volume's own directory"},
		{Names: []string{"keystore.json", "db"}, What: "a key store"},
	}
}

// reserveForNames is what a file takes beside its contents, in bytes, for the question whether there is room.
const reserveForNames = 1 << 10

// Import copies a tree of plaintext files into a mounted volume, in the calling process and under its rights, and compares it afterwards: package
// transfer says how, and what an interrupted one leaves.
//
// Errors: ErrUsage, ErrNotMounted (of the target), those of transfer.Run.
func Import(ctx context.Context, cfg TransferConfig) (transfer.Summary, error) {
	made, err := makeTarget(cfg.Target)
	if err != nil {
		return transfer.Summary{}, err
	}
	point, err := volumeMountOf(cfg.Target)
	if err == nil {
		err = outside(cfg.Source)
	}
	if err == nil {
		err = probe(cfg.Target)
	}
	if err != nil {
		if made {
			_ = os.Remove(cfg.Target)
		}
		return transfer.Summary{}, err
	}
	root, err := sameFile(cfg.Target, point)
	if err != nil {
		return transfer.Summary{}, err
	}
	run := cfg.run()
	run.RootAttributes = !root
	run.Sync = func(context.Context) error { return syncMount(cfg.Target, point, run.SyncEach) }
	run.SyncEach = unix.Access(point, unix.R_OK) != nil
	return transfer.Run(ctx, run)
}

// Export copies a tree out of a mounted volume, as Import does into one. It is refused where Target lies in a volume's own directory or a key store.
//
// Errors: ErrUsage, ErrNotMounted (of the source), those of transfer.Run.
func Export(ctx context.Context, cfg TransferConfig) (transfer.Summary, error) {
	if cfg.Shred {
		return transfer.Summary{}, fmt.Errorf("%w: an export leaves the volume as it is", ErrUsage)
	}
	if _, err := volumeMountOf(cfg.Source); err != nil {
		return transfer.Summary{}, err
	}
	parent := filepath.Dir(filepath.Clean(cfg.Target))
	if err := outside(parent); err != nil {
		return transfer.Summary{}, err
	}
	made, err := makeTarget(cfg.Target)
	if err != nil {
		return transfer.Summary{}, err
	}
	if err = outside(cfg.Target); err == nil {
		err = probe(cfg.Target)
	}
	if err != nil {
		if made {
			_ = os.Remove(cfg.Target)
		}
		return transfer.Summary{}, err
	}
	run := cfg.run()
	run.RootAttributes = true
	run.Sync = func(context.Context) error { return syncFilesystem(cfg.Target) }
	return transfer.Run(ctx, run)
}

func (cfg *TransferConfig) run() transfer.Config {
	return transfer.Config{
		Source: cfg.Source, Target: cfg.Target, Update: cfg.Update, Shred: cfg.Shred, Marks: marks(), Progress: cfg.Progress, Issue: cfg.Issue,
		Ready: func(files, bytes uint64) error { return roomFor(cfg.Target, files, bytes) },
	}
}

// makeTarget makes a directory, for its owner alone, if it is not there.
func makeTarget(path string) (made bool, err error) {
	err = os.Mkdir(path, 0o700)
	if err == nil {
		return true, nil
	}
	st, serr := os.Stat(path)
	switch {
	case serr == nil && st.IsDir():
		return false, nil
	case serr == nil:
		return false, fmt.Errorf("%w: %s is not a directory", ErrUsage, path)
	}
	return false, err
}

// volumeMountOf returns where the volume is mounted that a path lies in. ErrNotMounted.
func volumeMountOf(path string) (string, error) {
	real, err := resolve(path)
	if err != nil {
		return "", err
	}
	table, err := mountTable()
	if err != nil {
		return "", err
	}
	m, ok := mountHolding(table, real)
	if !ok || m.Type != fsType {
		return "", advise(fmt.Errorf("%w: %s", ErrNotMounted, path), "mount the volume first, and name a directory in the mount")
	}
	return m.Point, nil
}

// outside refuses a directory that belongs to a volume or a key store.
func outside(path string) error {
	what, err := transfer.Inside(path, marks())
	if err != nil {
		return err
	}
	if what != "" {
		return advise(fmt.Errorf("%w: %s lies in %s", ErrUsage, path, what), "name a directory of plaintext files, or one in a mount")
	}
	return nil
}

func sameFile(a, b string) (bool, error) {
	x, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y), err
}

// probe makes a nameless file and writes to it: what stands against that is said before anything begins.
func probe(dir string) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) { // a filesystem without such files shows it later
		return nil
	}
	if err == nil {
		_, err = unix.Write(fd, []byte{0})
		err = errors.Join(err, unix.Close(fd))
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("make a file in %s: %w", dir, err)
	switch {
	case errors.Is(err, unix.EROFS):
		return advise(err, "it is mounted read-only")
	case errors.Is(err, unix.EACCES):
		return advise(err, "the directory's owner, mode or policy does not allow it; in a mount, kmsfs explain --last %s says which", dir)
	case errors.Is(err, unix.ENOKEY):
		return advise(err, "the key manager or its token does not answer; kmsfs keystore status says what is missing")
	case errors.Is(err, unix.EKEYREVOKED), errors.Is(err, unix.EKEYEXPIRED):
		return advise(err, "the directory's key is disabled or locked, or a grant is over: kmsfs info %s names the key", dir)
	}
	return err
}

// roomFor refuses what will not fit.
func roomFor(dir string, files, bytes uint64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("space of %s: %w", dir, err)
	}
	free, need := st.Bavail*uint64(st.Bsize), bytes+files*reserveForNames
	if need > free {
		return advise(fmt.Errorf("%s has %d MiB free, and %d files of %d MiB are to be copied: %w", dir, free>>20, files, need>>20, unix.ENOSPC),
			"make room, or copy a part; nothing was changed")
	}
	return nil
}

// syncMount makes a whole volume durable: what the kernel holds of it, then, by an fsync of its root, all that its daemon was given.
func syncMount(target, point string, filesAreSynced bool) error {
	if err := syncFilesystem(target); err != nil {
		return err
	}
	if filesAreSynced {
		point = target // names alone
	}
	root, err := os.Open(point)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.Sync()
}

func syncFilesystem(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}
