package fstest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

// unmountPatience bounds an unmount at the end of a test; then it is forced.
const unmountPatience = 5 * time.Second

// Options of a mount. The zero value is a volume with the defaults, mounted by the default options.
type Options struct {
	BlockSize uint32     // of new files, in bytes; 0: the zone's default
	Codec     meta.Codec // of new files, at its default level; BlockSize must be one that may be compressed
	Inline    int        // largest inline file in bytes; 0: the default; negative: none
	Memory    bool       // metadata in memory instead of on the journalled store; it survives Remount
	Mount     fs.MountOptions
	// Config may change what the filesystem is made with, each time it is mounted.
	Config func(*fs.Config)
	// Under is where the volume and the mount point are made; empty: a temporary directory of the test's.
	Under string
}

// Mount is a mounted volume. It belongs to its test's goroutine, but for Dir.
type Mount struct {
	Dir    string // the mount point
	Volume string // the volume's directory

	Keyring *metatest.Keyring // of the volume, to be made fail
	Store   *meta.Store
	Content *content.Engine
	FS      *fs.FS
	Server  *fs.Server

	t       testing.TB
	opts    Options
	keys    *metatest.Volume
	journal *blockcrypt.Key
	objects *blockcrypt.Key
	backend backend
	down    []func() error // undoes what up did, last first
}

// NewMount makes a volume and mounts it. It skips the test, or fails it, as RequireMount says.
func NewMount(t testing.TB, o Options) *Mount {
	t.Helper()
	RequireMount(t)
	if o.Under == "" {
		o.Under = openTempDir(t)
	}
	m := &Mount{
		Dir: filepath.Join(o.Under, "mnt"), Volume: filepath.Join(o.Under, "volume"),
		t: t, opts: o, journal: newKey(t), objects: newKey(t),
	}
	for _, dir := range []string{m.Dir, filepath.Join(m.Volume, "objects")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(m.close)
	if err := m.format(); err != nil {
		t.Fatalf("fstest: %v", err)
	}
	m.Mount()
	return m
}

// Path returns a path below the mount point.
func (m *Mount) Path(elements ...string) string {
	return filepath.Join(append([]string{m.Dir}, elements...)...)
}

// openTempDir returns a temporary directory of the test's that other users may pass through.
func openTempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// SetMountOptions changes how the next Mount mounts.
func (m *Mount) SetMountOptions(o fs.MountOptions) { m.opts.Mount = o }

// Remount unmounts and closes everything, opens it again and mounts it: nothing but the volume's files is left over between.
func (m *Mount) Remount() {
	m.t.Helper()
	m.Unmount()
	m.Mount()
}

// Unmount unmounts and closes the volume.
func (m *Mount) Unmount() {
	m.t.Helper()
	if err := m.takeDown(); err != nil {
		m.t.Fatalf("fstest: unmount: %v", err)
	}
}

// Mount opens the volume and mounts it.
func (m *Mount) Mount() {
	m.t.Helper()
	if err := m.up(context.Background()); err != nil {
		m.t.Fatalf("fstest: mount: %v", errors.Join(err, m.takeDown()))
	}
}

// close is the cleanup of the test.
func (m *Mount) close() {
	if err := m.takeDown(); err != nil {
		m.t.Errorf("fstest: %v", err)
	}
	if m.backend != nil {
		if err := m.backend.destroy(); err != nil {
			m.t.Errorf("fstest: %v", err)
		}
	}
}

// takeDown undoes up, as far as that came.
func (m *Mount) takeDown() error {
	var errs []error
	for len(m.down) > 0 {
		last := len(m.down) - 1
		step := m.down[last]
		m.down = m.down[:last]
		errs = append(errs, step())
	}
	return errors.Join(errs...)
}

func (m *Mount) undo(step func() error) { m.down = append(m.down, step) }

// unmount unmounts, by force if need be: a test that left something open must not leave a mount. A mount that goes on because another process has a copy of
// it in a mount namespace of its own (tests that run beside this one do that) is none of the test's fault.
func (m *Mount) unmount() error {
	if err := syncMount(m.Dir); err != nil {
		m.t.Logf("fstest: sync: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), unmountPatience)
	defer cancel()
	err := m.Server.Unmount(ctx)
	if err == nil {
		return nil
	}
	var errs []error
	if errors.Is(err, fs.ErrBusy) {
		errs = append(errs, fmt.Errorf("forced: %w", err), m.Server.Detach())
	} else {
		m.t.Logf("fstest: %v; aborted", err)
	}
	errs = append(errs, m.Server.Abort())
	select {
	case <-m.Server.Done():
	case <-time.After(unmountPatience):
		stacks := make([]byte, 1<<20)
		errs = append(errs, fmt.Errorf("the server goes on after an abort; goroutines:\n%s", stacks[:runtime.Stack(stacks, true)]))
	}
	return errors.Join(errs...)
}

// syncMount writes back all dirty pages of the mount.
func syncMount(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(fd), unix.Close(fd))
}

func newKey(t testing.TB) *blockcrypt.Key {
	t.Helper()
	k, err := blockcrypt.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// testLog sends what the filesystem logs to the test's output.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}
